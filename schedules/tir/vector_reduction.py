"""Sums and maxima along a row, kept in vectors of partial results.

If elements were added one by one, each would wait for the previous sum (three cycles on Zen 4), and
so would the sixteen results of a vector. A reduction therefore becomes several, each with fewer
results than the one before:

    384 elements  -->  64 results, four vectors  -->  16  -->  4  -->  1

A layer norm of width 384 is 1.5x as fast as with one vector: see docs/measurements/kernels.md.
"""

from itertools import pairwise
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

SHORT = 4  # lanes of the last vector, which is reduced value by value
VECTORS = 4  # vectors of partial results for a long row


def widths(width: int, length: int | None = None) -> list[int]:
    """Return the numbers of partial results of a row; each divides the one before, and `width` must
    divide the row's length.

    Without a length (rows that are computed several at a time) there is one vector.
    """
    wide = VECTORS * width
    is_long = length is not None and length >= 2 * wide and not length % wide
    return [count for count, narrower in pairwise([*([wide] if is_long else []), width, SHORT, 1]) if count > narrower]


def split_reduction(sch: Schedule, block: Any, counts: list[int]) -> list[Any]:
    """Split a reduction along its last loop into `counts` partial results, one after another;
    return their blocks in order.

    What is left of `block` reduces the last of them.
    """
    partials = []
    for count in counts:
        _, lane = sch.split(sch.get_loops(block)[-1], [None, count])
        # The lanes become the last dimension of the buffer. It may have more dimensions than there
        # are loops, because loops of extent 1 are dropped.
        partials.append(sch.rfactor(lane, factor_axis=len(sch.get(block).writes[0].region)))
    return partials


def vectorize_partial(sch: Schedule, partial: Any, width: int) -> None:
    """Vectorize the lanes of a block of partial results. The block has a loop for each of its axes."""
    axes = sch.get(partial).iter_vars
    lane, *others = sch.get_loops(partial)[-len(axes) :]  # rfactor puts the lane first
    steps = others.pop(next(i for i, axis in enumerate(axes[1:]) if axis.iter_type == tirx.IterVar.CommReduce))
    sch.reorder(*others, steps, lane)
    lanes = int(sch.get(lane).extent)
    if lanes > width:
        vector, lane = sch.split(lane, [None, width])
        sch.unroll(vector)
    sch.vectorize(lane)  # before decompose_reduction, after which the block is no longer a reduction
    init = sch.decompose_reduction(partial, steps)
    sch.vectorize(sch.get_loops(init)[-1])
