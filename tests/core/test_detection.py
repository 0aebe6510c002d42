import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference

from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern


@given(st.data())
def test_needed_nnz_is_the_least_that_covers(data):
    n, k = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 70))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    weight = rng.standard_normal((n, k)).astype(np.float32)
    weight[rng.random((n, k)) < data.draw(st.floats(0.3, 0.98))] = 0
    found = detect(weight)
    assert found.nonzeros == np.count_nonzero(weight)
    for block in range(2, k + 1):
        least = next(nnz for nnz in range(1, block + 1) if covers(weight, BalancedPattern(nnz, block)))
        assert found.covering(block).nnz == least
        encode(weight, found.covering(block)).validate()


def covers(weight, pattern):
    k = weight.shape[1]
    edges = range(0, k, pattern.block)
    return all(
        np.count_nonzero(weight[:, e : e + pattern.block], axis=1).max() <= pattern.kept(min(pattern.block, k - e)) for e in edges
    )


@pytest.mark.parametrize("text", ["2:16", "4:32", "8:64", "10:50", "7:25", "3:20", "1:8"])
def test_a_pruned_weight_has_the_pattern_it_was_pruned_to(text, rng):
    pattern = BalancedPattern.parse(text)
    found = detect(reference.balanced(50, pattern.block * 6, pattern, rng))
    assert found.pattern == pattern
    assert found.padding(pattern) == 0
    assert found.sparsity == pytest.approx(pattern.sparsity)


def test_unstructured_zeros_get_the_cheapest_cover_and_its_padding(rng):
    weight = rng.standard_normal((64, 512)).astype(np.float32)
    weight[rng.random(weight.shape) < 0.9] = 0
    found = detect(weight)
    best = min(found.stored(found.covering(b)) for b in range(2, 257))
    assert found.stored(found.pattern) == best
    assert found.padding(found.pattern) == pytest.approx(best / np.count_nonzero(weight) - 1)
    assert found.padding(found.pattern) > 0.2


def test_a_dense_weight_has_no_pattern(rng):
    found = detect(rng.standard_normal((8, 64)).astype(np.float32))
    assert found.pattern is None
    assert found.sparsity == 0
    assert found.covering(16) == BalancedPattern(16, 16)


def test_a_weight_of_zeros_has_one():
    found = detect(np.zeros((4, 64), np.float32))
    assert found.sparsity == 1
    assert found.covering(16).nnz == 1
