import math

import numpy as np
import pytest

from tvm_balanced.core.comparison import compare_outputs
from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.tolerance import EXACT, TOLERANCE, UNIT, Growth


def through(*steps):
    """The growth of a chain of operators, each (deviation, dtype)."""
    growth = EXACT
    for deviation, dtype in steps:
        growth = Growth(deviation, dtype, 1).after([growth])
    return growth


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_allowed_grows_with_depth_and_starts_no_looser_than_a_constant(dtype):
    unit = UNIT[dtype]
    allowed = [through(*[(unit, dtype)] * depth).tolerance for depth in (1, 2, 8, 100, 10_000)]
    assert allowed == sorted(allowed)
    assert allowed[0] <= TOLERANCE[dtype]
    assert through(*[(unit, dtype)] * 400).deviation == pytest.approx(20 * unit)
    deep = through(*[(unit, dtype)] * 90_000).tolerance  # in float32 what is allowed grows again from 44,000 on
    assert deep == pytest.approx(8 * 300 * unit)


def test_the_narrowest_dtype_on_the_way_counts_and_the_worst_operand():
    half = Growth(UNIT["bfloat16"], "bfloat16", 1)
    whole = Growth(UNIT["float32"], "float32", 3, True)
    both = Growth(UNIT["float32"], "float32", 1).after([half, whole])
    assert (both.dtype, both.operators, both.mixes) == ("bfloat16", 4, True)
    assert both.deviation == pytest.approx(math.hypot(UNIT["bfloat16"], UNIT["float32"]))
    assert both.tolerance == pytest.approx(min(TOLERANCE["bfloat16"], 64 * both.deviation))


def test_what_only_moves_values_must_be_exact():
    (same,) = compare_outputs([], [np.ones(3, np.float32)], [np.ones(3, np.float32)], growths=[EXACT])
    (other,) = compare_outputs([], [np.ones(3, np.float32)], [np.full(3, 1 + 1e-6, np.float32)], growths=[EXACT])
    assert (same.ok, other.ok) == (True, False)


def test_of_a_single_operator_every_value_counts_by_itself():
    """float16 tanh gave 0 for 1e-4, and the largest value of the output hid it."""
    x = np.array([2.0, 1e-3, 1e-4], np.float16)
    want = np.tanh(x.astype(np.float64)).astype(np.float16)
    growth, spec = Growth(UNIT["float16"], "float16", 1), [TensorSpec("y", (3,), "float16")]
    for wrong in (np.float16([want[0], want[1], 0]), np.float16([want[0], 9.775e-4, want[2]])):
        (found,) = compare_outputs(spec, [want], [wrong], growths=[growth])
        assert not found.ok
        assert compare_outputs(spec, [want], [wrong])[0].ok  # by the largest value alone
    (fine,) = compare_outputs(spec, [want], [np.nextafter(want, np.float16(1))], growths=[growth])
    assert fine.ok
    assert compare_outputs(spec, [want[:0]], [want[:0]], growths=[growth])[0].ok


def test_a_tolerance_that_is_given_is_what_it_was():
    growth, want = Growth(UNIT["float32"], "float32", 1), np.array([10.0, 0.0], np.float32)
    (found,) = compare_outputs([], [want], [want + np.float32(0.5)], tolerance=0.1, growths=[growth])
    assert (found.ok, found.allowed) == (True, 1.0)
