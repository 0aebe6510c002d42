"""Random convolutions of any geometry against integers, computed without the kernels; the layout; what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import eight_bits
from support.sample import examples

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import cuda_target, parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST
from tvm_balanced.runtime.host import host_target, runs_here
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import ALL_KERNELS, CONV_DENSE_KERNELS, CONV_SPARSE_KERNELS
from tvm_balanced.testing.convolve import convolve
from tvm_balanced.testing.operands import draw, random_weight, relative_error, y_shape

P = BalancedPattern.parse
ROUNDING = [kernel for kernel in (*CONV_DENSE_KERNELS, *CONV_SPARSE_KERNELS) if kernel.precision == "int8"]
LEVELS = [host_target(), *map(parse_target, ("cpu/x86-64-v3", "cpu/x86-64-v2"))]
BASIC = Convolution(32, (1, 9, 9), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1))
GROUPED = replace(BASIC, channels=96, groups=3)


HERE = [(kernel, t) for kernel in ROUNDING for t in LEVELS if kernel.refuses(t, 64, 64, "float32") is None and runs_here(t)]


def target_of(kernel):
    """The first target that a kernel is for and that runs here."""
    found = next((target for known, target in HERE if known is kernel), None)
    if found is None:
        pytest.skip("this CPU lacks its instructions")
    return found


def compiled(workload, target=None):
    kernel = ALL_KERNELS[workload.kernel]
    target = target or target_of(kernel)
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    return build(func, target)


def run(workload, given_arrays, target=None):
    y = tvm.runtime.tensor(np.full(y_shape(workload), np.nan, np.float32))
    compiled(workload, target)["main"](*map(tvm.runtime.tensor, given_arrays), y)
    return y.numpy()


def workload_of(kernel, conv, n, pattern, batch=1, **epilogue):
    sparse = kernel in CONV_SPARSE_KERNELS
    return kernel.workload(batch * conv.pixels, n, conv.depth * conv.taps, P(pattern) if sparse else None, conv=conv, **epilogue)


def of_integers(x, weight, conv):
    """What a convolution of images on steps is, bit for bit, float32."""
    parts = x.reshape(len(x) * conv.groups, -1)  # each group of an image has a step of its own
    (images, step, zero), (values, scales) = eight_bits.rounded_rows(parts), eight_bits.rounded_weight(weight)
    sums = convolve((images - zero).reshape(x.shape).astype(np.float64), values.astype(np.float64), conv)
    scaled = sums.astype(np.float32) * np.repeat(scales, conv.pixels)
    return (scaled.reshape(len(parts), -1) * step).reshape(sums.shape)


def given_for(kernel, conv, n, pattern, batch, rng):
    """x on steps, a weight (N, K), and the arguments of a kernel."""
    workload = workload_of(kernel, conv, n, pattern, batch)
    encoded = random_weight(n, conv.depth * conv.taps, P(pattern) if kernel in CONV_SPARSE_KERNELS else P("16:16"), rng)
    weight, x = encoded.decode(), eight_bits.on_steps(batch * conv.groups, conv.depth * math.prod(conv.size), rng)
    packed = kernel.pack_for(encoded if kernel in CONV_SPARSE_KERNELS else weight, workload)
    x = x.reshape(batch, -1)
    return workload, x, weight, [x, *packed, kernel.pack_bias(np.zeros(n, np.float32))]


def threes(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


@st.composite
def convolutions(draw_):
    channels, groups = draw_(st.sampled_from([1, 3, 16, 20, 48, 64, 80, 130])), draw_(st.sampled_from([1, 1, 2, 5]))
    kernel = draw_(st.sampled_from([(1, 1, 1), (1, 1, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3)]))
    dilation, before, after = draw_(threes(1, 2)), draw_(threes(0, 2)), draw_(threes(0, 2))
    steps = draw_(threes(1, 3))
    stride, spread = ((1, 1, 1), steps) if draw_(st.booleans()) else (steps, (1, 1, 1))
    least = [d * (taps - 1) + 1 for d, taps in zip(dilation, kernel, strict=True)]
    more = draw_(st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 25)))
    size = tuple(n + extra for n, extra in zip(least, more, strict=True))
    order = draw_(st.sampled_from([TAPS_FIRST, TAPS_FIRST, CHANNELS_FIRST]))
    return Convolution(channels * groups, size, kernel, stride, dilation, before, after, groups, spread, order).flattened()


@pytest.mark.slow
@settings(max_examples=examples(16), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    conv=convolutions(),
    rows=st.integers(1, 50),
    batch=st.integers(1, 2),
    pattern=st.sampled_from(["1:16", "2:16", "3:16", "8:16"]),
    place=st.integers(0, len(HERE) - 1),
    seed=st.integers(0, 99),
)
def test_random_convolutions_are_those_of_integers_bit_for_bit(conv, rows, batch, pattern, place, seed):
    (kernel, target), n = HERE[place], rows * conv.groups
    if kernel.refuses_conv(conv) or kernel.refuses(target, n, conv.depth * conv.taps, "float32"):
        return
    workload, x, weight, arguments = given_for(kernel, conv, n, pattern, batch, np.random.default_rng(seed))
    np.testing.assert_array_equal(run(workload, arguments, target), of_integers(x, weight, conv))


@pytest.mark.grid
@pytest.mark.parametrize(("kernel", "target"), HERE, ids=[f"{kernel.name}-{target.attrs['mcpu']}" for kernel, target in HERE])
def test_every_kernel_on_every_cpu(kernel, target, rng):
    for conv, n in ((BASIC, 40), (GROUPED, 60)):  # 20 rows a group: the last ones of a group are no whole panel
        workload, x, weight, arguments = given_for(kernel, conv, n, "2:16", 2, rng)
        np.testing.assert_array_equal(run(workload, arguments, target), of_integers(x, weight, conv))


@pytest.mark.grid
@pytest.mark.parametrize("kernel", [ROUNDING[0], ROUNDING[-1]], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize(("activation", "residual"), [("relu", True), ("silu", False)])
@pytest.mark.parametrize("conv", [BASIC, GROUPED], ids=["one group", "groups"])
def test_epilogue(kernel, conv, activation, residual):
    workload = workload_of(kernel, conv, 24, "4:16", activation=activation, residual=residual)
    arguments = draw(workload)
    assert 1e-5 < relative_error(run(workload, arguments.given), arguments.reference()) < 2e-2


@pytest.fixture(scope="module")
def symbolic():
    """A kernel for any number of images, compiled."""
    kernel = next(k for k in CONV_DENSE_KERNELS if k in ROUNDING and k.refuses(host_target(), 64, 64, "float32") is None)
    return kernel, compiled(replace(workload_of(kernel, BASIC, 40, "2:16"), m=None))["main"]


def test_any_number_of_images_and_threads(symbolic, rng):
    """Each image has a step of its own, and threads change no bit."""
    kernel, main = symbolic
    workload, x, weight, arguments = given_for(kernel, BASIC, 40, "2:16", 3, rng)
    found = []
    for threads in (1, 2):
        use_threads(threads)
        y = tvm.runtime.tensor(np.full(y_shape(workload), np.nan, np.float32))
        main(*map(tvm.runtime.tensor, arguments), y)
        found.append(y.numpy())
    np.testing.assert_array_equal(found[0], of_integers(x, weight, BASIC))
    np.testing.assert_array_equal(*found)


def test_an_image_that_is_not_finite_is_nan_throughout_and_no_other(symbolic, rng):
    kernel, main = symbolic
    workload, x, weight, arguments = given_for(kernel, BASIC, 40, "2:16", 5, rng)
    x[0, 77], x[2, -1], x[3, 0], x[4, 1000] = np.nan, np.inf, -np.inf, -np.nan
    y = tvm.runtime.tensor(np.zeros(y_shape(workload), np.float32))
    main(*map(tvm.runtime.tensor, [x, *arguments[1:]]), y)
    assert np.isnan(y.numpy()[[0, 2, 3, 4]]).all()
    np.testing.assert_array_equal(y.numpy()[1:2], of_integers(x[1:2], weight, BASIC))


@pytest.mark.parametrize("kernel", [k for k in ROUNDING if k in CONV_DENSE_KERNELS][:1], ids=lambda kernel: kernel.name)
def test_layout_is_the_documented_one(kernel, rng):
    """A run of 3 taps of 6 channels, padded to 8, is 24 bytes: two pieces."""
    conv = Convolution(6, (1, 9, 9), (1, 3, 3))
    weight = rng.standard_normal((20, 54)).astype(np.float32)
    values, scales, totals = kernel.pack(weight, conv)
    assert (values.shape, scales.shape, totals.shape) == ((2, 3 * 2 * 4, 64), (2, 16), (2, 16))
    whole, steps = eight_bits.rounded_weight(weight)
    by_tap = whole.reshape(20, 3, 3, 6)
    for row, down, across, channel in ((0, 0, 0, 0), (5, 1, 2, 5), (17, 2, 1, 4)):
        byte = 8 * across + channel
        found = values[row // 16, down * 8 + byte // 4, row % 16 * 4 + byte % 4]
        assert found == by_tap[row, down, across, channel]
    assert np.count_nonzero(values) == np.count_nonzero(whole)
    np.testing.assert_array_equal(scales.ravel()[:20], steps)
    np.testing.assert_array_equal(totals.ravel()[:20], whole.sum(axis=1))


def test_refusals():
    kernel = next(k for k in CONV_DENSE_KERNELS if k in ROUNDING)
    assert kernel.refuses_conv(BASIC) is kernel.refuses_conv(GROUPED) is None
    assert all(other.refuses(cuda_target("h100"), 64, 64, "float32") for other in ROUNDING)
    assert "VNNI" in kernel.refuses(parse_target("cpu/skylake-avx512"), 64, 64, "float32")
    assert "65536" in kernel.refuses(parse_target("cpu/znver4"), 64, 65537, "float32")
