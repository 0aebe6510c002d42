"""Sums and maxima along a row, kept in vectors of partial results.

One by one, each element would wait for the sum before it, which takes three cycles of Zen 4, and so would the sixteen results of
a vector. So a reduction becomes several, each of fewer results than the one before:

    384 elements  -->  64 results, four vectors  -->  16  -->  4  -->  1

As fast as one vector, whose results are added one by one, one thread of Zen 4: layer norm 1.4x (128 wide), 1.5x (384), 1.4x (768)
and 1.2x (4096), softmax 1.15, 1.1, 1.1 and 1.07x; two vectors and eight are within 5% of four.
"""

from itertools import pairwise
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

SHORT = 4  # lanes of the last vector, which is added up value by value
VECTORS = 4  # of results of a long row


def widths(width: int, length: int | None = None) -> list[int]:
    """Return the numbers of partial results of a row, of which each divides the one before; `width` has to divide its length.

    Without a length, for rows of which several are computed at once, there is one vector of them.
    """
    wide = VECTORS * width
    is_long = length is not None and length >= 2 * wide and not length % wide
    return [count for count, narrower in pairwise([*([wide] if is_long else []), width, SHORT, 1]) if count > narrower]


def split_reduction(sch: Schedule, block: Any, counts: list[int]) -> list[Any]:
    """Have a reduction along its last loop make `counts` partial results, one after another; return their blocks in order.

    What is left of `block` reduces the last of them.
    """
    partials = []
    for count in counts:
        _, lane = sch.split(sch.get_loops(block)[-1], [None, count])
        # The lanes become the last dimension of the buffer, which may have more than the loops: those of extent 1 have none.
        partials.append(sch.rfactor(lane, factor_axis=len(sch.get(block).writes[0].region)))
    return partials


def vectorize_partial(sch: Schedule, partial: Any, width: int) -> None:
    """Vectorize a block of partial results, which has a loop for each of its axes, over its lanes, around no other loop."""
    axes = sch.get(partial).iter_vars
    lane, *others = sch.get_loops(partial)[-len(axes) :]  # rfactor puts the lane first
    steps = others.pop(next(i for i, axis in enumerate(axes[1:]) if axis.iter_type == tirx.IterVar.CommReduce))
    sch.reorder(*others, steps, lane)
    lanes = int(sch.get(lane).extent)
    if lanes > width:
        vector, lane = sch.split(lane, [None, width])
        sch.unroll(vector)
    sch.vectorize(lane)  # before decompose_reduction, after which the block is no reduction any more
    init = sch.decompose_reduction(partial, steps)
    sch.vectorize(sch.get_loops(init)[-1])
