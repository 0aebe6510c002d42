"""ScheduleKernels: give each of our kernels' functions its default schedule."""

import tvm
from tvm import tirx

from tvm_balanced.schedules import KERNELS, Workload


@tvm.transform.module_pass(opt_level=0, name="ScheduleKernels")
class ScheduleKernels:
    """Schedule every function that carries a workload and is not scheduled yet, for the current target.

    rewrite: an unscheduled kernel function --> the same, scheduled with the kernel's default decisions and marked
    `tirx.is_scheduled`.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target = tvm.target.Target.current()
        scheduled = {}
        for var, func in mod.functions_items():
            workload = Workload.of(func) if isinstance(func, tirx.PrimFunc) else None
            if workload is not None and "tirx.is_scheduled" not in func.attrs:
                done = KERNELS[workload.kernel].schedule(func, workload, target)
                scheduled[var] = done.with_attr("tirx.is_scheduled", True)
        mod = tvm.IRModule(dict(mod.functions_items()), attrs=mod.attrs)
        mod.update(tvm.IRModule(scheduled))
        return mod
