"""Softmax, layer norm and similar functions on CPUs: one row at a time; all stages of a row run
while it is in the cache.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.dlight.analysis import SBlockInfo

from tvm_balanced.schedules.base.expressions import variables
from tvm_balanced.schedules.base.rule import Rule
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM, analyse, extent, trip_count, vectorize_last
from tvm_balanced.schedules.tir.vector_reduction import SHORT, split_reduction, vectorize_partial, widths


class CpuRowwise(Rule):
    """Functions of reductions along the last axis and elementwise blocks, all over the same rows."""

    name = "cpu_rowwise"

    def schedule(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        analysed = _with_result(func)
        if analysed is None or len(analysed[1]) < 2:
            return None
        sch, blocks = analysed
        rows = _shared_rows(blocks)
        reductions = [block for block in blocks if block.is_reduction()]
        if not rows or not reductions:
            return None
        has_columns = any(len(sch.get_loops(block.block_rv)) > rows for block in blocks if not block.is_reduction())
        if has_columns and not all(_is_along_row(sch, block) for block in reductions):
            return None
        total = trip_count(sch, blocks[-1].block_rv)
        stages = [stage for block in blocks for stage in _stages(sch, block, rows, lanes(target))]
        outer = sch.fuse(*sch.get_loops(stages[-1].block)[:rows])
        if total is None or total >= PARALLEL_FROM:
            sch.parallel(outer)
        for stage in reversed(stages[:-1]):
            sch.compute_at(stage.block, outer, preserve_unit_loops=True)
        for stage in stages:
            _vectorize(sch, stage, target)
        return sch.mod["main"]


def _with_result(func: tirx.PrimFunc) -> tuple[Schedule, list[SBlockInfo]] | None:
    """Return a schedule and its blocks, of which the last is elementwise: what is a reduction at the end writes through one."""
    analysed = analyse(func)
    if analysed is None or not analysed[1][-1].is_reduction():
        return analysed
    sch, blocks = analysed
    if len(sch.get(blocks[-1].block_rv).writes) != 1 or not _is_along_row(sch, blocks[-1], all):
        return None
    sch.cache_write(blocks[-1].block_rv, 0, "global")
    return analyse(sch.mod["main"])


@dataclass(frozen=True)
class _Stage:
    """A block and its kind: vectors of partial results, a reduction to one value, or elementwise."""

    block: Any
    kind: str


def _stages(sch: Schedule, block: SBlockInfo, rows: int, width: int) -> list[_Stage]:
    """Split a reduction along the row into vectors of partial results and their reduction."""
    if not block.is_reduction():
        return [_Stage(block.block_rv, "elementwise")]
    loops = sch.get_loops(block.block_rv)
    length = extent(sch, loops[-1])
    while length is not None and length % width and width > SHORT:  # a row of 1000 has whole vectors of 8
        width //= 2
    if length is None or length % width or length < 2 * width or len(loops) != rows + 1:
        return [_Stage(block.block_rv, "reduction")]
    partials = split_reduction(sch, block.block_rv, widths(width, length))
    return [*(_Stage(partial, "partial") for partial in partials), _Stage(block.block_rv, "reduction")]


def _vectorize(sch: Schedule, stage: _Stage, target: tvm.target.Target) -> None:
    if stage.kind == "partial":
        vectorize_partial(sch, stage.block, lanes(target))
    # the only loop left may be the one over rows; LLVM has booleans in bytes and in bits, and joins no vectors of both
    elif stage.kind == "elementwise" and len(sch.get_loops(stage.block)) > 1 and not _writes_booleans(sch, stage.block):
        vectorize_last(sch, stage.block, target)


def _writes_booleans(sch: Schedule, block: Any) -> bool:
    return any(str(write.source.dtype) == "bool" for write in sch.get(block).writes)


def _is_along_row(sch: Schedule, reduction: SBlockInfo, of: Callable[[Iterable[bool]], bool] = any) -> bool:
    """Whether a reduction reads contiguous elements from any (or all) of its buffers. Over another axis, each of its results
    would be recomputed for every row.
    """
    block = sch.get(reduction.block_rv)
    reduced = [axis.var for axis in block.iter_vars if axis.iter_type == tirx.IterVar.CommReduce]
    innermost = (next((used for dim in reversed(read.region) if (used := variables(dim.min))), []) for read in block.reads)
    return of(any(var.same_as(axis) for var in used for axis in reduced) for used in innermost)


def _shared_rows(blocks: list[SBlockInfo]) -> int:
    """Return how many leading loops, all spatial, the blocks have in common."""
    kinds = [block.dom_kind() for block in blocks]
    leading = [len(kind) - len(kind.lstrip("S")) for kind in kinds]
    reduced = [lead for kind, lead in zip(kinds, leading, strict=True) if "R" in kind]
    if not reduced or any(kind.count("R") > 1 or not kind.endswith("R") for kind in kinds if "R" in kind):
        return 0
    rows = min(reduced)
    return rows if all(lead >= rows for lead in leading) else 0


CPU_ROWWISE = CpuRowwise()
