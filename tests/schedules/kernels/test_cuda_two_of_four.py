"""The verdict, the layout and the question to the library; what the library computes is in test_torch_two_of_four.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from support import built_once, reference

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.compiler.targets import cuda_target, parse_target
from tvm_balanced.core import library_functions
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.cuda import libraries, torch_two_of_four
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS, library_call
from tvm_balanced.selection.rooflines import machine
from tvm_balanced.transform.pipeline import lower

H200 = cuda_target("h200")
KERNEL, DENSE = KERNELS["cuda_two_of_four"], KERNELS["cuda_dense_mma"]
PATTERN = BalancedPattern(2, 4)


@pytest.fixture
def cusparselt(monkeypatch):
    monkeypatch.setattr(torch_two_of_four, "has_cusparselt", lambda _: True)


def weight_of(rng, n=32, k=64, dtype="float16"):
    weight = rng.standard_normal((n, k)).astype(dtype)
    weight.reshape(-1, 4)[:, [0, 3]] = 0
    return weight


def test_it_is_for_torch_with_cusparselt_alone(cusparselt, monkeypatch):
    assert KERNEL.refuses(H200, 32, 64, "float16") is None
    assert KERNEL.refuses(H200, 24, 64, "float16") == "N is no multiple of 16, or K of 64"
    assert KERNEL.refuses(H200, 32, 96, "float16") == "N is no multiple of 16, or K of 64"
    assert KERNEL.refuses(H200, 32, 64, "float32") == "it does not compute float32"
    assert KERNEL.refuses(parse_target("cpu/znver4"), 32, 64, "float16") == "the target is not a GPU of CUDA"
    monkeypatch.setattr(torch_two_of_four, "has_cusparselt", lambda _: False)
    assert KERNEL.refuses(H200, 32, 64, "float16") == "torch has no cuSPARSELt in this process"


def test_the_packed_weight_is_dense_in_rows(rng):
    weight = weight_of(rng)
    found = detect(weight)
    assert KERNEL.fit(found) == PATTERN
    assert KERNEL.fit(detect(np.ones((4, 8), "float16"))) is None
    (packed,) = KERNEL.pack(encode(weight, PATTERN))
    np.testing.assert_array_equal(packed.reshape(32, -1).view("float16"), weight)
    assert KERNEL.row_stride(KERNEL.workload(8, 32, 64, PATTERN, "float16")) == 64


def test_what_is_launched_without_the_library_is_the_dense_kernel():
    workload = KERNEL.workload(8, 32, 64, PATTERN, "float16", activation="relu")
    dense = replace(workload, kernel=DENSE.name, nnz=1, block=1)
    ours, theirs = (k.schedule(k.prim_func(w), w, H200) for k, w in ((KERNEL, workload), (DENSE, dense)))
    tvm.ir.assert_structural_equal(ours.body, theirs.body, map_free_vars=True)


def test_the_library_is_asked_by_its_own_name(rng, monkeypatch):
    """On the host, with the TensorIR of float32, as no CPU has bf16 kernels of a GPU."""
    built_once.always_built(monkeypatch)
    dense = KERNELS["cuda_dense"]
    asked = []
    tvm_ffi.register_global_func(library_functions.TWO_OF_FOUR, lambda *given: asked.append(given[:8]) or 0, override=True)
    monkeypatch.setattr(type(dense), "library", library_functions.TWO_OF_FOUR)
    monkeypatch.setattr(type(dense), "library_arguments", lambda *_: (200,))
    workload = dense.workload(4, 32, 64, None)
    func = library_call.prefer_library(dense.prim_func(workload), dense, workload, tvm.target.Target("llvm"))
    x, weight, bias = (rng.standard_normal(shape).astype("float32") for shape in ((4, 64), (32, 64), (32,)))
    given = [tvm.runtime.tensor(array) for array in reference.gpu_arguments(workload, weight, x, bias)]
    tvm.compile(func.with_attr("global_symbol", "main"), "llvm")["main"](*given)
    libraries.register()
    assert asked == [("llvm", "float32", "none", 4, 32, 64, 64, 200)]
    assert reference.relative_error(given[-1].numpy(), reference.dense(x, weight, bias)) < 1e-6


def lowered(pattern, rows=None):
    torch.manual_seed(0)
    model = torch.nn.Linear(1024, 2048, bias=False).half().eval()
    tb.prune(model, pattern, method="magnitude")
    dynamic = ({0: torch.export.Dim("m", min=1, max=8192)},) if rows is None else None
    return lower(import_model(model, (torch.zeros(rows or 4, 1024).half(),), dynamic_shapes=dynamic).mod, H200)


@pytest.mark.slow
def test_one_mask_decodes_by_ours_and_prefills_by_the_library(cusparselt):
    done = lowered("8:16 within 2:4")
    (plan,) = done.plans
    kernels = [bucket.kernel for bucket in plan.buckets]
    assert kernels[-1] == KERNEL.name
    assert kernels[0] == "cuda_gemv"
    last = plan.buckets[-1]
    assert last.pattern == PATTERN
    assert last.rows.last is None
    assert last.verdict.speedup == 1.0, "it is cuBLAS where the rows are few"
    assert f'{library_functions.TWO_OF_FOUR}", "cuda", "float16"' in done.mod.script()


def test_without_it_the_library_of_dense_layers_prefills():
    assert not torch_two_of_four.available()
    assert KERNEL.refuses(H200, 4096, 8192, "float16") is not None


def test_sparse_tensor_cores_win_at_many_rows_and_not_at_few():
    gpu = machine(H200)
    times = {
        (kernel.name, m): kernel.seconds(kernel.workload(m, 8192, 8192, pattern, "float16"), m, gpu)
        for kernel, pattern in ((KERNEL, PATTERN), (DENSE, None))
        for m in (16, 4096)
    }
    assert times[KERNEL.name, 16] == times[DENSE.name, 16], "cuBLAS computes the same weight"
    assert 1.1 < times[DENSE.name, 4096] / times[KERNEL.name, 4096] < 1.25
    assert KERNEL not in DENSE_KERNELS
    workload = KERNEL.workload(None, 28672, 8192, PATTERN, "float16")
    (first,) = KERNEL.library_arguments(workload, H200)
    assert 256 <= first <= 512
    for m, faster in ((first, True), (first - 8, False)):
        dense = DENSE.seconds(DENSE.workload(None, 28672, 8192, None, "float16"), m, gpu)
        assert (KERNEL.seconds(workload, m, gpu) < dense) == faster


def test_the_model_is_what_was_measured_of_few_rows(monkeypatch):
    """162 to 180 us at 28672x8192 on an H200, and 35 to 45 at 5120x5120."""
    monkeypatch.setattr(type(DENSE), "seconds", lambda *_: 1.0)
    for n, k, least, most in ((28672, 8192, 162e-6, 180e-6), (5120, 5120, 35e-6, 45e-6)):
        assert least < KERNEL.seconds(KERNEL.workload(16, n, k, PATTERN, "float16"), 16, machine(H200)) < most
