"""ScheduleKernels: give each of our kernels' functions its default schedule."""

import tvm
from tvm import tirx

from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs


@tvm.transform.module_pass(opt_level=0, name="ScheduleKernels")
class ScheduleKernels:
    """Schedule every function that carries a workload and is not scheduled yet, for the current target.

    rewrite: an unscheduled kernel function --> the same, scheduled with the kernel's default decisions and marked
    `tirx.is_scheduled`.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target = tvm.target.Target.current()

        def schedule(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            workload = Workload.of(func)
            if workload is None or "tirx.is_scheduled" in func.attrs:
                return None
            return KERNELS[workload.kernel].schedule(func, workload, target).with_attr("tirx.is_scheduled", True)

        return rewrite_prim_funcs(mod, schedule)
