"""The rounding of x as a function of its own, for kernels that begin with it and read the same x.

    round_rows(x (M, K) float32, values (M, columns), step (M,) float32[, zero (M,) int32])

Values are laid out as the kernels have them: `tir/rounded_rows.py`.
"""

from dataclasses import replace

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.schedules import ALL_KERNELS
from tvm_balanced.schedules.base.rounding import calls, split_rounding
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.few_queries import FLOPS
from tvm_balanced.schedules.tir.dot_products import MOVED_BY, moved_dot_products
from tvm_balanced.schedules.tir.rounded_rows import schedule_rounding

OPERATIONS = 8  # of an element: its extremes, its step, and rounding


def prim_func(workload: Workload) -> tirx.PrimFunc | None:
    """Return what rounds x for a layer, not scheduled yet; None if its kernel does not begin with that.

    Equal functions round x for each other's layers.
    """
    if workload.conv is not None or ALL_KERNELS[workload.kernel].precision != "int8":
        return None
    parts = split_rounding(ALL_KERNELS[workload.kernel].prim_func(replace(workload, rounded=False)))
    return None if parts is None else parts[0]


def schedule(func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target) -> tirx.PrimFunc:
    """Return what `prim_func` returned for a workload, scheduled as inside the kernel."""
    sch = Schedule(func)
    row = sch.get_loops(sch.get_sblock("extremes"))[0]
    schedule_rounding(sch, workload.m, workload.k)
    if calls(func, MOVED_BY):
        sch.annotate(row, "pragma_import_llvm", moved_dot_products(target))
    done = sch.mod["main"].with_attr("tirx.is_scheduled", True)
    return done if workload.m is None else done.with_attr(FLOPS, OPERATIONS * workload.m * workload.k)
