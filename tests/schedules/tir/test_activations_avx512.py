import numpy as np
import pytest
from support.expressions import POINTS, erf, evaluate

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.kernels.cpu_avx512 import CPU_AVX512
from tvm_balanced.schedules.tir import activations, activations_avx512

pytestmark = pytest.mark.skipif(CPU_AVX512.refuses(host_target(), 64, 64, "float32") is not None, reason="no AVX-512 here")


def exact(x):
    x = x.astype(np.float64)
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def test_error_of_gelu():
    small = np.logspace(-30, 0, 8000, dtype=np.float32)
    x = np.concatenate([POINTS, small, -small])
    error = np.abs(evaluate(activations_avx512.gelu, x) - exact(x))
    assert (error <= 3.2e-7 * np.abs(x) + np.where(np.abs(x) > 5, 1e-7, 0)).all()


def test_error_of_coarse_gelu():
    error = np.abs(evaluate(activations_avx512.coarse_gelu, POINTS) - exact(POINTS))
    assert 5e-5 < (error / np.maximum(np.abs(POINTS), 1e-30)).max() < 1.2e-4


@pytest.mark.parametrize("gelu", [activations_avx512.gelu, activations_avx512.coarse_gelu])
def test_gelu_at_the_ends(gelu):
    x = np.array([-np.inf, -1e30, -100, -6, 6, 100, 1e30, np.inf] * 2, np.float32)
    np.testing.assert_allclose(evaluate(gelu, x), np.maximum(x, 0), atol=1e-7)


def test_gelu_of_zero_is_zero():
    """A norm of what follows may divide by nearly 0."""
    assert not evaluate(activations_avx512.gelu, np.array([0.0, -0.0] * 8, np.float32)).any()


def test_nan_comes_through():
    x = np.array([np.nan, -np.nan] * 7 + [0, 1], np.float32)
    x.view(np.uint32)[:2] = 0x7FFFFFFF, 0xFFFFFFFF
    assert np.isnan(evaluate(activations_avx512.gelu, x)).tolist() == [True] * 14 + [False] * 2


def test_all_activations_are_there():
    assert activations_avx512.ACTIVATIONS.keys() == activations.ACTIVATIONS.keys()
    assert activations_avx512.COARSE_ACTIVATIONS.keys() == activations.ACTIVATIONS.keys()


def test_error_of_exp_for_bfloat16():
    x = -np.logspace(-6, np.log10(86), 16000, dtype=np.float32)
    error = np.abs(evaluate(activations_avx512.exp_for_bfloat16, x) / np.exp(x.astype(np.float64)) - 1)
    assert error.max() < 9e-5


def test_exp_for_bfloat16_at_the_ends():
    x = np.array([0, -0.0, -np.inf, -1e30, -400, np.nan, -np.nan, -1] * 2, np.float32)
    got = evaluate(activations_avx512.exp_for_bfloat16, x)
    assert got[:5].tolist() == [1, 1, 0, 0, 0]
    assert np.isnan(got[5:7]).all()
