"""Activations as TensorIR expressions on vectors, applied while the result is still in registers.

TVM lowers erf and exp to one library call a lane on CPUs; these polynomials stay in vector registers. `bits` below is a
32-bit pattern. Errors are the largest against float64 on [-20, 20], checked by the test of this file.
"""

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

Vector = Any  # a PrimExpr with any number of lanes


def _like(value: float, x: Vector) -> Vector:
    lanes = x.ty.dtype.lanes if hasattr(x, "ty") else 1
    constant = tirx.const(value, "float32")
    return constant if lanes == 1 else T.broadcast(constant, lanes)


def _horner(x: Vector, *coefficients: float) -> Vector:
    """Evaluate the polynomial with these coefficients, highest power first."""
    result = _like(coefficients[0], x)
    for c in coefficients[1:]:
        result = result * x + _like(c, x)
    return result


def relu(x: Vector) -> Vector:
    """max(x, 0)."""
    return T.max(x, _like(0.0, x))


def exp(x: Vector) -> Vector:
    """e**x: 2**round(x / ln 2) times a polynomial on the remainder (Cephes expf), relative error 2e-7."""
    x = T.max(T.min(x, _like(88.0, x)), _like(-87.3, x))
    n = T.floor(x * _like(1.44269504088896341, x) + _like(0.5, x))
    r = x - n * _like(0.693359375, x) - n * _like(-2.12194440e-4, x)
    tail = _horner(r, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
    power = tail * r * r + r + _like(1.0, x)
    lanes = x.ty.dtype.lanes
    integer = f"int32x{lanes}" if lanes > 1 else "int32"
    bias, shift = tirx.const(127, "int32"), tirx.const(23, "int32")
    if lanes > 1:
        bias, shift = T.broadcast(bias, lanes), T.broadcast(shift, lanes)
    scale = T.shift_left(T.cast(n, integer) + bias, shift)
    return power * T.reinterpret(f"float32x{lanes}" if lanes > 1 else "float32", scale)


def erf(x: Vector) -> Vector:
    """erf(x): an odd rational on [-4, 4] (the one of Eigen and XLA), absolute error 4e-7."""
    x = T.max(T.min(x, _like(4.0, x)), _like(-4.0, x))
    x2 = x * x
    p = _horner(
        x2,
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    )
    q = _horner(x2, -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02)
    return x * p / q


def gelu(x: Vector) -> Vector:
    """x * Phi(x) with the exact normal distribution function, absolute error 1e-6."""
    return x * (_like(0.5, x) + _like(0.5, x) * erf(x * _like(0.7071067811865476, x)))


def sigmoid(x: Vector) -> Vector:
    """1 / (1 + e**-x)."""
    return _like(1.0, x) / (_like(1.0, x) + exp(_like(0.0, x) - x))


def gelu_tanh(x: Vector) -> Vector:
    """The tanh approximation of gelu: x * sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))."""
    return x * sigmoid(_like(1.5957691216057308, x) * (x + _like(0.044715, x) * x * x * x))


def silu(x: Vector) -> Vector:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Vector], Vector]] = {
    "none": lambda x: x,
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
}
