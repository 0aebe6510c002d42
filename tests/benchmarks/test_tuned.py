"""benchmarks.tuned: the layers that are drawn, and the interval of the mean."""

import numpy as np
import pytest

from benchmarks.tuned import COLUMNS, LARGEST, Layer, layers, mean_and_interval


def test_layers_are_odd_and_drawn_again_alike():
    drawn = layers(16, 0)
    assert drawn == layers(16, 0) != layers(16, 1)
    assert len(set(drawn)) == 16
    assert {layer.threads for layer in drawn} == {1, 2}
    for layer in drawn:
        assert all(256 <= size <= 8192 and size & (size - 1) for size in (layer.n, layer.k))
        assert 1 <= layer.m <= 512
        assert layer.n * layer.k <= LARGEST
    assert set(Layer.__dataclass_fields__) < set(COLUMNS)


def test_the_mean_is_geometric_and_within_its_interval():
    mean, low, high = mean_and_interval([1.0, 1.0, 4.0, 1.0])
    assert mean == pytest.approx(np.sqrt(2))
    assert 1 <= low < mean < high <= 4
