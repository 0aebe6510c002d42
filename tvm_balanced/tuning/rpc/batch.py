"""Candidates on their way to servers: which ones wait or run, and the result of each."""

import queue
from dataclasses import dataclass, field
from pathlib import Path

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.tuning.log.record import Measured

ATTEMPTS = 2  # at a candidate whose server died or was too slow


@dataclass
class Job:
    """A candidate on its way: its library, how often it was tried, and when the last attempt began."""

    decisions: Decisions
    library: Path
    attempts: int = 0
    began: float = 0.0


@dataclass
class Batch:
    """One call of `RpcRunner.measure`: workers take jobs until it is closed."""

    workload: Workload
    jobs: "queue.SimpleQueue[Job | None]" = field(default_factory=queue.SimpleQueue)
    results: "queue.SimpleQueue[Measured]" = field(default_factory=queue.SimpleQueue)
    running: dict[int, Job] = field(default_factory=dict)  # by worker
    closed: bool = False
    trouble: str = ""  # why the last server could not be connected

    def failed(self, job: Job, error: str) -> None:
        """Let another worker try a job, unless it was tried often enough."""
        if job.attempts < ATTEMPTS:
            self.jobs.put(job)
        else:
            self.results.put(Measured(job.decisions, None, error))
