import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.tir import activations
from tvm_balanced.transform.approximate_math import ApproximateMath


def unary(function, dtype="float32"):
    x = te.placeholder((64,), dtype, name="x")
    return tvm.IRModule({"main": te.create_prim_func([x, function(x)], index_dtype_override="int64")})


def bound_once(function, value):
    x = tirx.Var("x", "float32")
    return tirx.Let(x, value, function(x))


@pytest.mark.parametrize("name", ["exp", "erf", "tanh", "sigmoid"])
def test_function_is_replaced_and_agrees(name, rng):
    before = unary(getattr(topi, name))
    after = ApproximateMath()(before)
    expected = unary(lambda x: te.compute(x.shape, lambda *i: bound_once(getattr(activations, name), x(*i)), name="compute"))
    tvm.ir.assert_structural_equal(after, expected)
    x = rng.standard_normal(64).astype(np.float32)
    results = []
    for mod in (before, after):
        y = tvm.runtime.tensor(np.zeros(64, np.float32))
        tvm.compile(mod, host_target())["main"](tvm.runtime.tensor(x), y)
        results.append(y.numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=2e-6, atol=1e-6)


@pytest.mark.slow
def test_chains_do_not_grow_exponentially():
    """Each polynomial reads its argument twenty times: four in a row, inlined, were 160000 copies."""
    import time

    import torch

    import tvm_balanced as tb

    class Model(torch.nn.Module):
        def forward(self, x):
            for _ in range(4):
                x = torch.sigmoid(torch.tanh(x))
            return x

    x = torch.randn(64, 64)
    start = time.process_time()
    module = tb.compile(Model(), (x,))
    assert time.process_time() - start < 20  # seconds of the CPU: what else runs does not count
    torch.testing.assert_close(module(x), Model()(x), rtol=1e-5, atol=1e-6)


def test_other_dtypes_stay_exact():
    before = unary(topi.exp, "float64")
    tvm.ir.assert_structural_equal(ApproximateMath()(before), before)


def test_our_kernels_are_left():
    mod = tvm.IRModule({"main": KERNELS["cpu_portable"].prim_func(Workload("cpu_portable", 4, 32, 64, 2, 16, activation="gelu"))})
    tvm.ir.assert_structural_equal(ApproximateMath()(mod), mod)


def test_functions_that_round_to_bfloat16_stay():
    """A value that is rounded to bfloat16 stands there twice: with a polynomial in it, vectorized, the result was wrong."""
    before = unary(lambda x: topi.cast(topi.sigmoid(topi.cast(x, "float32")), "bfloat16"), "bfloat16")
    tvm.ir.assert_structural_equal(ApproximateMath()(before), before)
