"""The rules for TVM's own operators: each applies to its operators, and changes no result."""

import re

import numpy as np
import pytest
import tvm
import tvm_ffi
from support.operators import function, run
from tvm import topi
from tvm.ir.expr import TensorLoad

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import RULES
from tvm_balanced.schedules.base.expressions import divisor
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.transform.approximate_math import ApproximateMath
from tvm_balanced.transform.legalize_rows import softmax_last
from tvm_balanced.transform.schedule_remainder import schedule

CASES = {
    "cpu_elementwise add": function(lambda a, b: topi.add(a, b), (4, 100, 96), (96,)),
    "cpu_elementwise chain": function(lambda a: topi.multiply(topi.exp(a), 2.0), (7, 33)),
    "cpu_elementwise transpose": function(lambda a: topi.transpose(a, (0, 2, 1, 3)), (2, 64, 12, 32)),
    "cpu_elementwise scalar": function(lambda a: topi.sqrt(topi.abs(a)), (1,)),
    "cpu_transpose K of attention": function(
        lambda a: topi.transpose(topi.reshape(a, (2, 128, 12, 32)), (0, 2, 3, 1)), (256, 384)
    ),
    "cpu_transpose squares": function(lambda a: topi.transpose(a, (0, 2, 1)), (3, 64, 160)),
    "cpu_transpose matrix": function(lambda a: topi.transpose(a), (100, 36)),
    "cpu_transpose chain": function(lambda a, b: topi.add(topi.exp(topi.transpose(a)), b), (48, 160), (160, 48)),
    "cpu_matmul attention": function(lambda a, b: topi.nn.batch_matmul(a, b, transpose_b=False), (12, 64, 32), (12, 32, 64)),
    "cpu_matmul odd": function(lambda a, b: topi.nn.batch_matmul(a, b, transpose_b=False), (3, 7, 5), (3, 5, 36)),
    "cpu_matmul scaled": function(
        lambda a, b: topi.add(topi.nn.batch_matmul(topi.multiply(a, 0.5), b, transpose_b=False), 1.0), (2, 24, 16), (2, 16, 48)
    ),
    "cpu_rowwise softmax": function(lambda a: topi.nn.softmax(a, -1), (4, 9, 128)),
    "cpu_rowwise softmax odd": function(lambda a: topi.nn.softmax(a, -1), (5, 37)),
    "cpu_rowwise softmax by a reciprocal": function(softmax_last, (1, 4, 9, 128)),
    "cpu_rowwise mean": function(lambda a: topi.divide(topi.sum(a, -1), 64.0), (2, 8, 64)),
    "cpu_rowwise mean, dimension kept": function(lambda a: topi.exp(topi.sum(a, -1, True)), (300, 64)),
    "cpu_rowwise root of a sum": function(lambda a: topi.sqrt(topi.sum(topi.multiply(a, a), -1)), (5, 96)),
    "cpu_rowwise sum": function(lambda a: topi.sum(topi.multiply(a, a), -1), (70, 96)),
    "cpu_rowwise largest, dimension kept": function(lambda a: topi.max(a, -1, True), (3, 1030)),
    "cpu_rowwise layer norm": function(lambda a, g, b: topi.nn.layer_norm(a, g, b, [2], 1e-5), (2, 30, 384), (384,), (384,)),
    "cpu_rowwise softmax of long rows": function(softmax_last, (3, 1024)),
    "cpu_pooling maximum": function(
        lambda a: topi.nn.pool2d(a, [3, 3], [2, 2], [1, 1], [1, 1, 1, 1], "max", layout="NCHW"), (2, 8, 33, 32)
    ),
    "cpu_pooling mean": function(
        lambda a: topi.nn.pool2d(a, [2, 2], [2, 2], [1, 1], [0, 0, 0, 0], "avg", layout="NCHW"), (1, 16, 16, 48)
    ),
    "cpu_pooling mean with padding": function(
        lambda a: topi.nn.pool2d(a, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1], "avg", layout="NCHW"), (1, 3, 9, 11)
    ),
    "cpu_pooling one dimension": function(lambda a: topi.nn.pool1d(a, [3], [2], [1], [1, 1], "max", layout="NCW"), (2, 8, 64)),
    "cpu_pooling three dimensions": function(
        lambda a: topi.nn.pool3d(a, [2, 2, 2], [2, 2, 2], [1, 1, 1], [0] * 6, "max", layout="NCDHW"), (1, 4, 6, 8, 8)
    ),
    "cpu_columnwise mean of tokens": function(lambda a: topi.divide(topi.sum(a, 1), 30.0), (2, 30, 384)),
    "cpu_columnwise weighted sum": function(lambda a, b: topi.sum(topi.multiply(a, b), 1, True), (3, 7, 64), (3, 7, 1)),
    "cpu_columnwise sum over channels": function(lambda a: topi.sum(a, 1), (2, 5, 12, 12)),
    "cpu_columnwise sum between rows": function(lambda a: topi.sum(a, 1), (4, 5, 12, 32)),
    "cpu_columnwise maximum over two axes": function(lambda a: topi.max(a, (0, 2)), (3, 5, 7, 96)),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", CASES)
def test_scheduled_function_computes_the_same(case, rng):
    func, shapes = CASES[case]
    rule = next(rule for rule in RULES if rule.name == case.split()[0])
    scheduled = rule.schedule(func, host_target())
    assert scheduled is not None
    tvm.ir.assert_structural_equal(rule.apply(func, host_target(), False).mod["main"], scheduled)
    out = [int(d) for d in func.params[-1].ty.shape]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    want, got = (run(f, arrays, out) for f in (func, scheduled))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["cpu_matmul", "cpu_elementwise", "cpu_columnwise"])
def test_what_is_read_more_than_once_is_computed_once(rule, rng):
    """Polynomials that a consumer reads twice would be inlined twice, with their variable; a chain of products would grow
    exponentially."""

    def chain(y):
        for _ in range(4):
            power = topi.exp(topi.negative(topi.abs(y)))
            y = topi.where(topi.greater(power, 0.5), topi.multiply(y, power), topi.subtract(power, topi.multiply(y, y)))
        return y

    make = {
        "cpu_matmul": lambda a, b: chain(topi.nn.batch_matmul(a, b, transpose_b=False)),
        "cpu_elementwise": lambda a, b: chain(topi.multiply(a, topi.transpose(b, (0, 2, 1)))),
        "cpu_columnwise": lambda a, b: topi.sum(chain(topi.multiply(a, topi.transpose(b, (0, 2, 1)))), 1),
    }[rule]
    func, shapes = function(make, (2, 6, 32), (2, 32, 32) if rule == "cpu_matmul" else (2, 32, 6))
    with host_target():
        approximated = ApproximateMath()(tvm.IRModule({"main": func}))["main"]
    scheduled = next(r for r in RULES if r.name == rule).schedule(approximated, host_target())
    tvm.s_tir.Schedule(scheduled)  # refuses what is ill-formed
    loads = []
    tvm_ffi.structural_walk(scheduled.body, (TensorLoad, loads.append))
    assert len(loads) < 200
    arrays = [rng.uniform(-0.3, 0.3, shape).astype(np.float32) for shape in shapes]
    out = [int(d) for d in func.params[-1].ty.shape]
    np.testing.assert_allclose(run(scheduled, arrays, out), run(func, arrays, out), rtol=1e-4, atol=1e-5)


@pytest.mark.grid
@pytest.mark.parametrize(
    "case",
    [
        "cpu_matmul attention",
        "cpu_rowwise softmax",
        "cpu_rowwise layer norm",
        "cpu_elementwise add",
        "cpu_elementwise transpose",
        "cpu_columnwise mean of tokens",
    ],
)
def test_each_function_goes_to_the_rule_that_is_for_it(case):
    func, _ = CASES[case]
    takers = [rule.name for rule in RULES if rule.schedule(func, host_target()) is not None]
    assert takers[0] == case.split()[0]
    assert len(takers) == 1 or takers == ["cpu_columnwise", "cpu_rowwise"]  # the latter takes any axis, value by value


def test_a_transpose_with_arithmetic_works_in_tiles():
    """Sixteen rows of the input become a vector of the output before the next column: no line of
    the input is read twice.
    """
    func, _ = function(lambda a: topi.exp(topi.transpose(topi.reshape(a, (2, 128, 12, 32)), (0, 2, 3, 1))), (256, 384))
    script, width = schedule(func, host_target()).script(), lanes(host_target())
    loops = re.findall(r"for [\w, ]+ in ([\w.]+)\((.*)\):", script.replace("T.int64", ""))
    assert loops == [("T.parallel", f"({2 * 12 * 128 // width})"), ("T.grid", "(2), (16)"), ("T.vectorized", f"({width})")]


@pytest.mark.parametrize("case", ["cpu_transpose squares", "cpu_transpose K of attention"])
def test_a_transpose_works_in_squares(case):
    script = schedule(CASES[case][0], host_target()).script()
    assert script.count("T.Shuffle(") >= lanes(host_target())
    assert "T.parallel" in script


@pytest.mark.parametrize("case", ["cpu_rowwise softmax by a reciprocal", "cpu_rowwise layer norm"])
def test_reductions_along_a_row_are_kept_in_vectors(case):
    """If elements were added one by one, each would wait for the sum of those before it."""
    script, width = schedule(CASES[case][0], host_target()).script(), lanes(host_target())
    *updates, _ = script.split("_update")
    found = [int(re.findall(r"T\.vectorized\(T\.int64\((\d+)\)\)", part)[-1]) for part in updates]
    assert found == [width, width, 4] * 2


def test_a_reduction_over_rows_keeps_vectors_of_columns():
    script = schedule(CASES["cpu_columnwise mean of tokens"][0], host_target()).script()
    part = script.split("_update")[0]
    assert re.findall(r"T\.vectorized\(T\.int64\((\d+)\)\)", part)[-1] == str(lanes(host_target()))


@pytest.mark.parametrize(
    "make",
    [lambda a: topi.nn.softmax(a, 1), lambda a: topi.subtract(a, topi.sum(a, 1, True))],
    ids=["softmax", "difference"],
)
def test_a_reduction_over_another_axis_is_not_computed_for_each_row(make):
    """81 ms where 0.4 do, for 8x250x250 less its mean over tokens."""
    assert schedule(function(make, (3, 50, 50))[0], host_target()) is None


@pytest.mark.parametrize("case", ["cpu_rowwise sum", "cpu_columnwise sum over channels"])
def test_a_reduction_at_the_end_and_one_of_pixels_are_kept_in_vectors(case):
    script, width = schedule(CASES[case][0], host_target()).script(), lanes(host_target())
    part = script.split("_update")[0]
    assert re.findall(r"T\.vectorized\(T\.int64\((\d+)\)\)", part)[-1] == str(width)


def test_large_functions_use_threads_and_small_ones_do_not():
    large, small = CASES["cpu_elementwise add"][0], CASES["cpu_elementwise chain"][0]
    assert "T.parallel" in schedule(large, host_target()).script()
    assert "T.parallel" not in schedule(small, host_target()).script()


def test_what_no_rule_takes_is_left_alone():
    func, _ = function(lambda a: topi.sum(a, 0), (64, 7))  # a width that no vector divides
    assert schedule(func, host_target()) is None


@pytest.mark.grid
@pytest.mark.parametrize("model_output", ["mean", "var", "argmax", "sum"])
def test_reductions_of_whole_models(model_output):
    import torch

    import tvm_balanced as tb

    class Model(torch.nn.Module):
        def forward(self, x):
            return getattr(x, model_output)(dim=-1)

    for shape in ((4, 64), (2, 8, 64), (600, 40)):
        x = torch.randn(shape)
        torch.testing.assert_close(tb.compile(Model(), (x,))(x), Model()(x), rtol=1e-4, atol=1e-5)


def test_booleans_are_counted():
    """LLVM has vectors of them in bytes, where they are read, and in bits, where they are computed."""
    import torch

    import tvm_balanced as tb

    class Model(torch.nn.Module):
        def forward(self, mask, x):
            return (mask & (x > 0)).sum(-1), (mask | (x[:, None] > x[None])).all(-1)

    args = torch.rand(3, 10) > 0.5, torch.randn(3, 10)
    assert all(map(torch.equal, tb.compile(Model(), args)(*args), Model()(*args)))


def test_single_values_do_not_stop_a_compilation():
    import torch

    import tvm_balanced as tb

    class Model(torch.nn.Module):
        def forward(self, x, scalar):
            return torch.exp(x.sum()) / 1e9 + scalar * 2

    args = (torch.randn(3, 4), torch.tensor(2.0))
    torch.testing.assert_close(tb.compile(Model(), args)(*args), Model()(*args), rtol=1e-5, atol=1e-5)


def test_divisor():
    assert [divisor(n, 8) for n in (1, 7, 12, 13, 64)] == [1, 7, 6, 1, 8]
