"""AnnotateScheduleRule: tell MetaSchedule's default space generator how our kernels' functions are scheduled."""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs

ANNOTATION = "schedule_rule"  # of a block: MetaSchedule's name of the custom rule that schedules it
RULE = "tvm_balanced"
REGISTERED = "s_tir.meta_schedule.{key}." + RULE  # MetaSchedule looks a rule up for each key of the target
KEYS = ("cpu", "cuda")
NO_RULE = "None"  # MetaSchedule's word for a block that no rule is to touch


@tvm.transform.module_pass(opt_level=0, name="AnnotateScheduleRule")
class AnnotateScheduleRule:
    """Annotate the blocks of every kernel function that can be tuned, so that `PostOrderApply` samples the kernel's own space.

    rewrite: the first block under the root gets `schedule_rule = "tvm_balanced"`, all others `"None"`. A function that is
    scheduled already, or whose M is known only at the call, stays as it is: MetaSchedule tunes static shapes.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewrite_prim_funcs(mod, lambda _name, func: annotated(func))


def annotated(func: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Return `func` with its blocks annotated, None if it is no kernel of ours that can be tuned."""
    workload = Workload.of(func)
    if workload is None or workload.m is None or "tirx.is_scheduled" in func.attrs:
        return None
    sch = Schedule(func.with_attr("estimated_flops", workload.flops))
    root = sch.get_sblock("root")
    for place, block in enumerate(_below(sch, root)):
        sch.annotate(block, ANNOTATION, NO_RULE if place else RULE)
    sch.annotate(root, ANNOTATION, NO_RULE)
    return sch.mod["main"]


def sample(sch: Schedule, _block: Any = None) -> list[Schedule]:
    """Schedule a kernel's function by the kernel's own space, for the current target: MetaSchedule's custom rule, and a function
    for its `ScheduleFn`.

    Parameters
    ----------
    sch : Schedule
        Of a module whose one function is "main"; it is changed in place.

    Raises
    ------
    ValueError
        If that function is no kernel of ours, or no target is set.
    """
    workload, target = Workload.of(sch.mod["main"]), tvm.target.Target.current(allow_none=True)
    if workload is None or target is None:
        raise ValueError("the function is no kernel of tvm_balanced, or there is no current target; schedule it by another rule")
    KERNELS[workload.kernel].space(sch, workload, target)
    return [sch]


def register() -> None:
    """Register the custom rule with MetaSchedule."""
    for key in KEYS:
        tvm.register_global_func(REGISTERED.format(key=key), sample, override=True)


def _below(sch: Schedule, block: Any) -> list[Any]:
    """Return all blocks below a block, from the outside in."""
    found = []
    for child in sch.get_child_blocks(block):
        found += [child, *_below(sch, child)]
    return found
