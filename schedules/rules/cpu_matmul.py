"""Matmuls of two activations on CPUs, as in attention: a tile of the result in registers, vectors
along its columns.
"""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.schedules.base.expressions import divisor
from tvm_balanced.schedules.base.rule import Rule
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.tir.loops import analyse, extent, inline, is_costly, only_reduction

ROWS, VECTORS = 6, 4  # tile in registers: 24 accumulators of AVX-512's 32 registers


class CpuMatmul(Rule):
    """One matmul (..., M, K) @ (..., K, N). Elementwise blocks before it are inlined; those after
    it are fused into the tile.
    """

    name = "cpu_matmul"

    def schedule(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        analysed = analyse(func)
        if analysed is None:
            return None
        sch, blocks = analysed
        place = only_reduction(blocks)
        if place is None or blocks[place].dom_kind().count("R") != 1 or not blocks[place].dom_kind().endswith("SSR"):
            return None
        matmul = blocks[place].block_rv
        if not _is_product(sch, matmul):
            return None
        for block in blocks[:place]:
            inline(sch, block.block_rv, target)
        return _tile(sch, matmul, _epilogue(sch, [block.block_rv for block in blocks[place + 1 :]]), target)


def _is_product(sch: Schedule, block: Any) -> bool:
    reads = sch.get(block).reads
    return len(reads) == 2 and all(len(region.region) >= 2 for region in reads)


def _epilogue(sch: Schedule, after: list[Any]) -> list[Any]:
    """Inline blocks after the matmul into those that stay: the last one, and what is costly."""
    staying = []
    for block in after[:-1]:
        if is_costly(sch, block):
            sch.set_scope(block, 0, "local")
            staying.append(block)
        else:
            sch.compute_inline(block)
    return [*staying, *after[-1:]]


def _tile(sch: Schedule, matmul: Any, epilogue: list[Any], target: tvm.target.Target) -> tirx.PrimFunc | None:
    *batch, i, j, k = sch.get_loops(matmul)
    rows, columns = extent(sch, i), extent(sch, j)
    if columns is None:
        return None
    width = divisor(columns, lanes(target))
    if width < 4:
        return None
    vectors = divisor(columns // width, VECTORS if lanes(target) >= 16 else 2)
    height = divisor(rows, ROWS if lanes(target) >= 16 else 4) if rows else 1
    io, ii = sch.split(i, [None, height])
    jo, ji, jv = sch.split(j, [None, vectors, width])
    sch.reorder(*batch, io, jo, k, ii, ji, jv)
    if epilogue:
        sch.set_scope(matmul, 0, "local")
    for block in epilogue or [sch.cache_write(matmul, 0, "local")]:
        sch.reverse_compute_at(block, jo)
        sch.vectorize(sch.split(sch.get_loops(block)[-1], [None, width])[1])
    sch.parallel(sch.fuse(*batch, io))
    sch.vectorize(jv)
    sch.unroll(ii)
    sch.unroll(ji)
    init = sch.decompose_reduction(matmul, k)
    *_, init_rows, init_vectors, _ = sch.get_loops(init)
    sch.unroll(init_rows)
    sch.unroll(init_vectors)
    return sch.mod["main"]


CPU_MATMUL = CpuMatmul()
