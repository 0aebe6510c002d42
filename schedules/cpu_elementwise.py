"""Elementwise functions on CPUs: everything inlined into the last block, threads over the outer loops, vectors inside."""

import tvm
from tvm import tirx

from tvm_balanced.schedules.rule import PARALLEL_FROM, Rule, analyse, vectorize_last, work


class CpuElementwise(Rule):
    """Functions without a reduction: additions, casts, transposes, reshapes, lookups."""

    name = "cpu_elementwise"

    def apply(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        analysed = analyse(func)
        if analysed is None or not all(block.is_injective() for block in analysed[1]):
            return None
        sch, blocks = analysed
        for block in blocks[:-1]:
            sch.compute_inline(block.block_rv)
        last = blocks[-1].block_rv
        total = work(sch, last)
        *outer, _ = sch.get_loops(last)
        vectorize_last(sch, last, target)
        if outer and (total is None or total >= PARALLEL_FROM):
            sch.parallel(sch.fuse(*outer))
        return sch.mod["main"]


CPU_ELEMENTWISE = CpuElementwise()
