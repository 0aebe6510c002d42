from functools import reduce

import ml_dtypes
import numpy as np
import pytest
import torch
import tvm
from support import reference
from support.operators import function
from tvm import te, tirx, topi
from tvm.s_tir import dlight as dl
from tvm.script import tirx as T

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.testing import opencl
from tvm_balanced.transform.pipeline import gpu_remainder
from tvm_balanced.transform.schedule_remainder import schedule
from tvm_balanced.transform.workarounds.propagate_nan import PropagateNaN

DTYPES = ("float32", "float16", "bfloat16", "float64")
CASES = {
    "maximum": (lambda x, y: topi.maximum(x, y), torch.maximum),
    "minimum of steps": (
        lambda x, y: topi.minimum(topi.maximum(topi.add(x, y), y), topi.multiply(x, y)),
        lambda x, y: torch.minimum(torch.maximum(x + y, y), x * y),
    ),
    "maximum in float32": (
        lambda x, y: topi.cast(topi.maximum(topi.multiply(topi.cast(x, "float32"), 0.5), topi.cast(y, "float32")), x.dtype),
        lambda x, y: torch.maximum(x * 0.5, y),
    ),
    "chain of maxima": (  # the simplifier of TVM visits what is read three times three times
        lambda x, y: reduce(topi.maximum, [topi.multiply(x, tirx.const(i, x.dtype)) for i in range(1, 24)], topi.add(x, y)),
        lambda x, y: reduce(torch.maximum, [x * i for i in range(1, 24)], x + y),
    ),
    "clip": (lambda x, y: topi.clip(topi.add(x, y), -1.0, 1.0), lambda x, y: (x + y).clamp(-1, 1)),
    "maximum of rows": (lambda x, y: topi.max(x, -1), lambda x, y: x.amax(-1)),
    "minimum of columns": (lambda x, y: topi.min(x, 0), lambda x, y: x.amin(0)),
    "sum of what is more than the maximum": (
        lambda x, y: topi.sum(topi.subtract(topi.max(x, -1, True), x), -1),
        lambda x, y: (x.amax(-1, True) - x).sum(-1),
    ),
    "unequal": (lambda x, y: topi.not_equal(x, y), lambda x, y: x != y),
}


def placed(x, y):
    """NaN and infinities in both, in one, and in none of two matrices; a row of -inf."""
    x[0, ::3], y[0, ::5], x[1, 7], x[2, 9], y[2, 9] = np.nan, np.nan, np.inf, -np.inf, np.inf
    x[3], y[1, :9] = -np.inf, x[1, :9]
    return x, y


@pytest.mark.grid
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_results_are_torchs(case, dtype, rng):
    make, expected = CASES[case]
    inputs = [te.placeholder((6, 64), dtype, name=name) for name in "xy"]
    func = te.create_prim_func([*inputs, make(*inputs)], index_dtype_override="int64")
    func = schedule(func, host_target()) or func
    library = tvm.compile(PropagateNaN()(tvm.IRModule({"main": func.with_attr("global_symbol", "main")})), host_target())
    numpy = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    x, y = (a.astype(numpy) for a in placed(*(rng.standard_normal((6, 64)) for _ in range(2))))
    want = expected(*(torch.from_numpy(a.astype(np.float64)) for a in (x, y))).numpy()
    got = tvm.runtime.tensor(np.zeros(want.shape, numpy if want.dtype.kind == "f" else want.dtype))
    library["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(y), got)
    np.testing.assert_allclose(got.numpy().astype(np.float64), want.astype(np.float64), rtol=2e-2, atol=5e-2)


def test_what_needs_no_comparison_gets_none():
    """Constants stand first; integers stay."""
    script = PropagateNaN()(tvm.IRModule({"main": function(lambda x: topi.clip(x, -1.0, 1.0), (4,))[0]})).script()
    assert "T.max(T.float32(-1.0), T.min(T.float32(1.0), " in script
    assert "Select" not in script
    x = te.placeholder((4,), "int32", name="x")
    before = tvm.IRModule({"main": te.create_prim_func([x, topi.maximum(topi.max(x), x)])})
    tvm.ir.assert_structural_equal(PropagateNaN()(before), before)


@T.prim_func(s_tir=True)
def larger(x: T.Buffer((2,), "float32"), y: T.Buffer((2,), "float32")):
    y[0] = T.max(x[0], x[1])
    y[1] = T.Select(x[0] != x[0], T.float32(1), T.float32(0))


def test_plain_tvm_loses_nan():
    y = tvm.runtime.tensor(np.zeros(2, np.float32))
    x = tvm.runtime.tensor(np.array([np.nan, 1], np.float32))
    tvm.compile(tvm.IRModule({"main": larger}), host_target())["main"](x, y)
    assert y.numpy().tolist() == [1, 0]
    tvm.compile(PropagateNaN()(tvm.IRModule({"main": larger})), host_target())["main"](x, y)
    assert np.isnan(y.numpy()[0])
    assert y.numpy()[1] == 1


def on_gpu(case, dtype):
    """The TensorIR of a case, scheduled for a GPU."""
    inputs = [te.placeholder((6, 64), dtype, name=name) for name in "xy"]
    func = te.create_prim_func([*inputs, CASES[case][0](*inputs)], index_dtype_override="int64")
    with opencl.target():
        return tvm.transform.Sequential(gpu_remainder())(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))["main"]


@pytest.mark.pocl
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", ["maximum", "minimum of steps", "clip", "maximum of rows", "minimum of columns"])
def test_results_on_a_gpu_are_torchs(case, dtype, rng):
    numpy = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    x, y = (a.astype(numpy) for a in placed(*(rng.standard_normal((6, 64)) for _ in range(2))))
    want = CASES[case][1](*(torch.from_numpy(a.astype(np.float64)) for a in (x, y))).numpy()
    got = opencl.run(on_gpu(case, dtype), [x, y, np.zeros(want.shape, numpy)])
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=2e-2, atol=5e-2)


@pytest.mark.nvcc
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_softmax_of_many_threads_is_left(dtype):
    """Its threads share a maximum, which TVM must recognise."""
    x = te.placeholder((6, 512), dtype, name="x")
    func = te.create_prim_func([x, topi.nn.softmax(x)], index_dtype_override="int64").with_attr("global_symbol", "main")
    with opencl.target():
        mod = tvm.transform.Sequential(gpu_remainder())(tvm.IRModule({"main": func}))
    assert cuda_source(mod["main"], "sm_90")


@pytest.mark.pocl
@pytest.mark.parametrize(("kernel", "activation"), [("cuda_gemv", "relu"), ("cuda_gemv", "gelu"), ("cuda_decode_mma", "relu")])
def test_our_own_kernels_on_a_gpu_propagate_nan(kernel, activation, rng):
    dtype = "float32" if kernel == "cuda_gemv" else "bfloat16"
    workload = Workload(kernel, 2, 32, 64, 2, 16, dtype, activation)
    weight, x = reference.balanced(32, 64, workload.pattern, rng), rng.standard_normal((2, 64)).astype("float32")
    bias = np.zeros(32, "float32")
    bias[[3, 17]] = np.nan
    func = KERNELS[kernel].schedule_tiles(KERNELS[kernel].prim_func(workload), workload, opencl.target())
    func = PropagateNaN(gpu=True)(tvm.IRModule({"main": func}))["main"]
    y = opencl.run(func, reference.gpu_arguments(workload, weight, x, bias))
    assert sorted(set(np.argwhere(np.isnan(y.astype("float32")))[:, 1])) == [3, 17]


@pytest.mark.nvcc
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_compiles_for_a_gpu(dtype):
    """An infinite bfloat16 is a name that nvcc does not know, see BitcastNaN."""
    for case in ("minimum of steps", "maximum of rows"):
        assert nvcc.resources(cuda_source(on_gpu(case, dtype), "sm_90"), "sm_90")


@pytest.mark.pocl
def test_plain_tvm_loses_nan_on_a_gpu():
    x = np.array([[np.nan, 1]] * 6, np.float32).repeat(32, 1)
    func = te.create_prim_func([a := te.placeholder((6, 64), "float32"), topi.nn.relu(a)], index_dtype_override="int64")
    with opencl.target():
        mod = dl.ApplyDefaultSchedule(dl.gpu.Fallback())(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))
    assert not np.isnan(opencl.run(mod["main"], [x, np.zeros_like(x)])).any()
