"""Against torch's own convolutions in float64; what a library computes in its place is tested in test_library_call.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import reference

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target, parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST, weight_matrix
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import dense_kernels
from tvm_balanced.selection.rooflines import machine
from tvm_balanced.testing import opencl

H200 = cuda_target("h200")
ROWS = 12
CONVS = {
    "3x3": Convolution(6, (1, 9, 7), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1)),
    "strided": Convolution(6, (1, 9, 7), (1, 3, 3), (1, 2, 2), before=(0, 1, 0), after=(0, 0, 2)),
    "dilated": Convolution(4, (1, 1, 23), (1, 1, 5), dilation=(1, 1, 3)),
    "groups": Convolution(8, (1, 6, 6), (1, 3, 1), groups=4),
    "depthwise": Convolution(12, (1, 6, 6), (1, 3, 3), groups=12),
    "pointwise": Convolution(8, (1, 1, 25), (1, 1, 1)),
    "volume": Convolution(3, (4, 5, 6), (2, 3, 3)),
}
CONVS = {name: replace(conv, order=CHANNELS_FIRST) for name, conv in CONVS.items()}
CONVS["transposed"] = replace(CONVS["3x3"], before=(0, 2, 1), after=(0, 2, 1), spread=(1, 2, 2))
KERNEL = dense_kernels(CONVS["3x3"])[-1]


def workload_of(conv, batch=2, dtype="float32", **options):
    m = None if batch is None else batch * conv.pixels
    return KERNEL.workload(m, ROWS, conv.depth * conv.taps, None, dtype, conv=conv, **options)


def operands(conv, rng, batch=2):
    """x, weight, bias, residual and the expected images, relu of all; flat."""
    x = rng.standard_normal((batch, conv.channels, *conv.size))
    weight = rng.standard_normal((ROWS, conv.depth, *conv.kernel))
    bias, residual = rng.standard_normal(ROWS), rng.standard_normal((batch, ROWS, *conv.outputs))
    wide = np.zeros((batch, conv.channels, *conv.spread_size))
    wide[(slice(None), slice(None), *(slice(None, None, gap) for gap in conv.spread))] = x
    sides = [(0, 0), (0, 0), *zip(conv.before, conv.after, strict=True)]
    image, kernel = torch.from_numpy(np.pad(wide, sides)), torch.from_numpy(weight)
    y = torch.nn.functional.conv3d(image, kernel, torch.from_numpy(bias), conv.stride, dilation=conv.dilation, groups=conv.groups)
    expected = np.maximum(y.numpy() + residual, 0)
    given = (x.reshape(batch, -1), weight.reshape(ROWS, -1), bias, residual.reshape(batch, -1))
    return [a.astype("float32") for a in given], expected.reshape(batch, -1)


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize("name", list(CONVS))
def test_against_float64(name, rng):
    workload = workload_of(CONVS[name], activation="relu", residual=True)
    given, expected = operands(CONVS[name], rng)
    func = KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, opencl.target())
    y = opencl.run(func, [*given, np.full(expected.shape, np.nan, "float32")])
    assert reference.relative_error(y, expected) < 1e-6


@pytest.mark.nvcc
@pytest.mark.grid
@pytest.mark.parametrize("name", list(CONVS))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("batch", [2, None])
def test_compiles(name, dtype, batch):
    workload = workload_of(CONVS[name], batch, dtype, residual=True)
    source = cuda_source(KERNEL.schedule(KERNEL.prim_func(workload), workload, H200), "sm_90")
    assert all(used.spilled == 0 for used in nvcc.resources(source, "sm_90").values())


def test_the_packed_weight_is_pytorchs_in_either_order(rng):
    conv, weight = CONVS["3x3"], rng.standard_normal((ROWS, 6, 1, 3, 3)).astype("float16")
    for order in (TAPS_FIRST, CHANNELS_FIRST):
        of = replace(conv, order=order)
        (packed,) = KERNEL.pack_for(weight_matrix(weight, order), workload_of(of))
        np.testing.assert_array_equal(packed, weight.reshape(ROWS, -1))
        assert KERNEL.row_stride(workload_of(of)) == packed.shape[1]


def test_it_is_for_gpus_alone():
    assert KERNEL.refuses(parse_target("cpu/znver4"), 16, 16, "float32") == "the target is not a GPU"
    assert KERNEL.refuses(H200, 16, 16, "int8") == "it does not compute int8"
    assert KERNEL.refuses(H200, 16, 16, "bfloat16") is None


def test_more_arithmetic_takes_longer_and_half_precision_less():
    conv = Convolution(256, (1, 56, 56), (1, 3, 3), order=CHANNELS_FIRST)
    seconds = {
        (batch, dtype): KERNEL.seconds(workload_of(conv, batch, dtype), batch * conv.pixels, machine(H200))
        for batch in (8, 64)
        for dtype in ("float16", "float32")
    }
    assert seconds[8, "float16"] < seconds[64, "float16"] < seconds[64, "float32"]
