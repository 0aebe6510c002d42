"""Strategies: which candidates of a space to measure next.

The spaces of our kernels are small, tens to hundreds of points, so that a strategy can look at every point that is left.
`docs/tuning.md` compares them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tvm

from tvm_balanced.encoding import Array
from tvm_balanced.environment import require_extra
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.decisions import Decisions, Space
from tvm_balanced.tuning.runner import Measured

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


class Exhaustive(Strategy):
    """Every point in turn, from the first."""

    def propose(self, count: int) -> list[Decisions]:
        return self.left()[:count]


class Replay(Strategy):
    """Points at random, as MetaSchedule's ReplayFunc samples them, but none twice."""

    def propose(self, count: int) -> list[Decisions]:
        left = self.left()
        return [left[i] for i in self.rng.permutation(len(left))[:count]]


class Model(Strategy):
    """Points at random first, then those that gradient-boosted trees over the decisions think fastest.

    Parameters
    ----------
    space : Space
    seed : int
    first : int
        Points at random before the model is asked.
    explore : float
        Share of each later batch that is drawn at random.
    """

    def __init__(self, space: Space, seed: int, first: int = 8, explore: float = 0.125) -> None:
        super().__init__(space, seed)
        self.first, self.explore = first, explore
        self.seed = seed

    def propose(self, count: int) -> list[Decisions]:
        left = self.left()
        known = {point: seconds for point, seconds in self.seen.items() if seconds is not None}
        if len(known) < self.first or not left:
            return [left[i] for i in self.rng.permutation(len(left))[:count]]
        score = predict(known, left, self.seed)
        chosen = [left[i] for i in np.argsort(score, kind="stable")[:count]]
        for place in range(len(chosen) - round(self.explore * len(chosen)), len(chosen)):
            others = [point for point in left if point not in chosen]
            chosen[place] = others[int(self.rng.integers(len(others)))] if others else chosen[place]
        return chosen


def predict(known: Mapping[Decisions, float], points: Sequence[Decisions], seed: int) -> Array:
    """Return the logarithm of the time that a model trained on `known` expects for each point."""
    require_extra("tune", ("xgboost",))
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=60, max_depth=4, learning_rate=0.2, n_jobs=1, random_state=seed)
    model.fit(features(list(known)), np.log(list(known.values())))
    return np.asarray(model.predict(features(points)))


def features(points: Sequence[Decisions]) -> Array:
    """Return (points, features): the logarithm of each factor, and of each product of two, as registers and caches see them."""
    flat = np.log2(np.array([[1 + value if value == 0 else value for d in point for value in d] for point in points], np.float64))
    pairs = [flat[:, i] + flat[:, j] for i in range(flat.shape[1]) for j in range(i)]
    return np.column_stack([flat, *pairs])


def evolutionary(space: Space, seed: int, workload: Workload, target: tvm.target.Target) -> Strategy:
    """Return MetaSchedule's evolutionary search with its XGBoost cost model."""
    from tvm_balanced.tuning.evolutionary import Evolutionary

    return Evolutionary(space, seed, workload, target)


Make = Callable[[Space, int, Workload, tvm.target.Target], Strategy]
STRATEGIES: dict[str, Make] = {
    "model": lambda space, seed, *_: Model(space, seed),
    "replay": lambda space, seed, *_: Replay(space, seed),
    "exhaustive": lambda space, seed, *_: Exhaustive(space, seed),
    "evolutionary": evolutionary,
}
DEFAULT: Any = "model"
