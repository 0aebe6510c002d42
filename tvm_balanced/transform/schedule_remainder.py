"""ScheduleRemainder: schedule what no kernel of ours computes, so that a fast layer does not sit in a slow model."""

import tvm
from tvm import tirx

from tvm_balanced.schedules import RULES
from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs


@tvm.transform.module_pass(opt_level=0, name="ScheduleRemainder")
class ScheduleRemainder:
    """Schedule every function that is not scheduled yet by the first rule that takes it, for the current target.

    rewrite: naive loops --> threads, vectors and registers, marked `tirx.is_scheduled`. A function that no rule takes stays
    as it is.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target = tvm.target.Target.current()

        def schedule_unscheduled(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            done = None if "tirx.is_scheduled" in func.attrs else schedule(func, target)
            return None if done is None else done.with_attr("tirx.is_scheduled", True)

        return rewrite_prim_funcs(mod, schedule_unscheduled)


def schedule(func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
    """Return `func` scheduled by the first rule that takes it and can be applied, None if there is none."""
    schedules = (rule.apply(func, target) for rule in RULES)
    return next((found.mod["main"] for found in schedules if found is not None), None)
