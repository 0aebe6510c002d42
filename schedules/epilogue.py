"""Functions as TensorIR expressions on vectors: activations applied while a result is in registers, and what they need.

TVM lowers exp, erf and tanh to one library call a lane on CPUs; these polynomials stay in vector registers. Every function
takes float32 with any number of lanes and passes NaN on: a constant stands first in each max and min, which return their
second operand where a comparison with NaN fails. Errors, checked by the test of this file, are the largest against float64.
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


def _polynomial(x: Vector, *coefficients: float) -> Vector:
    """Evaluate the polynomial with these coefficients, highest power first, by Estrin's scheme.

    Horner's would be a chain of as many dependent multiply-adds, of which a CPU's scheduler holds too few at once to keep
    busy: a GELU of 14 coefficients on a layer of 1536x384, M = 128 took 1.6 times as long with it.
    """
    terms = [_like(c, x) for c in reversed(coefficients)]
    power = x
    while len(terms) > 1:
        pairs = [terms[i + 1] * power + terms[i] for i in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[len(terms) - len(terms) % 2 :]
        power = power * power
    return terms[0]


def relu(x: Vector) -> Vector:
    """max(x, 0)."""
    return T.max(_like(0.0, x), x)


def exp(x: Vector) -> Vector:
    """e**x: 2**round(x / ln 2) times a polynomial on the remainder (Cephes expf), relative error 2e-7; 0 below -87."""
    inside = T.max(_like(-87.3, x), T.min(_like(89.0, x), x))
    n = T.floor(inside * _like(1.44269504088896341, x) + _like(0.5, x))
    r = inside - n * _like(0.693359375, x) - n * _like(-2.12194440e-4, x)
    # Twice e**r times 2**(n - 1): no comparisons are needed, for the bits of 2**(n - 1) are those of 0 at n = -126, and where
    # n = 128, of which a float32 has no power, the product overflows to infinity by itself.
    twice = _polynomial(
        r,
        3.9751383e-4,
        2.7967996302e-3,
        1.66669038146e-2,
        8.3331589788e-2,
        3.3333333092e-1,
        1.00000002402,
        2.0,
        2.0,
    )
    lanes = x.ty.dtype.lanes
    integer, real = ("int32", "float32") if lanes == 1 else (f"int32x{lanes}", f"float32x{lanes}")
    power = T.reinterpret(real, T.shift_left(T.cast(n, integer) + _integer(126, lanes), _integer(23, lanes)))
    return twice * power


def _integer(value: int, lanes: int) -> Vector:
    constant = tirx.const(value, "int32")
    return constant if lanes == 1 else T.broadcast(constant, lanes)


def _odd_rational(x: Vector, bound: float, above: tuple[float, ...], below: tuple[float, ...]) -> Vector:
    """x * p(x^2) / q(x^2) of x held within [-bound, bound]; coefficients highest power first."""
    x = T.max(_like(-bound, x), T.min(_like(bound, x), x))
    return x * _polynomial(x * x, *above) / _polynomial(x * x, *below)


def tanh(x: Vector) -> Vector:
    """Return tanh(x), the rational of Eigen and XLA, absolute error 4e-7."""
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
    return _odd_rational(x, 7.90531110763549805, above, below)


# Of 2 x^2 / ERF_BOUND^2 - 1, highest power first: erf(x) / x within [-ERF_BOUND, ERF_BOUND], least largest error of erf, by
# iterated least squares on Chebyshev polynomials; the last bit of the constant chosen so that erf(ERF_BOUND) is exactly 1.
# A quotient of two shorter polynomials is as accurate, but a division takes the time of ten multiply-adds: GELU took
# 36 cycles for 16 values with it.
ERF_BOUND = 3.8
ERF = (
    -0.0022485607769340277,
    0.005746189970523119,
    -0.004641277249902487,
    0.005576007533818483,
    -0.016795611009001732,
    0.029489384964108467,
    -0.03977842256426811,
    0.05414271354675293,
    -0.07229532301425934,
    0.09097421914339066,
    -0.11121003329753876,
    0.13773134350776672,
    -0.18564043939113617,
    0.37210771441459656,
)


def erf(x: Vector) -> Vector:
    """Return erf(x), absolute error 5e-7; exactly 1 and -1 past ERF_BOUND."""
    x = T.max(_like(-ERF_BOUND, x), T.min(_like(ERF_BOUND, x), x))
    return x * _polynomial(x * x * _like(2 / ERF_BOUND**2, x) - _like(1.0, x), *ERF)


def gelu(x: Vector) -> Vector:
    """X * Phi(x) with the exact normal distribution function, absolute error 1e-6."""
    return x * (_like(0.5, x) + _like(0.5, x) * erf(x * _like(0.7071067811865476, x)))


def sigmoid(x: Vector) -> Vector:
    """1 / (1 + e**-x)."""
    return _like(1.0, x) / (_like(1.0, x) + exp(_like(0.0, x) - x))


def gelu_tanh(x: Vector) -> Vector:
    """The tanh approximation of gelu: x * sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))."""
    return x * sigmoid(_like(1.5957691216057308, x) * (x + _like(0.044715, x) * x * x * x))


def silu(x: Vector) -> Vector:
    """X * sigmoid(x)."""
    return x * sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Vector], Vector]] = {
    "none": lambda x: x,
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
}
