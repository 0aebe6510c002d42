"""Rule: a way to schedule functions of TVM's own operators, those that none of our kernels computes."""

import logging
from abc import ABC, abstractmethod
from typing import ClassVar

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.dlight import ScheduleRule

log = logging.getLogger(__name__)


class Rule(ScheduleRule, ABC):
    """One way to schedule a function; one of TVM's dlight, so that any pipeline can take it.

    `dl.ApplyDefaultSchedule(*RULES)`, under a target, schedules each function of a module that is not scheduled yet by the first
    rule that takes it. A rule has no state: one instance serves any number of functions, targets and threads.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ("llvm",)  # of targets

    def is_target_available(self, target: tvm.target.Target) -> bool:
        """Whether this rule schedules for targets of such a kind."""
        return target.kind.name in self.kinds

    def apply(self, func: tirx.PrimFunc, target: tvm.target.Target, tunable: bool = False) -> Schedule | None:
        """Schedule a function as dlight has it: what this rule cannot schedule is left to the next one.

        Called by TVM's pass ApplyDefaultSchedule, and by ours, ScheduleRemainder, once for each function of a module.

        Parameters
        ----------
        func : tirx.PrimFunc
            Of TVM's own operators, as LegalizeOps and FuseTIR leave it: loops around blocks with declared regions, shapes int64,
            known or symbolic, any dtype. It is not changed.
        target : tvm.target.Target
        tunable : bool
            Ignored: a rule decides by shapes and the target alone, and its schedules have nothing to tune.

        Returns
        -------
        Schedule or None
            A schedule of one function, "main", with the parameters, attributes and results of `func`. None if `target` is of
            another kind, if the rule is not for such functions, or if TVM refused a step of it or what came of it. An error is not raised but
            logged at debug level: a form that a rule did not foresee makes for a slow function, not for a failure.
        """
        if not self.is_target_available(target):
            return None
        try:
            done = self.schedule(func, target)
            return None if done is None else Schedule(done)
        except Exception as error:  # TVM raises many kinds
            log.debug("rule %s cannot schedule %s: %s", self.name, (func.attrs or {}).get("global_symbol", "a function"), error)
            return None

    @abstractmethod
    def schedule(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        """Schedule a function.

        Parameters
        ----------
        func : tirx.PrimFunc
            As `apply` gets it.
        target : tvm.target.Target
            Of one of `kinds`; its features decide the width of vectors.

        Returns
        -------
        tirx.PrimFunc or None
            The function scheduled, or None if this rule is not for such functions; that is decided by what its blocks compute,
            never by its name.

        Raises
        ------
        Exception
            Whatever TVM raises if a step of a schedule does not apply; `apply` takes that for None.
        """
