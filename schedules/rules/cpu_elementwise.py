"""Elementwise functions on CPUs: everything inlined into the last block, threads over the outer loops, vectors inside."""

import tvm
from tvm import tirx

from tvm_balanced.schedules.base.rule import Rule
from tvm_balanced.schedules.tir.loops import analyse, elementwise, inline


class CpuElementwise(Rule):
    """Functions without a reduction: additions, casts, transposes, reshapes, lookups."""

    name = "cpu_elementwise"

    def schedule(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        analysed = analyse(func)
        if analysed is None or not all(block.is_injective() for block in analysed[1]):
            return None
        sch, blocks = analysed
        for block in blocks[:-1]:
            inline(sch, block.block_rv, target)
        elementwise(sch, blocks[-1].block_rv, target)
        return sch.mod["main"]


CPU_ELEMENTWISE = CpuElementwise()
