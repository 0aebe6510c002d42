"""Activations for kernels of sixteen lanes with AVX-512, where tables in registers are cheaper than what `epilogue` computes."""

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
END = 5.6  # beyond which gelu differs from relu by less than 6.1e-8
PIECES_TO_END = LANES - 0.5  # the first piece is the right half of one around 0


def gelu(x: Vector) -> Vector:
    """X * Phi(x) with the exact normal distribution function, absolute error 4e-7.

    It is relu(x) - |x| * Phi(-|x|), of which the latter is a polynomial of degree 4 on each of 16 pieces of [0, 5.6], with its
    coefficients picked by a permute each. The rational of `epilogue` takes three times the multiplications, and a division. The
    polynomials are in |x| itself: in its distance from the middle of a piece they would be 1e-7 better and take 1.25x the time.
    """
    scale = PIECES_TO_END / END
    inside = tirx.Var("inside", f"float32x{LANES}")
    piece = _rounded(inside * like(scale, x))
    bump = horner(inside, *(_pick(table, piece) for table in _tables()))
    # a constant first: NaN passes
    return activations.relu(x) - tirx.Let(inside, T.min(like(END - 0.01 / scale, x), T.abs(x)), bump)


def _rounded(x: Vector) -> Vector:
    """Return an int32 whose lowest bits are those of the whole number next to x, which is less than 2**22.

    A float32 of 1.5 * 2**23 has no bits for a fraction, so that a sum with it is rounded: no conversion is needed. Compilers for
    GPUs, which may take sums for exact, must not see it.
    """
    return T.reinterpret(f"int32x{LANES}", x + like(1.5 * 2**23, x))


def _pick(table: Array, index: Vector) -> Vector:
    """Return the entry of a table of 16 for each lane; the instruction ignores all but the lowest four bits."""
    entries = T.Shuffle([tirx.const(float(entry), "float32") for entry in table], list(range(LANES)))
    return T.call_llvm_pure_intrin(f"float32x{LANES}", "llvm.x86.avx512.permvar.sf.512", entries, index)


@functools.cache
def _tables() -> list[Array]:
    """Return the coefficients of x * Phi(-x) on each piece, highest power first."""
    width = END / PIECES_TO_END
    middles = np.arange(LANES) * width
    pieces = [_fit(max(0.0, middle - width / 2), middle + width / 2) for middle in middles]
    return list(np.array(pieces, np.float32).T[::-1])


def _fit(begin: float, end: float) -> Array:
    points = (begin + end) / 2 + (end - begin) / 2 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    values = [x * math.erfc(x / math.sqrt(2)) / 2 for x in points]
    return np.polynomial.Chebyshev.fit(points, values, DEGREE).convert(kind=np.polynomial.Polynomial).coef


ACTIVATIONS = activations.ACTIVATIONS | {"gelu": gelu}
