"""Activations for kernels with sixteen AVX-512 lanes. Tables in registers are cheaper here than
`activations` computes.
"""

import functools
import math

import numpy as np
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.tir import activations
from tvm_balanced.schedules.tir.activations import Vector, horner, like

LANES = 16
DEGREE, COARSE = 4, 2  # of polynomials; the second for what was rounded to 8 bits
END = 5.6  # above this, gelu and relu differ by less than 6.1e-8
POWERS_OF_TWO = (0.07706705, 0.22764498, 0.69511678, 1.0)  # 2**x for x from 0 to 1, of all with 1 at 0 the least relative error
DOWN = 9  # rounding to whole numbers below, without a flag
PIECES_TO_END = LANES - 0.5  # the first piece is the right half of a piece centred at 0


def gelu(x: Vector, degree: int = DEGREE) -> Vector:
    """Return x * Phi(x), off by at most 3.2e-7 * |x| and 1e-7. Phi is the exact normal distribution function.

    This is relu(x) - |x| * Phi(-|x|). Phi(-|x|) is a polynomial of degree 4 on each of 16 pieces of
    [0, 5.6]; one permute per coefficient selects the piece. The rational function of `activations`
    takes three times the multiplications, and a division. The polynomials are in |x| itself:
    centring them on their piece would take 1.25x the time.
    """
    scale = PIECES_TO_END / END
    inside = tirx.Var("inside", f"float32x{LANES}")
    piece = _rounded(inside * like(scale, x))
    bump = inside * horner(inside, *(_pick(table, piece) for table in _tables(degree)))
    # the constant comes first: NaN passes
    return activations.relu(x) - tirx.Let(inside, T.min(like(END - 0.01 / scale, x), T.abs(x)), bump)


def coarse_gelu(x: Vector) -> Vector:
    """Return x * Phi(x), off by at most 1.2e-4 * |x|, in three quarters of the time of `gelu`: two coefficients fewer to pick.

    For layers of which x and weight are rounded to 8 bits, and then most often the result as well: a step is 4e-3 of the largest
    value of a row.
    """
    return gelu(x, COARSE)


def exp_for_bfloat16(x: Vector) -> Vector:
    """Return e**x for x up to 0, relative error 9e-5 and none at 0: a twentieth of what rounding to bfloat16 loses.

    NaN passes, and -infinity gives 0, of which the fraction is 0. Two instructions of AVX-512 take the fraction and apply the
    power of two, which `activations.exp` does by integers: it takes 14 instructions, this 6.
    """
    power, rest = (tirx.Var(name, f"float32x{LANES}") for name in ("power", "rest"))
    fraction = T.call_llvm_pure_intrin(
        f"float32x{LANES}", "llvm.x86.avx512.mask.reduce.ps.512", power, T.int32(DOWN), power, T.int16(-1), T.int32(4)
    )
    moved = T.call_llvm_pure_intrin(
        f"float32x{LANES}",
        "llvm.x86.avx512.mask.scalef.ps.512",
        horner(rest, *POWERS_OF_TWO),
        power,
        power,
        T.int16(-1),
        T.int32(4),
    )
    return tirx.Let(power, x * like(math.log2(math.e), x), tirx.Let(rest, fraction, moved))


def _rounded(x: Vector) -> Vector:
    """Return an int32 whose lowest bits are those of the integer nearest to x; x is below 2**22.

    A float32 near 1.5 * 2**23 has no bits for a fraction, so adding that number rounds x without a
    conversion. GPU compilers must not see this trick, because they may reassociate floating-point
    sums.
    """
    return T.reinterpret(f"int32x{LANES}", x + like(1.5 * 2**23, x))


def _pick(table: Array, index: Vector) -> Vector:
    """Select an entry of a table of 16 for each lane; the instruction ignores all but the lowest four bits."""
    entries = T.Shuffle([tirx.const(float(entry), "float32") for entry in table], list(range(LANES)))
    return T.call_llvm_pure_intrin(f"float32x{LANES}", "llvm.x86.avx512.permvar.sf.512", entries, index)


@functools.cache
def _tables(degree: int) -> list[Array]:
    """Return the coefficients of Phi(-x) on each piece, highest power first."""
    width = END / PIECES_TO_END
    middles = np.arange(LANES) * width
    pieces = [_fit(max(0.0, middle - width / 2), middle + width / 2, degree) for middle in middles]
    return list(np.array(pieces, np.float32).T[::-1])


def _fit(begin: float, end: float, degree: int) -> Array:
    points = (begin + end) / 2 + (end - begin) / 2 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    values = [math.erfc(x / math.sqrt(2)) / 2 for x in points]
    return np.polynomial.Chebyshev.fit(points, values, degree).convert(kind=np.polynomial.Polynomial).coef


ACTIVATIONS = activations.ACTIVATIONS | {"gelu": gelu}
COARSE_ACTIVATIONS = ACTIVATIONS | {"gelu": coarse_gelu}
