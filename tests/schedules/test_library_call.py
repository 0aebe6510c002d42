"""Dense layers that ask a library first, on the CPU: the same TensorIR as on a GPU, with torch as the library."""

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from support import reference

from tvm_balanced.api import import_model
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.runtime.cuda import cubins, torch_dense
from tvm_balanced.schedules import KERNELS, Workload, library_call, multi_kernel
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.transform.pipeline import lower

DENSE = KERNELS["cuda_dense"]
HOST = tvm.target.Target("llvm")


@pytest.fixture
def asked(monkeypatch):
    """What the library was asked, which computes with torch unless the test turns it off."""
    calls = []

    def compute(*given):
        calls.append(given)
        return torch_dense.dense(*given)

    tvm_ffi.register_global_func(torch_dense.FUNCTION, compute, override=True)
    yield calls
    torch_dense.register()


def run(func, arrays):
    aligned = [tvm.runtime.tensor(array) for array in arrays]
    tvm.compile(func.with_attr("global_symbol", "main"), HOST)["main"](*aligned)
    return aligned[-1].numpy()


@pytest.mark.parametrize("m", [4, None])
@pytest.mark.parametrize("library", [True, False])
def test_library_and_kernel_agree(m, library, rng, asked, monkeypatch):
    if not library:
        monkeypatch.setenv(torch_dense.SWITCH, torch_dense.OWN)
    workload = Workload(DENSE.name, m, 24, 40, 1, 1, "float32", "relu", residual=True)
    weight, bias = rng.standard_normal((24, 40)).astype("float32"), rng.standard_normal(24).astype("float32")
    x, residual = rng.standard_normal((4, 40)).astype("float32"), rng.standard_normal((4, 24)).astype("float32")
    func = library_call.prefer_library(DENSE.prim_func(workload), DENSE, workload, HOST)
    y = run(func, reference.gpu_arguments(workload, weight, x, bias, residual))
    assert reference.relative_error(y, reference.dense(x, weight, bias, "relu", residual)) < 1e-6
    assert [call[:7] for call in asked] == [("llvm", "float32", "relu", 4, 24, 40, 40)]


def test_the_kernel_does_not_run_where_the_library_has_written(rng, asked, monkeypatch):
    """Else it would overwrite what the library wrote, in twice the time."""
    monkeypatch.setattr(torch_dense, "dense", lambda *_: 1)
    workload = Workload(DENSE.name, 2, 8, 8, 1, 1)
    x, weight = rng.standard_normal((2, 8)).astype("float32"), rng.standard_normal((8, 8)).astype("float32")
    func = library_call.prefer_library(DENSE.prim_func(workload), DENSE, workload, HOST)
    assert np.isnan(run(func, reference.gpu_arguments(workload, weight, x))).all()


def test_only_dense_layers_that_lie_in_rows_ask():
    for name, nnz in (("cuda_gemv", 2), ("cpu_dense", 1)):
        workload = Workload(name, 1, 32, 64, nnz, 16 if nnz > 1 else 1)
        func = KERNELS[name].prim_func(workload)
        assert library_call.prefer_library(func, KERNELS[name], workload, HOST) is func


@pytest.mark.parametrize("name", ["cuda_dense_mma", "cuda_dense"])
def test_the_packed_weight_is_what_a_library_reads(name, rng):
    kernel, weight, bias = (
        KERNELS[name],
        rng.standard_normal((33, 70)).astype("float16"),
        rng.standard_normal(33).astype("float16"),
    )
    stride = kernel.row_stride(Workload(name, 1, 33, 70, 1, 1, "float16"))
    rows = kernel.pack(weight)[0].reshape(-1).view("float16").reshape(-1, stride)
    np.testing.assert_array_equal(rows[:33, :70], weight)
    assert not rows[33:].any()
    assert not rows[:, 70:].any()
    np.testing.assert_array_equal(kernel.pack_bias(bias).reshape(-1)[:33], bias)


def test_every_range_of_rows_of_a_gpu_asks():
    """A sparse kernel for few rows, and dense for many: in the host's code the dense one asks before it launches its own."""
    target = cuda_target("h200")
    sparse = Variant(Workload("cuda_gemv", None, 64, 128, 2, 16, "float16"), RowRange(1, 8))
    dense = Variant(Workload("cuda_dense_mma", None, 64, 128, 1, 1, "float16"), RowRange(9, None))
    func = multi_kernel.prim_func((sparse, dense))
    with target:
        scheduled = multi_kernel.schedule(func, target, library=True)
        alone = multi_kernel.schedule(func, target)
    tiles = len([tile for tile in KERNELS["cuda_dense_mma"].small_tiles if tile[1] >= 9]) + 1
    assert scheduled.script().count(torch_dense.FUNCTION) == tiles
    assert torch_dense.FUNCTION not in alone.script()
    with target:
        built = tvm.compile(scheduled.with_attr("global_symbol", "main"), target)
    assert "mma.sync" in cubins.sources(built)[0]


def test_compiled_code_and_the_runtime_mean_the_same_function():
    assert library_call.FUNCTION == torch_dense.FUNCTION


def test_a_compiled_module_asks_and_tvms_own_compiler_does_not():
    """`relax_pipeline="tvm_balanced"` makes a library that nobody of this package is there to answer."""
    torch.manual_seed(0)
    imported = import_model(torch.nn.Linear(64, 32).half().eval(), (torch.zeros(2, 64).half(),))
    for lift, count in ((True, 1), (False, 0)):
        assert lower(imported.mod, cuda_target("h200"), lift=lift).mod.script().count(torch_dense.FUNCTION) == count
