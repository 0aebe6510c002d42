"""The release is fetched by python -m benchmarks.study.beside_llmcompressor; without it there is nothing to compare with."""

import pytest

from benchmarks.study import beside_llmcompressor as beside

there = pytest.mark.skipif(not (beside.FOLDER / beside.PLACE).is_dir(), reason="llmcompressor is not in build/llmcompressor")


@there
@pytest.mark.parametrize("pattern", ["2:4", "4:16"])
@pytest.mark.parametrize("method", ["sparsegpt", "wanda"])
def test_both_prune_alike(method, pattern):
    agreement = beside.compare("random", method, *beside.random_layer(64, 128), pattern)
    assert agreement.masks == 1  # no two scores are so close that rounding decides
    assert agreement.difference < 1e-4


@there
def test_another_damping_is_seen(monkeypatch):
    monkeypatch.setattr(beside, "DAMPING", 0.5)
    assert beside.compare("random", "sparsegpt", *beside.random_layer(64, 128), "2:4").difference > 1e-3
