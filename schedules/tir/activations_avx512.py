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
DEGREE = 4
END = 5.6  # above this, gelu and relu differ by less than 6.1e-8
POWERS_OF_TWO = (0.0550089, 0.242211, 0.693283, 1.0)  # 2**x for |x| <= 1/2, of all with 1 at 0 the least relative error
PIECES_TO_END = LANES - 0.5  # the first piece is the right half of a piece centred at 0


def gelu(x: Vector) -> Vector:
    """Return x * Phi(x), off by at most 3.2e-7 * |x| and 1e-7. Phi is the exact normal distribution function.

    This is relu(x) - |x| * Phi(-|x|). Phi(-|x|) is a polynomial of degree 4 on each of 16 pieces of
    [0, 5.6]; one permute per coefficient selects the piece. The rational function of `activations`
    takes three times the multiplications, and a division. The polynomials are in |x| itself:
    centring them on their piece would take 1.25x the time.
    """
    scale = PIECES_TO_END / END
    inside = tirx.Var("inside", f"float32x{LANES}")
    piece = _rounded(inside * like(scale, x))
    bump = inside * horner(inside, *(_pick(table, piece) for table in _tables()))
    # the constant comes first: NaN passes
    return activations.relu(x) - tirx.Let(inside, T.min(like(END - 0.01 / scale, x), T.abs(x)), bump)


def exp_for_bfloat16(x: Vector) -> Vector:
    """Return e**x for x up to 0, relative error 1.1e-4 and none at 0: a sixteenth of what rounding to bfloat16 loses.

    NaN passes, and -infinity gives 0. Two instructions of AVX-512 find and apply the power of two, which `activations.exp`
    does by integers: it takes 14 instructions, this 8.
    """
    power, whole = (tirx.Var(name, f"float32x{LANES}") for name in ("power", "whole"))
    rest = tirx.Var("rest", f"float32x{LANES}")
    scaled = T.max(like(-300.0, x), x * like(math.log2(math.e), x))  # the constant comes first: NaN passes
    nearest = T.call_llvm_pure_intrin(
        f"float32x{LANES}", "llvm.x86.avx512.mask.rndscale.ps.512", power, T.int32(8), power, T.int16(-1), T.int32(4)
    )
    moved = T.call_llvm_pure_intrin(
        f"float32x{LANES}",
        "llvm.x86.avx512.mask.scalef.ps.512",
        horner(rest, *POWERS_OF_TWO),
        whole,
        power,
        T.int16(-1),
        T.int32(4),
    )
    return tirx.Let(power, scaled, tirx.Let(whole, nearest, tirx.Let(rest, power - whole, moved)))


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
def _tables() -> list[Array]:
    """Return the coefficients of Phi(-x) on each piece, highest power first."""
    width = END / PIECES_TO_END
    middles = np.arange(LANES) * width
    pieces = [_fit(max(0.0, middle - width / 2), middle + width / 2) for middle in middles]
    return list(np.array(pieces, np.float32).T[::-1])


def _fit(begin: float, end: float) -> Array:
    points = (begin + end) / 2 + (end - begin) / 2 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    values = [math.erfc(x / math.sqrt(2)) / 2 for x in points]
    return np.polynomial.Chebyshev.fit(points, values, DEGREE).convert(kind=np.polynomial.Polynomial).coef


ACTIVATIONS = activations.ACTIVATIONS | {"gelu": gelu}
