"""Sums and maxima over an axis other than the last, as in mean pooling: vectors of columns in
registers, one row after another.
"""

import itertools
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.schedules.base.expressions import divisor
from tvm_balanced.schedules.base.rule import Rule
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM, analyse_reduction, elementwise, extent, inline, trip_count

VECTORS = 8  # vectors of a tile: hardware prefetch follows as many lines of each row, and the sums do not wait for each other


class CpuColumnwise(Rule):
    """One reduction (..., R, N) --> (..., N). Elementwise blocks before it are inlined; those after
    it are scheduled on their own.
    """

    name = "cpu_columnwise"

    def schedule(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        analysed = analyse_reduction(func)
        if analysed is None:
            return None
        sch, blocks, place = analysed
        reduction = blocks[place].block_rv
        if not _is_over_rows(sch, reduction):
            return None
        for block in blocks[:place]:
            inline(sch, block.block_rv, target)
        done = _tile(sch, reduction, _trailing(sch, reduction), lanes(target))
        for block in blocks[place + 1 :]:
            elementwise(sch, block.block_rv, target)
        return sch.mod["main"] if done else None


def _is_over_rows(sch: Schedule, reduction: Any) -> bool:
    """Whether a block reads one buffer whose last axis is that of the buffer it writes."""
    block = sch.get(reduction)
    axes = {axis.var: axis.iter_type for axis in block.iter_vars}
    if len(block.reads) != 1 or len(block.writes) != 1 or not block.writes[0].region:
        return False
    columns = block.writes[0].region[-1].min
    return axes.get(columns) == tirx.IterVar.DataPar and block.reads[0].region[-1].min.same_as(columns)


def _trailing(sch: Schedule, reduction: Any) -> int:
    """How many last axes a block reads as it writes them, so that they are one axis, as the pixels of an image."""
    block = sch.get(reduction)
    read, written = (region[0].region for region in (block.reads, block.writes))
    pairs = zip(reversed(read), reversed(written), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0].min.same_as(pair[1].min), pairs)))


def _tile(sch: Schedule, reduction: Any, trailing: int, width: int) -> bool:
    axes = list(zip(sch.get(reduction).iter_vars, sch.get_loops(reduction), strict=True))
    rows = [loop for axis, loop in axes if axis.iter_type == tirx.IterVar.CommReduce]
    *outer, columns = [loop for axis, loop in axes if axis.iter_type == tirx.IterVar.DataPar]
    count = extent(sch, columns)
    while trailing > 1 and outer and count and count % width and extent(sch, outer[-1]):
        columns, trailing = sch.fuse(outer.pop(), columns), trailing - 1
        count = extent(sch, columns)
    if not count or count % width:
        return False
    total = trip_count(sch, reduction)
    across, vector, lane = sch.split(columns, [None, divisor(count // width, VECTORS), width])
    sch.reorder(*outer, across, *rows, vector, lane)
    store = sch.cache_write(reduction, 0, "global")  # each task would ask the runtime for "local" memory: 0.3x for two rows
    sch.reverse_compute_at(store, across)
    task = sch.fuse(*outer, across)
    if total is None or total >= PARALLEL_FROM:
        sch.parallel(task)
    sch.vectorize(lane)
    sch.unroll(vector)
    sch.vectorize(sch.split(sch.get_loops(store)[-1], [None, width])[1])
    *_, vector, lane = sch.get_loops(sch.decompose_reduction(reduction, rows[0]))
    sch.unroll(vector)
    sch.vectorize(lane)
    return True


CPU_COLUMNWISE = CpuColumnwise()
