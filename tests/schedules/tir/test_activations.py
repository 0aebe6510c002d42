import numpy as np
import pytest
from support import reference
from support.expressions import POINTS, erf, evaluate

from tvm_balanced.schedules.tir import activations


@pytest.mark.grid
@pytest.mark.parametrize(
    ("name", "exact", "absolute", "relative"),
    [
        ("exp", np.exp, 0, 3e-7),
        ("erf", erf, 4e-7, 0),
        ("tanh", np.tanh, 4e-7, 0),
        ("sin", np.sin, 2e-7, 0),
        ("cos", np.cos, 2e-7, 0),
        ("sigmoid", lambda v: 1 / (1 + np.exp(-v)), 2e-7, 0),
        ("relu", lambda v: np.maximum(v, 0), 0, 0),
        ("gelu", lambda v: 0.5 * v * (1 + erf(v / np.sqrt(2))), 2e-6, 1e-6),
        ("gelu_tanh", lambda v: 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))), 1e-6, 1e-6),
        ("silu", lambda v: v / (1 + np.exp(-v)), 1e-6, 1e-6),
    ],
)
def test_error_over_the_range_that_matters(name, exact, absolute, relative):
    want = exact(POINTS.astype(np.float64))
    np.testing.assert_allclose(evaluate(getattr(activations, name), POINTS), want, atol=absolute, rtol=relative)


@pytest.mark.parametrize("name", [name for name, error in reference.FACTOR_ERROR.items() if error])
def test_error_of_the_factor(name):
    error = np.abs(evaluate(getattr(activations, name), POINTS) - reference.ACTIVATIONS[name](POINTS.astype(np.float64)))
    assert (error <= reference.FACTOR_ERROR[name] * np.abs(POINTS)).all()


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_any_number_of_lanes(lanes):
    x = np.linspace(-3, 3, 64).astype(np.float32)
    for function in activations.ACTIVATIONS.values():
        np.testing.assert_allclose(evaluate(function, x, lanes), evaluate(function, x, 16), rtol=1e-6, atol=1e-7)


@pytest.mark.grid
@pytest.mark.parametrize("name", ["exp", "erf", "tanh", "sin", "cos", "sigmoid", "relu", "gelu", "gelu_tanh", "silu"])
def test_nan_comes_through(name):
    x = np.full(16, np.nan, np.float32)
    assert np.isnan(evaluate(getattr(activations, name), x)).all()


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_angles_of_many_turns(name, rng):
    x = np.concatenate([rng.uniform(-10000, 10000, 1 << 14), np.arange(-8, 8) * np.pi / 2]).astype(np.float32)
    np.testing.assert_allclose(evaluate(getattr(activations, name), x), getattr(np, name)(x.astype(np.float64)), atol=2e-7)


def test_exp_at_the_ends():
    x = np.array([-np.inf, -1000, -88, -87.3, 0, 88.7, 88.8, np.inf] * 2, np.float32)
    with np.errstate(over="ignore"):
        want = np.exp(x.astype(np.float32))
    got = evaluate(activations.exp, x)
    np.testing.assert_allclose(got[want > 2e-38], want[want > 2e-38], rtol=3e-6)
    assert (got[want < 1e-38] <= 1e-38).all()
    assert got[0] == 0
    assert np.isposinf(got[7])
