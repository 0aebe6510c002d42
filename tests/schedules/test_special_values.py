"""NaN, infinities, denormals and the largest numbers through every kernel, against float64 over the weights that are kept."""

import numpy as np
import pytest
from support import reference
from support.emulated_avx512 import emulated  # noqa: F401 - a fixture

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS

P = BalancedPattern.parse("2:16")
CPU = [(name, dtype) for name, kernel in KERNELS.items() if name.startswith("cpu_") for dtype in kernel.dtypes]
HERE = [(name, dtype) for name, dtype in CPU if KERNELS[name].refuses(host_target(), 64, 64, dtype) is None]
EMULATED = ("cpu_avx512", "cpu_avx512_bf16", "cpu_avx512_w16", "cpu_avx512_w8", "cpu_avx512_i8")
ROUNDS_X = ("cpu_avx512_i8", "cpu_dense_i8")  # NaN throughout a row with a NaN or an infinity
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


def check(name, dtype, run, x, weight, bias, kinds):
    kept = np.ones_like(weight, bool) if KERNELS[name] in DENSE_KERNELS else weight != 0
    exact = reference.rounded(x, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        want, size = wanted(exact, weight, bias.astype(np.float64), kept)
        got = run(x).astype(np.float64)
    largest = 65504.0 if dtype == "float16" else float(np.finfo(np.float32).max)
    error = max(ERROR[dtype], KERNELS[name].tolerance or 0)
    # what rounds x rounds all of a row by its largest value
    largest_of_x = np.abs(exact.astype(np.float64)).max(axis=1)[:, None]
    scale = largest_of_x * np.abs(weight.astype(np.float64)).sum(1)[None] if name in ROUNDS_X else size
    for row, kind in enumerate(kinds):
        if name in ROUNDS_X and not np.isfinite(exact[row]).all():
            assert np.isnan(got[row]).all(), kind
            continue
        certain = ~(np.abs(want[row]) > 0.9 * largest) | ~np.isfinite(want[row])  # just below the largest it may be infinite
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
