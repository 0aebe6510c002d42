"""Transpose square tiles of vectors with register shuffles, as TensorIR expressions. A loop would
move single values.
"""

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

Vector = Any  # a PrimExpr with lanes
QUARTER = 4  # floats of 128 bits; interleaving inside such a quarter is what a vector unit does at the lowest cost


BARRIER_LANES = 16
BARRIER = """
define linkonce_odr <16 x float> @tvm_balanced_opaque(<16 x float> %v) alwaysinline nounwind willreturn memory(none) {
  %r = call <16 x float> asm "", "=v,0"(<16 x float> %v) nounwind willreturn memory(none)
  ret <16 x float> %r
}
"""


def optimization_barrier(vector: Vector) -> Vector:
    """Return a vector of sixteen unchanged, but hide its origin from LLVM. The function must import BARRIER."""
    return T.call_extern(f"float32x{BARRIER_LANES}", "tvm_balanced_opaque", vector)


def transpose_registers(rows: list[Vector], barrier: Callable[[Vector], Vector] = lambda vector: vector) -> list[Vector]:
    """Return the columns of a square float32 tile whose rows are 1, 2, 4, 8 or 16 vectors with as many lanes.

    A tile takes log2(lanes) shuffles per vector: pairs and fours are interleaved inside 128 bits,
    then quarters of registers are exchanged, as in a blocked transpose. `barrier` hides a vector
    from the compiler. Without it LLVM merges the shuffles of a tile of sixteen into 1.6 times as
    many and spills registers (docs/measurements/kernels.md).
    """
    lanes = len(rows)
    if lanes == 1:
        return rows
    quarter = min(lanes, QUARTER)
    for width in (1, 2):
        if width < quarter:
            rows = [_interleave(rows[i], rows[i + width], width, high) for i in _first_of_pairs(lanes, width) for high in (0, 1)]
    if lanes == quarter:
        return rows
    rows = [barrier(row) for row in rows]
    columns = [_exchange(rows[first::quarter], barrier) for first in range(quarter)]
    return [column[group] for group in range(lanes // quarter) for column in columns]


def _first_of_pairs(lanes: int, width: int) -> list[int]:
    return [i for i in range(lanes) if not i & width]


def _interleave(a: Vector, b: Vector, width: int, high: int) -> Vector:
    """Take `width` lanes of `a`, `width` lanes of `b`, and so on, from the low or high half of each quarter."""
    lanes = _lanes(a)
    quarter = min(lanes, QUARTER)
    starts = [base + high * quarter // 2 + j for base in range(0, lanes, quarter) for j in range(0, quarter // 2, width)]
    return _shuffle(a, b, [source + start + w for start in starts for source in (0, lanes) for w in range(width)])


def _exchange(vectors: list[Vector], barrier: Callable[[Vector], Vector]) -> list[Vector]:
    """Transpose a square tile of quarters: 2 or 4 vectors of as many quarters."""
    if len(vectors) == 2:
        return [_every_other(vectors[0], vectors[1], first) for first in (0, 1)]
    even, odd = ([barrier(_every_other(vectors[i], vectors[i + 1], first)) for i in (0, 2)] for first in (0, 1))
    return [_every_other(low, high, first) for first in (0, 1) for low, high in (even, odd)]


def _every_other(a: Vector, b: Vector, first: int) -> Vector:
    """Take every other quarter of `a`, then of `b`."""
    lanes = _lanes(a)
    quarters = range(first * QUARTER, lanes, 2 * QUARTER)
    return _shuffle(a, b, [source + start + w for source in (0, lanes) for start in quarters for w in range(QUARTER)])


def _shuffle(a: Vector, b: Vector, indices: list[int]) -> Vector:
    return T.Shuffle([a, b], indices)


def _lanes(vector: Vector) -> int:
    return int(vector.ty.dtype.lanes)
