"""What the plug-ins share: the run that they belong to, and the batch that is under way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.runners.base import Built, Runner

UNMEASURED = "it was not measured"  # the error of a candidate whose batch was ended before its turn: it is no trial


@dataclass
class Batch:
    """Candidates of one kernel on their way through MetaSchedule, and those that are built, by their artifact path."""

    workload: Workload
    points: Sequence[Decisions]
    built: dict[str, Built] = field(default_factory=dict)


class Session(Protocol):
    """A tuning run, as the plug-ins see it. MetaSchedule is written in C++: an exception that passes through it comes out as
    another, so the plug-ins hand it to `fail`.
    """

    runner: Runner

    @property
    def batch(self) -> Batch:
        """The batch that is under way."""

    @property
    def waiting(self) -> bool:
        """Whether there is one."""

    def next_task(self) -> int:
        """Return the number of the kernel to measure next, -1 to end."""

    def propose(self, task: int) -> list[Decisions]:
        """Return the candidates to measure next, and begin their batch; none if nothing is left to measure."""

    def begins(self, decisions: Decisions) -> bool:
        """Note that a candidate is built or measured now; return False if it has ended processes before."""

    def halted(self) -> bool:
        """Whether the batch is to end early."""

    def progressed(self) -> None:
        """Show progress."""

    def keep(self, task: int, results: Sequence[Measured]) -> None:
        """Keep the measurements of a batch, which is over."""

    def fail(self, error: BaseException) -> None:
        """End the run; its caller gets this exception."""

    def drop(self) -> None:
        """End the batch, of which nothing is kept."""
