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
    library : bool
        Whether dense layers ask a library of the process first; see `schedules.library_call`.
    """

    def __init__(self, tuned: Tuned | None = None, library: bool = False) -> None:
        self.tuned, self.library = tuned, library

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target, tuned, library = tvm.target.Target.current(), self.tuned, self.library

        def schedule(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            scheduled = None if "tirx.is_scheduled" in func.attrs else multi_kernel.schedule(func, target, tuned, library)
            return None if scheduled is None else scheduled.with_attr("tirx.is_scheduled", True)

        return rewrite_prim_funcs(mod, schedule)
