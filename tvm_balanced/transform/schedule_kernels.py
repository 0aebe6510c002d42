"""ScheduleKernels: give each of our kernels' functions its schedule, tuned or default."""

import tvm
from tvm import tirx

from tvm_balanced.schedules import multi_kernel
from tvm_balanced.schedules.base.kernel import Tuned
from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs


@tvm.transform.module_pass(opt_level=0, name="ScheduleKernels")
class ScheduleKernels:
    """Schedule every function that carries a workload and is not scheduled yet, for the current target.

    rewrite: an unscheduled kernel function --> the same, scheduled and marked `tirx.is_scheduled`.

    Parameters
    ----------
    tuned : callable, optional
        From a workload to its decisions, None for the kernel's defaults; see `Kernel.schedule`.
    """

    def __init__(self, tuned: Tuned | None = None) -> None:
        self.tuned = tuned

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target, tuned = tvm.target.Target.current(), self.tuned

        def schedule(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            scheduled = None if "tirx.is_scheduled" in func.attrs else multi_kernel.schedule(func, target, tuned)
            return None if scheduled is None else scheduled.with_attr("tirx.is_scheduled", True)

        return rewrite_prim_funcs(mod, schedule)
