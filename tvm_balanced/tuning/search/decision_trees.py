"""A cost model of MetaSchedule: gradient-boosted trees over the decisions of a space."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.core.encoding import Array
from tvm_balanced.runtime.environment import require_extra
from tvm_balanced.schedules.base.space import Decisions, decisions_of

PyCostModel: Any = ms.cost_model.PyCostModel
Known = dict[Decisions, float]


@derived_object
class DecisionTrees(PyCostModel):
    """XGBoost over the logarithms of the decisions, trees of its own for each kernel.

    MetaSchedule's XGBModel reads features from lowered code and draws its first 100 scores at random; a kernel of ours has
    seldom so many points.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.known: dict[str, Known] = {}  # seconds of each measured point, by the name of the task

    def update(self, context: Any, candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """Learn measurements; see PyCostModel."""
        for candidate, result in zip(candidates, results, strict=True):
            if result.run_secs:
                seconds = float(np.median([float(s) for s in result.run_secs]))
                self.learn(context.task_name, decisions_of(candidate.sch.trace, candidate.sch.mod), seconds)

    def predict(self, context: Any, candidates: Sequence[Any]) -> Array:
        """Return a score for each candidate, higher for a faster one, 0 while there is nothing to learn from."""
        points = [decisions_of(candidate.sch.trace, candidate.sch.mod) for candidate in candidates]
        return -self.slowness(context.task_name, points)

    def learn(self, task: str, decisions: Decisions, seconds: float) -> None:
        """Take in one measurement; of a point measured twice, the better time counts."""
        known = self.known.setdefault(task, {})
        known[decisions] = min(seconds, known.get(decisions, seconds))

    def slowness(self, task: str, points: Sequence[Decisions]) -> Array:
        """Return the logarithm of the time that is predicted for each point, 0 while there is nothing to learn from."""
        known = self.known.get(task, {})
        return predicted(known, points, self.seed) if len(known) > 1 else np.zeros(len(points))

    def save(self, path: str) -> None:
        """Write what was learned; see PyCostModel."""
        Path(path).write_text(json.dumps([self.seed, {task: list(known.items()) for task, known in self.known.items()}]))

    def load(self, path: str) -> None:
        """Read what `save` wrote."""
        self.seed, tasks = json.loads(Path(path).read_text())
        self.known = {task: {tuple(map(tuple, point)): seconds for point, seconds in known} for task, known in tasks.items()}


def predicted(known: Mapping[Decisions, float], points: Sequence[Decisions], seed: int) -> Array:
    """Return the logarithm of the time that trees trained on `known` predict for each point."""
    require_extra("tune", ("xgboost",))
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=60, max_depth=4, learning_rate=0.2, n_jobs=1, random_state=seed)
    table = features([*known, *points])
    model.fit(table[: len(known)], np.log(list(known.values())))
    return np.asarray(model.predict(table[len(known) :]))


def features(points: Sequence[Decisions]) -> Array:
    """Return (points, features): the logarithm of each factor, and of each product of two, because
    registers and caches hold products. Forms of a kernel may have fewer factors than others; ones are put behind them.
    """
    plain = [[1 + value if value == 0 else value for d in point for value in d] for point in points]
    longest = max(map(len, plain))
    flat = np.log2(np.array([[*values, *[1] * (longest - len(values))] for values in plain], np.float64))
    pairs = [flat[:, i] + flat[:, j] for i in range(flat.shape[1]) for j in range(i)]
    return np.column_stack([flat, *pairs])
