"""Strategies: which candidates of a space to measure next.

The spaces of our kernels are small, tens to hundreds of points, so that a strategy can look at every point that is left.
`docs/tuning.md` compares them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.log.record import Measured

WHOLE = 1 << 16  # points of a space that are looked at one by one; of a larger one a sample of as many


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
        self.seen: dict[Decisions, float | None] = {}  # what was measured, None where it failed

    @abstractmethod
    def propose(self, count: int) -> list[Decisions]:
        """Return at most `count` candidates that were not measured yet; none where the space is exhausted."""

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers that follow from the seed and how much was measured: a resumed run draws what it would have drawn."""
        return np.random.default_rng((self.seed, len(self.seen)))

    def tell(self, results: Sequence[Measured]) -> None:
        """Learn what was measured, by this strategy or another; of a point measured twice the better time counts."""
        for result in results:
            times = [s for s in (self.seen.get(result.decisions), result.seconds) if s is not None]
            self.seen[result.decisions] = min(times, default=None)

    def left(self) -> list[Decisions]:
        """Return the points that were not measured yet."""
        if len(self.space) <= WHOLE:
            return [point for point in self.space if point not in self.seen]
        drawn = {self.space.at(int(i)): None for i in self.rng.integers(0, len(self.space), WHOLE)}
        return [point for point in drawn if point not in self.seen]
