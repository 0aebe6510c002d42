"""Transposes on CPUs: square tiles in registers, or tiles that use each cache line of the input
completely before it leaves.
"""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.sym import detect_linear_equation

from tvm_balanced.schedules.base.expressions import divisor, variables
from tvm_balanced.schedules.base.rule import Rule
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM, analyse, extent, inline, trip_count
from tvm_balanced.schedules.tir.tile_transpose import llvm_imports, split_into_tiles, transpose_tiles

# Rows of a tile: as many as a cache line has floats. Without tiles, rows 1536 bytes apart evict
# each other from the first-level cache: 28.7 us instead of 7.9 for K of MiniLM's attention
# (docs/measurements/rules.md).
ROWS = 16


class CpuTranspose(Rule):
    """Functions without a reduction that read an input along another axis than the one they write along."""

    name = "cpu_transpose"

    def schedule(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        analysed = analyse(func)
        if analysed is None or not all(block.is_injective() for block in analysed[1]):
            return None
        sch, blocks = analysed
        for block in blocks[:-1]:
            inline(sch, block.block_rv, target)
        block = blocks[-1].block_rv
        loops = sch.get_loops(block)
        along = contiguous_loop(sch, block)
        if along is None:
            return None
        outer = [*loops[:along], *loops[along + 1 : -1]]
        squares = _in_squares(sch, block, outer, loops[along], loops[-1], target)
        if squares is not None:
            return squares
        rows, columns = extent(sch, loops[along]), extent(sch, loops[-1])
        width = divisor(columns, lanes(target)) if columns else 1
        height = divisor(rows, ROWS) if rows else 1
        if min(width, height) < 4:
            return None
        total = trip_count(sch, block)
        row, row_inner = sch.split(loops[along], [None, height])
        column, vector = sch.split(loops[-1], [None, width])
        outer.append(column)
        sch.reorder(*outer, row, row_inner, vector)
        sch.vectorize(vector)
        if total is None or total >= PARALLEL_FROM:
            sch.parallel(sch.fuse(*outer))
        return sch.mod["main"]


def _in_squares(sch: Schedule, block: Any, outer: list[Any], i: Any, j: Any, target: tvm.target.Target) -> tirx.PrimFunc | None:
    """Schedule a block as transpose tiles in registers along the loops `i` and `j`; None if that is impossible."""
    side, total = lanes(target), trip_count(sch, block)
    sch.reorder(*outer, i, j)
    name = split_into_tiles(sch, block, side)
    if name is None:
        return None
    *tasks, _row = sch.get_loops(sch.get_sblock(name))
    task = sch.fuse(*tasks)
    if total is None or total >= PARALLEL_FROM:
        sch.parallel(task)
    sch.annotate(task, "pragma_import_llvm", llvm_imports(side))
    return transpose_tiles(sch.mod["main"], {name})


def contiguous_loop(sch: Schedule, block: Any) -> int | None:
    """Return the loop along which an input is contiguous, if that is not the last loop and the last
    loop strides over the input.

    None if there is no such input, or if the loops are not the block's own axes.
    """
    axes = [axis.var for axis in sch.get(block).iter_vars]
    if len(axes) != len(sch.get_loops(block)):
        return None
    for region in sch.get(block).reads:
        *strided, contiguous = [dim.min for dim in region.region] or [None]
        if contiguous is None or _stride(contiguous, axes[-1]) != 0 or not any(_reads(i, axes[-1]) for i in strided):
            continue
        for position, axis in enumerate(axes[:-1]):
            if _stride(contiguous, axis) == 1 and not any(_reads(index, axis) for index in strided):
                return position
    return None


def _stride(index: tirx.Expr, axis: tirx.Var) -> int | None:
    """Return how far `index` moves for a step of `axis`, None if that is not one number."""
    found = detect_linear_equation(index, [axis]) if _reads(index, axis) else [0]
    return int(found[0]) if found and isinstance(found[0], (int, tirx.IntImm)) else None


def _reads(index: tirx.Expr, axis: tirx.Var) -> bool:
    return any(var.same_as(axis) for var in variables(index))


CPU_TRANSPOSE = CpuTranspose()
