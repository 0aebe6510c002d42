"""Search by a model: gradient-boosted trees rank the remaining points."""

from collections.abc import Mapping, Sequence

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.runtime.environment import require_extra
from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.search.base import Strategy


class Model(Strategy):
    """Random points first, then those that gradient-boosted trees over the decisions predict to be fastest.

    Parameters
    ----------
    space : Space
    seed : int
    first : int
        Random points before the model is used.
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
    """Return the logarithm of the time that a model trained on `known` predicts for each point."""
    require_extra("tune", ("xgboost",))
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=60, max_depth=4, learning_rate=0.2, n_jobs=1, random_state=seed)
    model.fit(features(list(known)), np.log(list(known.values())))
    return np.asarray(model.predict(features(points)))


def features(points: Sequence[Decisions]) -> Array:
    """Return (points, features): the logarithm of each factor, and of each product of two, because
    registers and caches hold products.
    """
    flat = np.log2(np.array([[1 + value if value == 0 else value for d in point for value in d] for point in points], np.float64))
    pairs = [flat[:, i] + flat[:, j] for i in range(flat.shape[1]) for j in range(i)]
    return np.column_stack([flat, *pairs])
