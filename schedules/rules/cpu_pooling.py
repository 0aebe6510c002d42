"""Pooling: the windows of one channel at a time, a row of results in vectors, threads over images and channels."""

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.dlight.analysis import SBlockInfo

from tvm_balanced.schedules.base.expressions import variables
from tvm_balanced.schedules.base.rule import Rule
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM, analyse_reduction, trip_count, vectorize_last


class CpuPooling(Rule):
    """One maximum or sum over windows (..., rows, columns), a padding before it, and elementwise blocks after it.

    The padded channel, its results and what follows stay in the first-level caches.
    """

    name = "cpu_pooling"

    def schedule(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        analysed = analyse_reduction(func)
        if analysed is None:
            return None
        sch, blocks, place = analysed
        axes = _window_axes(sch, blocks[place])
        if not axes:
            return None
        pool, before, after = blocks[place].block_rv, blocks[:place], blocks[place + 1 :]
        loops, total = sch.get_loops(pool), trip_count(sch, pool)
        spatial, windows = loops[: len(loops) - axes], loops[len(loops) - axes :]
        *outer, column = spatial
        channels, rows = outer[: len(outer) - axes + 1], outer[len(outer) - axes + 1 :]
        sch.reorder(*channels, *rows, *windows, column)
        channel = sch.fuse(*channels)
        for block in reversed(before):
            sch.compute_at(block.block_rv, channel, preserve_unit_loops=True)
        for block in after:
            sch.reverse_compute_at(block.block_rv, channel, preserve_unit_loops=True)
            vectorize_last(sch, block.block_rv, target)
        if total is None or total >= PARALLEL_FROM:
            sch.parallel(channel)
        vectorize_last(sch, pool, target)
        vectorize_last(sch, sch.decompose_reduction(pool, windows[0]), target)
        return sch.mod["main"]


def _window_axes(sch: Schedule, block: SBlockInfo) -> int:
    """Return how many axes the windows of a block have; 0 if it does not read its one input in windows of its results."""
    kinds, found = block.dom_kind(), sch.get(block.block_rv)
    axes = kinds.count("R")
    outer = len(kinds) - 2 * axes  # images and channels; one image has no axis
    if outer < 1 or kinds != "S" * (outer + axes) + "R" * axes or len(found.reads) != 1:
        return 0
    spatial = [axis.var for axis in found.iter_vars[outer : outer + axes]]
    windows = [axis.var for axis in found.iter_vars[outer + axes :]]
    reads = [variables(part.min) for part in found.reads[0].region[-axes:]]
    for row, window, read in zip(spatial, windows, reads, strict=True):
        known = [any(var.same_as(own) for var in read) for own in (row, window)]
        if len(read) != 2 or not all(known):
            return 0
    return axes


CPU_POOLING = CpuPooling()
