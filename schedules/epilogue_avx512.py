"""Activations for kernels of sixteen lanes with AVX-512, where tables in registers are cheaper than what `epilogue` computes."""

import functools
import math
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.encoding import Array
from tvm_balanced.schedules import epilogue
from tvm_balanced.schedules.epilogue import Vector, horner, like

LANES = 16
DEGREE = 4
END = 5.6  # beyond which gelu differs from relu by less than 6.1e-8
PIECES_TO_END = LANES - 0.5  # the first piece is the right half of one around 0


def gelu(x: Vector) -> Vector:
    """X * Phi(x) with the exact normal distribution function, absolute error 4e-7.

    It is relu(x) - |x| * Phi(-|x|), of which the latter is a polynomial of degree 4 on each of 16 pieces of [0, 5.6], with its
    coefficients picked by a permute each. The rational of `epilogue` takes three times the multiplications, and a division.
    """
    scale = PIECES_TO_END / END
    place = tirx.Var("place", f"float32x{LANES}")
    piece, bits = _rounded(place)
    coefficients = [_pick(table, bits) for table in _tables()]
    bump = horner(place - piece, *coefficients)
    inside = T.min(like(END - 0.01 / scale, x), T.abs(x))  # a constant first: NaN passes
    return epilogue.relu(x) - tirx.Let(place, inside * like(scale, x), bump)


def _rounded(x: Vector) -> tuple[Vector, Vector]:
    """Return the whole number next to x, of less than 2**22, as float32, and an int32 whose lowest bits are its own.

    A float32 of 1.5 * 2**23 has no bits for a fraction, so that a sum with it is rounded: no conversion is needed. Compilers for
    GPUs, which may take sums for exact, must not see it.
    """
    shift = like(1.5 * 2**23, x)
    bits = T.reinterpret(f"int32x{LANES}", x + shift)
    # read back from its bits, or TVM would take the difference for x
    return T.reinterpret(f"float32x{LANES}", bits) - shift, bits


def _pick(table: Array, index: Vector) -> Vector:
    """Return the entry of a table of 16 for each lane; the instruction ignores all but the lowest four bits."""
    entries = T.Shuffle([tirx.const(float(entry), "float32") for entry in table], list(range(LANES)))
    return T.call_llvm_pure_intrin(f"float32x{LANES}", "llvm.x86.avx512.permvar.sf.512", entries, index)


@functools.cache
def _tables() -> list[Array]:
    """Return the coefficients of x * Phi(-x) on each piece, highest power first, in pieces from its middle."""
    points = np.cos(np.pi * (np.arange(64) + 0.5) / 64) / 2

    def bump(place: float) -> float:
        x = place * END / PIECES_TO_END
        return x * math.erfc(x / math.sqrt(2)) / 2

    pieces = [_fit(np.abs(points) if piece == 0 else points, piece, bump) for piece in range(LANES)]
    return list(np.array(pieces, np.float32).T[::-1])


def _fit(points: Array, piece: int, function: Any) -> Array:
    values = [function(piece + point) for point in points]
    return np.polynomial.Chebyshev.fit(points, values, DEGREE).convert(kind=np.polynomial.Polynomial).coef


ACTIVATIONS = epilogue.ACTIVATIONS | {"gelu": gelu}
