"""ScheduleRemainder: schedule what no kernel of ours computes, so that a fast layer does not sit in a slow model."""

import logging

import tvm
from tvm import tirx

from tvm_balanced.schedules import RULES
from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs

log = logging.getLogger(__name__)


@tvm.transform.module_pass(opt_level=0, name="ScheduleRemainder")
class ScheduleRemainder:
    """Schedule every function that is not scheduled yet by the first rule that takes it, for the current target.

    rewrite: naive loops --> threads, vectors and registers, marked `tirx.is_scheduled`. A function that no rule takes stays
    as it is.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target = tvm.target.Target.current()

        def schedule_unscheduled(name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            done = None if "tirx.is_scheduled" in func.attrs else schedule(func, target, name)
            return None if done is None else done.with_attr("tirx.is_scheduled", True)

        return rewrite_prim_funcs(mod, schedule_unscheduled)


def schedule(func: tirx.PrimFunc, target: tvm.target.Target, name: str = "main") -> tirx.PrimFunc | None:
    """Return `func` scheduled by the first rule that takes it and can be applied, None where there is none."""
    for rule in RULES:
        try:
            done = rule.apply(func, target)
        except Exception as error:  # TVM raises many kinds; a form that the rule did not foresee is slow, not a failure
            log.debug("rule %s cannot schedule %s: %s", rule.name, name, error)
            continue
        if done is not None:
            return done
    return None
