import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference

from tvm_balanced.core.encoding import EncodedWeight, check_finite, encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import WeightError

PATTERN = BalancedPattern(2, 16)


@given(st.data())
def test_decode_gives_back_what_encode_took(data):
    block = data.draw(st.integers(1, 40))
    pattern = BalancedPattern(data.draw(st.integers(1, block)), block)
    n, k = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 90))
    dtype = data.draw(st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    weight = reference.balanced(n, k, pattern, rng, dtype)
    weight[rng.random(weight.shape) < 0.2] = 0  # some blocks hold fewer than they may
    encoded = encode(weight, pattern)
    encoded.validate()
    assert encoded.values.dtype == weight.dtype
    assert encoded.indices.dtype == np.uint8
    assert encoded.shape == weight.shape
    np.testing.assert_array_equal(encoded.decode(), weight)


def test_unused_slots_hold_zero_and_the_last_valid_position():
    weight = np.zeros((1, 20), np.float32)
    weight[0, 3] = 5
    encoded = encode(weight, PATTERN)
    np.testing.assert_array_equal(encoded.values, [[[5, 0], [0, 0]]])
    np.testing.assert_array_equal(encoded.indices, [[[3, 15], [3, 3]]])  # the tail has 4 elements


def test_a_nonzero_at_the_last_position_survives_unused_slots():
    weight = np.zeros((1, 16), np.float32)
    weight[0, 15] = 7
    np.testing.assert_array_equal(encode(weight, PATTERN).decode(), weight)


def test_first_fault_is_named_by_row_and_block(rng):
    weight = reference.balanced(8, 64, PATTERN, rng)
    weight[5, 32:36] = 1
    with pytest.raises(WeightError, match="row 5, block 2 of the weight holds"):
        encode(weight, PATTERN)


def test_tail_may_not_hold_more_than_its_share():
    weight = np.zeros((1, 20), np.float32)
    weight[0, 16:18] = 1  # 4 of a tail of 4 elements keep ceil(2 * 4 / 16) = 1
    with pytest.raises(WeightError, match="row 0, block 1"):
        encode(weight, PATTERN)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    weight = np.zeros((3, 16), np.float32)
    weight[2, 4] = value
    with pytest.raises(WeightError, match=r"at \(2, 4\)"):
        encode(weight, PATTERN)
    with pytest.raises(WeightError):
        check_finite(weight)


def test_only_matrices_are_encoded():
    with pytest.raises(WeightError, match="is \\(N, K\\)"):
        encode(np.zeros(16, np.float32), PATTERN)


def changed(encoded, **arrays):
    return dataclasses.replace(encoded, **arrays)


def faults():
    rng = np.random.default_rng(0)
    good = encode(reference.balanced(4, 40, PATTERN, rng), PATTERN)

    def at(array, place, value):
        copy = array.copy()
        copy[place] = value
        return copy

    yield "past the end", changed(good, indices=at(good.indices, (1, 2, 0), 9)), "row 1, block 2"
    yield "descending", changed(good, indices=at(good.indices, (2, 1), (9, 3))), "row 2, block 1"
    yield "twice", changed(good, indices=at(good.indices, (3, 0), (4, 4))), "used twice"
    yield "not finite", changed(good, values=at(good.values, (0, 0, 0), np.nan)), "finite"
    yield "too many in the tail", EncodedWeight(*tail_overflow(good), PATTERN, 40), "more nonzeros"
    yield "shape", changed(good, values=good.values[:, :1]), "needs both"
    yield "dtype", changed(good, indices=good.indices.astype(np.int32)), "must be uint8"


def tail_overflow(good):
    values, indices = good.values.copy(), good.indices.copy()
    values[0, 2], indices[0, 2] = (1, 2), (0, 1)  # a tail of 8 keeps 1
    return values, indices


@pytest.mark.parametrize(("encoded", "message"), [f[1:] for f in faults()], ids=[f[0] for f in faults()])
def test_validate_names_the_fault(encoded, message):
    with pytest.raises(WeightError, match=message):
        encoded.validate()
