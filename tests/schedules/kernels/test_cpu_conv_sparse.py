"""The layout, and random convolutions of any geometry against float64, computed without the kernel."""

import math

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sample import examples

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import ALL_KERNELS, CONV_DENSE_KERNELS, CONV_SPARSE_KERNELS
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.testing.operands import draw, random_weight, relative_error, y_shape

KERNEL = next(kernel for kernel in CONV_SPARSE_KERNELS if kernel.refuses(host_target(), 16, 16, "float32") is None)
DENSE = next(kernel for kernel in CONV_DENSE_KERNELS if kernel.refuses(host_target(), 16, 16, "float32") is None)
P = BalancedPattern.parse


def run(workload, given_arrays=None):
    """Return (result, expected) of a workload with drawn arguments."""
    kernel, target = ALL_KERNELS[workload.kernel], host_target()
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    arguments = draw(workload)
    y = tvm.runtime.tensor(np.full(y_shape(workload), np.nan, np.float32))
    build(func, target)["main"](*map(tvm.runtime.tensor, given_arrays or arguments.given), y)
    return y.numpy(), arguments


def threes(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


@st.composite
def convolutions(draw_):
    groups = draw_(st.sampled_from([1, 1, 2, 3]))
    depth = draw_(st.sampled_from([1, 3, 8, 16, 40]))  # 40 are several tiles of K with most kernels
    kernel = draw_(st.sampled_from([(1, 1, 1), (1, 1, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3)]))
    dilation, before, after = draw_(threes(1, 2)), draw_(threes(0, 2)), draw_(threes(0, 2))
    transposed = draw_(st.booleans())
    steps = draw_(threes(1, 3))
    stride, spread = ((1, 1, 1), steps) if transposed else (steps, (1, 1, 1))
    least = [d * (taps - 1) + 1 for d, taps in zip(dilation, kernel, strict=True)]
    more = draw_(st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 25)))
    size = tuple(n + extra for n, extra in zip(least, more, strict=True))
    order = draw_(st.sampled_from([TAPS_FIRST, CHANNELS_FIRST]))
    return Convolution(groups * depth, size, kernel, stride, dilation, before, after, groups, spread, order).flattened()


@pytest.mark.slow
@settings(max_examples=examples(26), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    conv=convolutions(),
    rows=st.integers(1, 9),
    batch=st.integers(1, 2),
    pattern=st.sampled_from(["2:16", "4:16", "1:4", "3:7", None]),
    activation=st.sampled_from(["none", "relu", "silu"]),
    residual=st.booleans(),
)
def test_random_convolutions(conv, rows, batch, pattern, activation, residual):
    kernel = DENSE if pattern is None else KERNEL
    workload = kernel.workload(
        batch * conv.pixels,
        rows * conv.groups,
        conv.depth * conv.taps,
        P(pattern) if pattern else None,
        conv=conv,
        activation=activation,
        residual=residual,
    )
    got, arguments = run(workload)
    assert relative_error(got, arguments.reference()) < 1e-5


def test_layout_is_the_documented_one(rng):
    """values[t, n, s] is slot s of row n in tile t, columns its place there, channel by channel."""
    conv = Convolution(48, (1, 8, 8), (1, 3, 3))
    weight = random_weight(6, 432, P("2:16"), rng)
    values, columns = KERNEL.pack(weight, conv)
    assert values.shape == columns.shape == (3, 8, 18)  # tiles of 16 channels
    assert (values.dtype, columns.dtype) == (np.float32, np.uint16)
    dense = weight.decode().reshape(6, 9, 48)
    for tile in range(3):
        for row in range(6):
            for value, place in zip(values[tile, row], columns[tile, row], strict=True):
                assert dense[row, place % 9, tile * 16 + place // 9] == value
    assert not values[:, 6:].any()


@pytest.mark.parametrize(("depth", "order", "tiles"), [(24, TAPS_FIRST, 1), (40, CHANNELS_FIRST, 3), (48, TAPS_FIRST, 3)])
def test_blocks_lie_in_one_tile(depth, order, tiles, rng):
    conv = Convolution(depth, (1, 8, 8), (1, 3, 3), order=order)
    weight = encode(random_weight(4, depth * 9, P("2:16"), rng).decode(), P("2:16"))
    values, _ = KERNEL.pack(weight, conv)
    assert len(values) == tiles
    assert np.count_nonzero(values) == np.count_nonzero(weight.decode())


def test_nan_and_infinity_of_pixels_that_are_kept_are_seen():
    conv = Convolution(16, (1, 9, 9), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1))
    workload = KERNEL.workload(81, 4, 144, P("1:16"), conv=conv)
    arguments = draw(workload)
    x = arguments.given[0].reshape(16, 81).copy()
    x[:, 40], x[:, 60] = np.nan, np.inf
    got = run(workload, [x.reshape(1, -1), *arguments.given[1:]])[0].reshape(4, 9, 9)
    reads = np.zeros((4, 9, 9), bool)  # row n keeps one channel at each tap, so that all nine pixels around read it
    reads[:, 3:6, 3:6] = True
    assert np.isnan(got[reads]).all()
    assert np.isinf(got[:, 7, 7]).all() or np.isnan(got[:, 7, 7]).all()
    reads[:, 5:8, 5:8] = True
    assert np.isfinite(got[~reads]).all()


def test_refusals():
    refused = KERNEL.refuses(host_target(), 64, 1 << 16, "float32")
    assert refused == "K = 65536 is more than 16 bits count"
    assert KERNEL.refuses(host_target(), 64, 64, "float16") == "it does not compute float16"
    other = CONV_SPARSE_KERNELS[KERNEL is CONV_SPARSE_KERNELS[0]]
    assert "no CPU with vectors" in other.refuses(host_target(), 64, 64, "float32")


@pytest.mark.grid
@pytest.mark.parametrize("cpu", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("kernels", [CONV_SPARSE_KERNELS, CONV_DENSE_KERNELS])
def test_every_cpu_has_a_kernel_that_compiles(cpu, kernels):
    target = parse_target(f"cpu/{cpu}")
    exact = [kernel for kernel in kernels if kernel.precision == "float32"]
    (kernel,) = (kernel for kernel in exact if kernel.refuses(target, 64, 64, "float32") is None)
    conv = Convolution(16, (1, 9, 9), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1))
    workload = kernel.workload(81, 8, 144, P("2:16") if kernel in CONV_SPARSE_KERNELS else None, conv=conv)
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    code = build(func, target).mod.inspect_source("asm")
    register = {"x86-64-v2": "xmm", "x86-64-v3": "ymm", "x86-64-v4": "zmm"}[cpu]
    assert any(register in line for line in code.splitlines() if "mul" in line or "fmadd" in line)


def test_more_pixels_take_more_time():
    from tvm_balanced.schedules.base.roofline import Roofline

    roofline = Roofline(1, 50.0, 10.0, 20.0, KERNEL.lanes)
    conv = Convolution(64, (1, 28, 28), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1))
    sparse = KERNEL.workload(784, 64, 576, P("2:16"), conv=conv)
    dense = DENSE.workload(784, 64, 576, None, conv=conv)
    times = [KERNEL.seconds(sparse, m, roofline) for m in (784, 1568)]
    assert 0 < times[0] < times[1]
    assert times[0] < DENSE.seconds(dense, 784, roofline) / 2
    assert math.isfinite(times[1])


@pytest.mark.parametrize("kernel", [KERNEL, DENSE], ids=lambda kernel: kernel.name)
def test_the_code_does_not_grow_with_the_taps(kernel):
    """TVM lowers each statement for itself: the 1024 planes and taps of a patch, one by one, took ten minutes to compile."""

    def code(side, padding=0):
        pad = (0, padding, padding)
        conv = Convolution(3, (1, 4 * side, 4 * side), (1, side, side), (1, side, side), before=pad, after=pad)
        nnz = 4 if kernel is KERNEL else 16
        return len(kernel.prim_func(Workload(kernel.name, None, 32, 3 * side**2, nnz, 16, conv=conv)).script().splitlines())

    assert code(32) <= code(16) <= code(8)
    assert code(32, padding=5) <= 6 * code(8)  # one of the two kinds of planes along each axis has a row of zeros more
