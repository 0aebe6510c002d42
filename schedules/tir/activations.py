"""Activations as TensorIR expressions on vectors. A kernel applies them while a result is in registers.

On CPUs, TVM lowers exp, erf and tanh to one library call per lane. These polynomials stay in vector
registers. Every function takes float32 with any number of lanes and propagates NaN: each max and
min has the constant as its first operand, because they return the second operand if a comparison
with NaN fails. The errors are the largest against float64; the test of this file checks them. gelu, gelu_tanh and silu are x
times a factor from 0 to 1 that is off by at most 2e-7.
"""

import functools
from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

Vector = Any  # a PrimExpr with any number of lanes


def like(value: float, x: Vector) -> Vector:
    """Return a constant with as many lanes as x."""
    lanes = x.ty.dtype.lanes if hasattr(x, "ty") else 1
    constant = tirx.const(value, "float32")
    return constant if lanes == 1 else T.broadcast(constant, lanes)


def horner(x: Vector, *coefficients: Any) -> Vector:
    """Evaluate the polynomial with these coefficients (numbers or vectors, highest power first)."""
    first, *others = (like(c, x) if isinstance(c, float) else c for c in coefficients)
    return functools.reduce(lambda result, c: result * x + c, others, first)


def relu(x: Vector) -> Vector:
    """Return max(x, 0)."""
    return T.max(like(0.0, x), x)


def exp(x: Vector) -> Vector:
    """Return e**x, relative error 2e-7; 0 below -86.98. It is 2**round(x / ln 2) times a polynomial
    of the remainder.
    """
    inside = T.max(like(-87.3, x), T.min(like(89.0, x), x))
    n = T.floor(inside * like(1.44269504088896341, x) + like(0.5, x))
    r = inside - n * like(0.693359375, x) - n * like(-2.12194440e-4, x)
    # The polynomial gives 2 * e**r, and the scale is 2**(n - 1). This needs no comparisons: for n =
    # -126 the bits of the scale are those of 0, and for n = 128, which float32 cannot represent,
    # the product overflows to infinity by itself. Of all polynomials 1 + r + ... of degree 5, this
    # one has the smallest maximum error on |r| <= ln 2 / 2. The polynomial of degree 7 in Cephes
    # takes 1.2x the time.
    twice = horner(r, 1.6625002e-2, 8.3780661e-2, 3.33342314e-1, 9.99984622e-1, 2.0, 2.0)
    lanes = x.ty.dtype.lanes
    integer, real = ("int32", "float32") if lanes == 1 else (f"int32x{lanes}", f"float32x{lanes}")
    power = T.reinterpret(real, T.shift_left(T.cast(n, integer) + _integer(126, lanes), _integer(23, lanes)))
    return twice * power


def _integer(value: int, lanes: int) -> Vector:
    constant = tirx.const(value, "int32")
    return constant if lanes == 1 else T.broadcast(constant, lanes)


def _odd_rational(x: Vector, bound: float, above: tuple[float, ...], below: tuple[float, ...]) -> Vector:
    """Return x * p(x^2) / q(x^2) for x clamped to [-bound, bound]; coefficients start with the highest power."""
    x = T.max(like(-bound, x), T.min(like(bound, x), x))
    return x * horner(x * x, *above) / horner(x * x, *below)


def _within_one(x: Vector) -> Vector:
    return T.max(like(-1.0, x), T.min(like(1.0, x), x))


def tanh(x: Vector) -> Vector:
    """Return tanh(x), absolute error 4e-7, and exactly 1 or -1 from |x| = 9 on: gelu multiplies what is missing by x.

    The rational function is the one of Eigen and XLA.
    """
    above = (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
    below = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
    return _within_one(_odd_rational(x, 9.0, above, below))


def erf(x: Vector) -> Vector:
    """Return erf(x), absolute error 4e-7, and exactly 1 or -1 from |x| = 4 on: gelu multiplies what is missing by x."""
    # Of Eigen, for |x| up to 3.83. From there to 4 the quotient grows past 1 by more than its rounding errors.
    above = (
        2.123732201653183e-06,
        2.861979592125863e-04,
        3.658048342913389e-03,
        5.243302136659622e-02,
        1.8741607666015625e-01,
        1.1283791065216064,
    )
    below = (3.89185734093189e-05, 1.14329601638019e-03, 1.47520881146192e-02, 1.12945675849915e-01, 4.99425798654556e-01, 1.0)
    return _within_one(_odd_rational(x, 4.0, above, below))


def _sin_of_rest(x: Vector, halves: Vector) -> Vector:
    """Return (-1)^h * sin(x - h * pi) for h = `halves`. h is an integer or a half-integer within 1/2 of x / pi."""
    # pi in three parts (Cephes): the product of either of the first two with a number below 2^12 is exact
    r = x - halves * like(3.140625, x) - halves * like(9.67502593994140625e-4, x) - halves * like(1.509957990978376432e-7, x)
    sine = r + r * r * r * horner(r * r, -2.50521084e-8, 2.75573192e-6, -1.98412698e-4, 8.33333333e-3, -1.66666667e-1)
    whole = T.floor(halves)
    odd = whole - like(2.0, x) * T.floor(whole * like(0.5, x))
    return sine * (like(1.0, x) - like(2.0, x) * odd)


def sin(x: Vector) -> Vector:
    """Return sin(x), absolute error 2e-7 for x up to 10000."""
    return _sin_of_rest(x, T.floor(x * like(0.3183098861837907, x) + like(0.5, x)))


def cos(x: Vector) -> Vector:
    """Return cos(x), absolute error 2e-7 for x up to 10000."""
    return like(0.0, x) - _sin_of_rest(x, T.floor(x * like(0.3183098861837907, x)) + like(0.5, x))


def gelu(x: Vector) -> Vector:
    """Return x * Phi(x), absolute error 2e-6. Phi is the exact normal distribution function."""
    return x * (like(0.5, x) + like(0.5, x) * erf(x * like(0.7071067811865476, x)))


def sigmoid(x: Vector) -> Vector:
    """Return 1 / (1 + e**-x)."""
    return like(1.0, x) / (like(1.0, x) + exp(like(0.0, x) - x))


def gelu_tanh(x: Vector) -> Vector:
    """Return the tanh approximation of gelu: x * sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))."""
    return x * sigmoid(like(1.5957691216057308, x) * (x + like(0.044715, x) * x * x * x))


def silu(x: Vector) -> Vector:
    """Return x * sigmoid(x)."""
    return x * sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Vector], Vector]] = {
    "none": lambda x: x,
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
}
