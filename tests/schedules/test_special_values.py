"""NaN, infinities, denormals and the largest numbers through every kernel, against float64 over the weights that are kept."""

import numpy as np
import pytest
import tvm
from support import reference
from support.emulated_avx512 import emulated  # noqa: F401 - a fixture

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target, runs_here
from tvm_balanced.schedules import ALL_KERNELS, CONV_DENSE_KERNELS, CONV_SPARSE_KERNELS, KERNELS, DenseKernel
from tvm_balanced.testing.operands import random_weight

P = BalancedPattern.parse("2:16")
LEVELS = ("cpu/x86-64-v4", "cpu/x86-64-v3", "cpu/x86-64-v2")
CPU = [(name, dtype) for name, kernel in KERNELS.items() if name.startswith("cpu_") for dtype in kernel.dtypes]
HERE = [(name, dtype) for name, dtype in CPU if KERNELS[name].refuses(host_target(), 64, 64, dtype) is None]
EMULATED = ("cpu_avx512", "cpu_avx512_bf16", "cpu_avx512_w16", "cpu_avx512_w8", "cpu_avx512_i8")
ROUNDS_X = [name for name in KERNELS if name.endswith("_i8")]  # NaN throughout a row with one or an infinity
ERROR = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}
LARGE = {"float32": 3e38, "float16": 6e4, "bfloat16": 3e38}
TINY = {"float32": 1e-40, "float16": 3e-7, "bfloat16": 1e-39}
N, K = 33, 64


def special_rows(dtype, rng):
    """Rows of x, each with values of one kind at some places, and the kind by row."""
    large, tiny = LARGE[dtype], TINY[dtype]
    kinds = {
        "ordinary": (),
        "NaN": (np.nan,),
        "infinity": (np.inf,),
        "minus infinity": (-np.inf,),
        "both infinities": (np.inf, -np.inf),
        "large": (large, -large),
        "denormal": (tiny, -tiny),
    }
    x = rng.standard_normal((len(kinds), K)).astype(np.float32)
    for row, values in zip(x, kinds.values(), strict=True):
        for place, value in enumerate(values):
            row[5 + 16 * place] = value
    x[-1] = rng.uniform(-1, 1, K) * 10 * tiny
    return x, list(kinds)


def wanted(x, weight, bias, kept):
    """x @ weight^T + bias in float64 over the weights that are kept; (y, a bound of what rounding may change)."""
    products = np.where(kept[None], x.astype(np.float64)[:, None] * weight.astype(np.float64)[None], 0.0)
    return products.sum(-1) + bias, np.abs(np.where(np.isfinite(products), products, 0)).sum(-1) + np.abs(bias)


def check(name, dtype, run, x, weight, bias, kinds, overflows=False):
    """`overflows`: partial sums may be infinite where the whole is not, and NaN beside an infinite bias."""
    kept = np.ones_like(weight, bool) if isinstance(ALL_KERNELS[name], DenseKernel) else weight != 0
    exact = reference.rounded(x, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        want, size = wanted(exact, weight, bias.astype(np.float64), kept)
        got = run(x).astype(np.float64)
    largest = 65504.0 if dtype == "float16" else float(np.finfo(np.float32).max)
    error = max(ERROR[dtype], ALL_KERNELS[name].tolerance or 0)
    # what rounds x rounds all of a row by its largest value
    largest_of_x = np.abs(exact.astype(np.float64)).max(axis=1)[:, None]
    scale = largest_of_x * np.abs(weight.astype(np.float64)).sum(1)[None] if name in ROUNDS_X else size
    if name == "cpu_avx512_w4":  # a small weight is off by the steps of a large one
        steps = kept * np.abs(weight.astype(np.float64)).max(1, keepdims=True)
        scale = wanted(np.where(np.isfinite(exact), exact, 0), steps, np.abs(bias.astype(np.float64)), kept)[1]
    for row, kind in enumerate(kinds):
        if name in ROUNDS_X and not np.isfinite(exact[row]).all():
            assert np.isnan(got[row]).all(), kind
            continue
        certain = ~(np.abs(want[row]) > 0.9 * largest) | ~np.isfinite(want[row])  # just below the largest it may be infinite
        certain &= ~(overflows & (size[row] > largest) & np.isfinite(exact[row]).all())
        unusual = ~np.isfinite(want[row])
        np.testing.assert_array_equal(got[row][unusual & certain], want[row][unusual & certain], err_msg=kind)
        usual = certain & ~unusual
        off = np.abs(got[row][usual] - want[row][usual])
        assert (off <= error * np.broadcast_to(scale, want.shape)[row][usual] + TINY[dtype]).all(), (kind, off.max())


def given(dtype, rng):
    weight = reference.rounded(reference.balanced(N, K, P, rng), dtype)
    bias = reference.rounded(rng.standard_normal(N).astype(np.float32), dtype)
    bias[:4] = np.nan, np.inf, -np.inf, LARGE[dtype]
    return weight, reference.rounded(bias, dtype)


@pytest.mark.grid
@pytest.mark.parametrize(("name", "dtype"), HERE)
@pytest.mark.parametrize("m", [1, 7])
def test_every_kernel_that_runs_here(name, dtype, m, rng):
    weight, bias = given(dtype, rng)
    x, kinds = special_rows(dtype, rng)
    run = reference.compile_kernel(name, weight, P, bias, m, dtype=dtype)
    if m == 1:
        check(name, dtype, lambda x: np.concatenate([run(row[None]) for row in x]), x, weight, bias, kinds)
    else:
        check(name, dtype, run, x, weight, bias, kinds)


@pytest.mark.grid
@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name, dtype in CPU if name in EMULATED])
def test_kernels_for_avx512_with_their_instructions_emulated(name, dtype, rng, emulated):  # noqa: F811
    weight, bias = given(dtype, rng)
    x, kinds = special_rows(dtype, rng)
    run = reference.compile_kernel(name, weight, P, bias, len(x), dtype=dtype, finish=emulated)
    check(name, dtype, run, x, weight, bias, kinds)


@pytest.mark.parametrize("name", ["cpu_avx512_w8", "cpu_avx512_i8"])
def test_sums_of_large_values_stay_finite(name, rng, emulated):  # noqa: F811
    """One large value times a small weight: 127 steps of it are no float32 any more."""
    weight, x = np.zeros((16, 16), np.float32), np.zeros((1, 16), np.float32)
    weight[:, 3], weight[:, 7], x[0, 3] = -0.13, 0.1, 3e38
    run = reference.compile_kernel(name, weight, P, None, 1, finish=emulated)
    np.testing.assert_allclose(run(x)[0], -3.9e37, rtol=1e-2)


@pytest.mark.grid
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu"])
def test_activations_of_large_and_infinite_sums(activation, rng):
    weight = np.zeros((16, 16), np.float32)
    weight[:, 2] = weight[:, 3] = 0.5
    x = np.zeros((6, 16), np.float32)
    x[:, 2] = 3e38, -3e38, np.inf, -np.inf, np.nan, -30
    run = reference.compile_kernel("cpu_portable", weight, P, None, 6, activation)
    y = run(x)[:, 0]
    assert y[0] == np.float32(1.5e38)
    assert (np.isposinf(y[2]), np.isnan(y[4])) == (True, True)
    assert abs(y[1]) < 1e-6
    assert abs(y[5]) < 1e-5
    assert y[3] == 0 or (np.isnan(y[3]) and activation != "relu")  # torch's gelu and silu of minus infinity are NaN


EXACT_CONV = [kernel for kernel in (*CONV_SPARSE_KERNELS, *CONV_DENSE_KERNELS) if kernel.precision == "float32"]
CONV_KERNELS = [kernel for kernel in EXACT_CONV if "llvm" in kernel.kinds]  # those of 8 bits: test_cpu_conv_dense_i8.py


def pixels_of(images, taps):
    """What each pixel of a convolution with padding reads, in the order of the weight's columns: (pixels, taps * channels)."""
    padded = np.pad(images, [(0, 0), (0, 0), (taps // 2, taps // 2), (taps // 2, taps // 2)])
    seen = np.lib.stride_tricks.sliding_window_view(padded, (taps, taps), axis=(2, 3))  # image, channel, row, column, tap, tap
    return seen.transpose(0, 2, 3, 4, 5, 1).reshape(len(images), -1, taps * taps * images.shape[1])


@pytest.mark.grid
@pytest.mark.parametrize("kernel", CONV_KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("taps", [1, 3])
def test_convolutions(kernel, taps, rng):
    target = next(t for t in map(parse_target, LEVELS) if kernel.refuses(t, 16, 16, "float32") is None)
    if not runs_here(target):
        pytest.skip("this CPU lacks its instructions")
    side, channels, rows = 7, 16, 6
    pad = (0, taps // 2, taps // 2)
    conv = Convolution(channels, (1, side, side), (1, taps, taps), before=pad, after=pad)
    sparse = kernel in CONV_SPARSE_KERNELS
    x, kinds = special_rows("float32", rng)
    images = rng.standard_normal((len(kinds), channels, side, side)).astype(np.float32)
    images.reshape(len(kinds), -1)[:, 90 : 90 + K] = x  # in two channels, on both sides of a row's end
    images[-1] *= 10 * TINY["float32"]
    workload = kernel.workload(len(kinds) * side**2, rows, channels * taps**2, P if sparse else None, conv=conv.flattened())
    encoded = random_weight(rows, channels * taps**2, P if sparse else BalancedPattern.parse("16:16"), rng)
    weight, bias = encoded.decode(), rng.standard_normal(rows).astype(np.float32)
    bias[:4] = np.nan, np.inf, -np.inf, LARGE["float32"]
    packed = kernel.pack_for(encoded if sparse else weight, workload)
    given = [images.reshape(len(kinds), -1), *packed, kernel.pack_bias(bias)]
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    y = tvm.runtime.tensor(np.zeros((len(kinds), rows * side**2), np.float32))
    build(func, target)["main"](*map(tvm.runtime.tensor, given), y)
    got = y.numpy().reshape(len(kinds), rows, -1).transpose(0, 2, 1)
    for image, kind, result in zip(pixels_of(images, taps), kinds, got, strict=True):
        check(kernel.name, "float32", lambda _, result=result: result, image, weight, bias, [kind] * len(image), overflows=True)
