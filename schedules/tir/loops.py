"""Loops and blocks of a schedule: trip counts, and the steps that several rules use."""

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.dlight.analysis import SBlockInfo, normalize_prim_func

from tvm_balanced.schedules.base.expressions import divisor
from tvm_balanced.schedules.base.target_info import lanes

# A loop over fewer elements costs less than waking the threads, which takes about 5 us.
PARALLEL_FROM = 16384
# An expression that reads so many elements is not inlined: twelve times x * x + x would read 531,441.
INLINED_READS = 32


def analyse(func: tirx.PrimFunc) -> tuple[Schedule, list[SBlockInfo]] | None:
    """Return a schedule of `func` and its blocks in order; None if the function is not a sequence
    of loops over blocks.
    """
    sch = Schedule(func)
    blocks = normalize_prim_func(sch)
    return None if not blocks else (sch, blocks)


def analyse_reduction(func: tirx.PrimFunc) -> tuple[Schedule, list[SBlockInfo], int] | None:
    """Return a schedule of `func`, its blocks in order, and the place of the one reduction among elementwise blocks; None if the
    function is something else.
    """
    analysed = analyse(func)
    if analysed is None:
        return None
    sch, blocks = analysed
    place = only_reduction(blocks)
    if place is None or not all(block.is_injective() for block in blocks if not block.is_reduction()):
        return None
    return sch, blocks, place


def extent(sch: Schedule, loop: Any) -> int | None:
    """Return a loop's trip count, None if it is symbolic."""
    count = sch.get(loop).extent
    return int(count) if isinstance(count, (int, tirx.IntImm)) else None


def trip_count(sch: Schedule, block: Any) -> int | None:
    """Return how often a block runs, None if that is symbolic."""
    total = 1
    for loop in sch.get_loops(block):
        count = extent(sch, loop)
        if count is None:
            return None
        total *= count
    return total


def only_reduction(blocks: Sequence[SBlockInfo]) -> int | None:
    """Return the index of the only reduction among `blocks`, None if there is no reduction or more than one."""
    places = [place for place, block in enumerate(blocks) if block.is_reduction()]
    return places[0] if len(places) == 1 else None


def inline(sch: Schedule, block: Any, target: tvm.target.Target) -> None:
    """Inline an elementwise block into its consumers. If it is costly, compute it once as a block of its own instead."""
    if is_costly(sch, block):
        elementwise(sch, block, target)
    else:
        sch.compute_inline(block)


def is_costly(sch: Schedule, block: Any) -> bool:
    """Whether a block is not to be inlined: it binds a variable, or reads `INLINED_READS` elements.

    A polynomial of ApproximateMath reads its argument twenty times, and a consumer may read the block twice: then its variable
    would be bound twice, and a chain of such blocks would grow exponentially.
    """
    found: list[Any] = []
    body = sch.get(block).body
    tvm_ffi.structural_walk(body, (tirx.Let, found.append))
    if found:
        return True
    tvm_ffi.structural_walk(body, (TensorLoad, found.append))
    return len(found) >= INLINED_READS


def elementwise(sch: Schedule, block: Any, target: tvm.target.Target) -> None:
    """Schedule one elementwise block: threads over the outer loops if there is enough work, vectors inside."""
    loops = sch.get_loops(block)
    if not loops:  # a single value
        return
    total = trip_count(sch, block)
    vectorize_last(sch, block, target)
    if len(loops) > 1 and (total is None or total >= PARALLEL_FROM):
        sch.parallel(sch.fuse(*loops[:-1]))


def vectorize_last(sch: Schedule, block: Any, target: tvm.target.Target) -> None:
    """Vectorize a block's innermost loop if its trip count is a multiple of a small number of lanes."""
    loop = sch.get_loops(block)[-1]
    count = extent(sch, loop)
    width = divisor(count, lanes(target)) if count else 1
    if width >= 4:
        sch.vectorize(sch.split(loop, [None, width])[1])


def without_threads(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a scheduled function for a CPU in which one thread runs every loop."""

    def serial(loop: tirx.For) -> tirx.For:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        # its annotations import what the body calls
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, None, loop.annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, serial)))
