"""Strategies: they choose which candidates of a space to measure next.

The spaces of our kernels are small (tens to hundreds of points), so a strategy can look at every
remaining point. `docs/measurements/tuning.md` compares the strategies.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.log.record import Measured

WHOLE = 1 << 16  # a larger space is sampled down to so many points


class Strategy(ABC):
    """Proposes candidates of one space.

    Parameters
    ----------
    space : Space
    seed : int
        The same seed and the same times give the same candidates.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed
        self.seen: dict[Decisions, float | None] = {}  # seconds of each measured candidate, None if it failed

    def begin(self, design_spaces: Any, database: Any, cost_model: Any) -> None:  # noqa: B027  most strategies need none of it
        """Take what MetaSchedule gives a strategy before it asks for candidates."""

    @abstractmethod
    def propose(self, count: int) -> list[Decisions]:
        """Return at most `count` candidates that were not measured yet; none if the space is exhausted."""

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers that depend on the seed and on how much was measured: a resumed run draws
        the same as an uninterrupted one.
        """
        return np.random.default_rng((self.seed, len(self.seen)))

    def tell(self, results: Sequence[Measured]) -> None:
        """Learn measurements, proposed by this strategy or another. If a point was measured twice,
        the better time counts.
        """
        for result in results:
            times = [s for s in (self.seen.get(result.decisions), result.seconds) if s is not None]
            self.seen[result.decisions] = min(times, default=None)

    def left(self) -> list[Decisions]:
        """Return the points that were not measured yet."""
        if len(self.space) <= WHOLE:
            return [point for point in self.space if point not in self.seen]
        drawn = {self.space.at(int(i)): None for i in self.rng.integers(0, len(self.space), WHOLE)}
        return [point for point in drawn if point not in self.seen]
