"""The state of one kernel in a run of the tuner."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.log.record import Measured, Trial, Winner
from tvm_balanced.tuning.search.base import Strategy
from tvm_balanced.tuning.tasks import Task

IMPROVES = 0.99  # a new best must take at most this share of the old one's time
FINALISTS = 3  # candidates timed against the default at the end: the best of noisy times is seldom the best
NEAR = 1.1  # and they take at most this much more time than the default


@dataclass
class State:
    """A task with its measurements.

    Parameters
    ----------
    task : Task
    space : Space
    strategy : Strategy
        Its `seen` holds the measurements of this run and earlier ones.
    trials : int
        Trials of this run.
    dense : float or None
        Seconds of the dense kernel on such a layer.
    stale : int
        Trials since the best improved.
    done : str
        Why it is no longer measured; empty while it is.
    winner : Winner or None
    known : tuple of tuples of int or None
        The winner of an earlier run, from the log that compiling a model would use now. It is
        measured second, and always raced.
    near : tuple
        What won for the nearest shapes, fitted to this space; measured next.
    """

    task: Task
    space: Space
    strategy: Strategy
    trials: int = 0
    dense: float | None = None
    stale: int = 0
    done: str = ""
    winner: Winner | None = None
    known: Decisions | None = None
    near: tuple[Decisions, ...] = ()

    @property
    def default(self) -> float | None:
        """Seconds of the default decisions, None until they are measured."""
        return self.strategy.seen.get(self.space.default)

    @property
    def best(self) -> float | None:
        """Seconds of the fastest candidate."""
        return min((s for s in self.strategy.seen.values() if s is not None), default=None)

    @property
    def model_seconds(self) -> float:
        """Seconds of a call of the model that this kernel takes with its best candidate, 0 until it is measured."""
        return self.task.calls * (self.best or 0.0)

    @property
    def fresh(self) -> bool:
        """Whether nothing was measured yet, not even the default."""
        return self.space.default not in self.strategy.seen

    def finalists(self) -> tuple[Decisions, ...]:
        """Return the fastest candidates besides the default that may beat it, and what has beaten it before."""
        limit = NEAR * (self.default or math.inf)
        seen = self.strategy.seen.items()
        fast = sorted((s, d) for d, s in seen if s is not None and s <= limit and d != self.space.default)
        held = [d for d in (self.known, self.winner.decisions if self.winner and self.winner.won else None) if d is not None]
        return tuple(dict.fromkeys([*(decisions for _, decisions in fast[:FINALISTS]), *held]))

    @property
    def to_race(self) -> bool:
        """Whether there are finalists without a race, or the log still has to record that nothing
        came near the default.
        """
        if self.winner is None:
            return len(self.strategy.seen) > 1
        return bool(set(self.finalists()) - set(self.winner.raced))

    def learn(self, results: Sequence[Measured], own: bool = True) -> None:
        """Take in measurements; `own` says that they count towards this run."""
        for result in results:
            before = self.best
            self.strategy.tell([result] if result.decisions in self.space else [])
            after = self.best
            if own:
                self.trials += 1
                self.stale = 0 if after is not None and (before is None or after < IMPROVES * before) else self.stale + 1

    def take(self, record: Trial | Winner, own: bool) -> None:
        """Take in a record of the log for this task."""
        if record.space != self.space.fingerprint:
            return
        if isinstance(record, Trial):
            self.learn([Measured(record.decisions, record.seconds, record.error)], own)
        else:
            self.winner = record
