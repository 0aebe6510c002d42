import numpy as np
import pytest

from tvm_balanced.schedules.layouts.rounded_weight import round_weight


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 4)])
def test_rows_are_multiples_of_their_own_step(shape, rng):
    weight = rng.standard_normal(shape).astype(np.float32) * 10.0 ** np.arange(5).reshape(5, *[1] * (len(shape) - 1))
    weight = weight.astype(np.float32)
    weight[2] = 0
    numbers, scales, totals = round_weight(weight)
    rows, flat = numbers.reshape(5, -1), weight.reshape(5, -1)
    assert (numbers.dtype, scales.dtype, totals.dtype) == (np.int8, np.float32, np.int32)
    assert (np.abs(rows).max(axis=1) == [127, 127, 0, 127, 127]).all()
    assert (np.abs(rows * scales[:, None].astype(float) - flat) <= 0.501 * scales[:, None]).all()
    np.testing.assert_array_equal(totals, rows.sum(axis=1))


def test_a_row_on_a_grid_keeps_its_step(rng):
    """Scales of quantisation-aware training are used as they are, however far the numbers reach, and with zeros pruned."""
    numbers = rng.integers(-100, 101, (6, 40)) * (rng.random((6, 40)) < 0.5)
    numbers[:, :2] = 37, 8  # coprime: no larger step fits
    numbers[0, 5], numbers[1, 5], numbers[2] = -128, 127, 0
    scales = rng.uniform(1e-3, 1, 6).astype(np.float32)
    weight = numbers.astype(np.float32) * scales[:, None]
    weight[5, 7] += scales[5] / 3  # not on it
    kept, found, totals = round_weight(weight)
    np.testing.assert_array_equal(kept[:5], numbers[:5])
    np.testing.assert_allclose(found[[0, 1, 3, 4]], scales[[0, 1, 3, 4]], rtol=1e-6)
    np.testing.assert_array_equal(totals, kept.sum(axis=1))
    assert found[2] == 0
    assert abs(kept[5]).max() == 127
