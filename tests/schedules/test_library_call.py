"""Layers that ask a library first, on the CPU: the same TensorIR as on a GPU, with torch as the library."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from support import built_once, reference

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core import library_functions
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST
from tvm_balanced.runtime.cuda import cubins, libraries, torch_conv, torch_dense, torch_library, torch_two_of_four
from tvm_balanced.schedules import ALL_KERNELS, KERNELS, Workload, library_call, multi_kernel
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.transform.pipeline import lower

DENSE, IMAGES = KERNELS["cuda_dense"], ALL_KERNELS["cuda_conv_dense"]
HOST = tvm.target.Target("llvm")


@pytest.fixture
def asked(monkeypatch):
    """What the library was asked, which computes with torch unless the test turns it off."""
    calls = []
    built_once.always_built(monkeypatch)

    def computed_by(name, module, function):
        def compute(*given):
            calls.append(given)
            return getattr(module, function)(*given)

        tvm_ffi.register_global_func(name, compute, override=True)

    computed_by(library_functions.DENSE, torch_dense, "dense")
    computed_by(library_functions.CONV, torch_conv, "conv")
    yield calls
    libraries.register()


def run(func, arrays):
    aligned = [tvm.runtime.tensor(array) for array in arrays]
    tvm.compile(func.with_attr("global_symbol", "main"), HOST)["main"](*aligned)
    return aligned[-1].numpy()


@pytest.mark.parametrize("m", [4, None])
@pytest.mark.parametrize("library", [True, False])
def test_library_and_kernel_agree(m, library, rng, asked, monkeypatch):
    if not library:
        monkeypatch.setenv(torch_dense.SWITCH, torch_library.OWN)
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


CONV = Convolution(4, (1, 6, 5), (1, 3, 3), (1, 2, 1), before=(0, 1, 1), after=(0, 1, 0), groups=2, order=CHANNELS_FIRST)


@pytest.mark.parametrize("batch", [3, None])
@pytest.mark.parametrize("library", [True, False])
def test_library_and_kernel_agree_on_a_convolution(batch, library, rng, asked, monkeypatch):
    """The host's code is that of a GPU; its kernel is not scheduled, as no thread is bound on a CPU."""
    if not library:
        monkeypatch.setenv(torch_library.SWITCH, torch_library.OWN)
    workload = IMAGES.workload(batch and batch * CONV.pixels, 6, 18, None, activation="relu", residual=True, conv=CONV)
    x, weight = rng.standard_normal((3, 4, 6, 5)), rng.standard_normal((6, 2, 3, 3))
    bias, residual = rng.standard_normal(6), rng.standard_normal((3, 6, *CONV.outputs[1:]))
    image, kernel, added = (torch.from_numpy(a) for a in (np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 0)]), weight, bias))
    expected = np.maximum(torch.nn.functional.conv2d(image, kernel, added, (2, 1), groups=2).numpy() + residual, 0)
    given = [x.reshape(3, -1), weight.reshape(6, -1), bias, residual.reshape(3, -1), np.full((3, expected[0].size), np.nan)]
    func = library_call.prefer_library(IMAGES.prim_func(workload), IMAGES, workload, HOST)
    y = run(func, [a.astype("float32") for a in given])
    assert reference.relative_error(y, expected.reshape(3, -1)) < 1e-6
    assert [(*call[:3], *call[4:6]) for call in asked] == [("llvm", "float32", "relu", 3, 6)]


def test_a_transposed_convolution_does_not_ask():
    conv = replace(CONV, spread=(1, 2, 2), stride=(1, 1, 1))
    workload = IMAGES.workload(conv.pixels, 6, 18, None, conv=conv)
    func = IMAGES.prim_func(workload)
    assert library_call.prefer_library(func, IMAGES, workload, HOST) is func


@pytest.mark.parametrize("pattern", [None, "2:16"])
def test_a_model_with_convolutions_asks_for_each_and_says_so(pattern):
    """A pruned convolution is computed with its zeros: there is no sparse kernel of images on a GPU."""
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, groups=2), nn.Flatten()).eval()
    if pattern is not None:
        tb.prune(model, pattern)
    imported = import_model(model.half(), (torch.zeros(2, 16, 8, 8).half(),))
    lowered = lower(imported.mod, cuda_target("h200"))
    assert [bucket.kernel for plan in lowered.plans for bucket in plan.buckets] == [IMAGES.name] * 2
    text = lowered.mod.script()
    assert text.count(library_functions.CONV) == 2
    assert f'{library_functions.CONV}", "cuda", "float16", "relu"' in text
    why = lowered.plans[0].buckets[0].verdict.reason
    assert why == ("the weight has no zeros" if pattern is None else "no sparse kernel of convolutions is for this target")


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
    assert scheduled.script().count(library_functions.DENSE) == tiles
    assert library_functions.DENSE not in alone.script()
    with target:
        built = tvm.compile(scheduled.with_attr("global_symbol", "main"), target)
    assert "mma.sync" in cubins.sources(built)[0]


def test_compiled_code_and_the_runtime_mean_the_same_function():
    assert library_call.CONV == library_functions.CONV
    assert libraries.FUNCTIONS[library_call.CONV] is torch_conv.conv
    assert libraries.FUNCTIONS[DENSE.library] is torch_dense.dense
    assert libraries.FUNCTIONS[KERNELS["cuda_two_of_four"].library] is torch_two_of_four.two_of_four


def test_a_compiled_module_asks_and_tvms_own_compiler_does_not():
    """`relax_pipeline="tvm_balanced"` makes a library that nobody of this package is there to answer."""
    torch.manual_seed(0)
    imported = import_model(torch.nn.Linear(64, 32).half().eval(), (torch.zeros(2, 64).half(),))
    for lift, count in ((True, 1), (False, 0)):
        assert lower(imported.mod, cuda_target("h200"), lift=lift).mod.script().count(library_functions.DENSE) == count
