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
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions, decisions_of
from tvm_balanced.tuning.search.nearest import kind_of, shape_of

PyCostModel: Any = ms.cost_model.PyCostModel
Known = dict[Decisions, float]
OWN = 4.0  # the weight of a kernel's own measurement beside one of another kernel


@derived_object
class DecisionTrees(PyCostModel):
    """XGBoost over the logarithms of the decisions: of one kernel alone, or of all whose decisions mean the same.

    MetaSchedule's XGBModel reads features from lowered code and draws its first 100 scores at random; a kernel of ours has
    seldom so many points.

    Parameters
    ----------
    seed : int
    transfer : bool
        Whether a kernel's times are predicted from those of others, too: of all that `join` has named as alike, in one model that
        is told the shapes.
    """

    def __init__(self, seed: int = 0, transfer: bool = False) -> None:
        super().__init__()
        self.seed, self.transfer = seed, transfer
        self.known: dict[str, Known] = {}  # seconds of each measured point, by the name of the task; the first is the default's
        self.joined: dict[str, tuple[str, tuple[float, ...]]] = {}  # what a task's decisions mean, and its shape

    def join(self, workload: Workload, fingerprint: str) -> None:
        """Name a task whose decisions mean what those of others with this fingerprint, kernel and dtype do."""
        self.joined[workload.title] = " ".join([fingerprint, *map(str, kind_of(workload))]), shape_of(workload)

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

    def others(self, task: str) -> list[str]:
        """Return the measured tasks whose times say something of a task's."""
        alike = self.joined.get(task)
        if not self.transfer or alike is None:
            return []
        return [other for other in self.known if other != task and self.joined.get(other, ("",))[0] == alike[0]]

    def slowness(self, task: str, points: Sequence[Decisions]) -> Array:
        """Return the logarithm of the time that is predicted for each point, 0 while there is nothing to learn from; up to a
        constant where other tasks are learned from.
        """
        known, others = self.known.get(task, {}), self.others(task)
        if not others:
            return predicted(known, points, self.seed) if len(known) > 1 else np.zeros(len(points))
        return self._predicted_among(task, others, points)

    def _predicted_among(self, task: str, others: Sequence[str], points: Sequence[Decisions]) -> Array:
        """Return the logarithm of the time of each point over that of the default, by one model of several tasks."""
        tasks = [name for name in (task, *others) if name in self.known]
        measured = [(name, point) for name in tasks for point in self.known[name]]
        all_features = features([*(point for _, point in measured), *points])
        shapes = np.array([self.joined[name][1] for name in (*(name for name, _ in measured), *(task for _ in points))])
        table = np.column_stack([all_features, shapes])
        first = {name: next(iter(self.known[name].values())) for name in tasks}
        labels = np.log([self.known[name][point] / first[name] for name, point in measured])
        weights = np.array([OWN if name == task else 1.0 for name, _ in measured])
        return fitted(table[: len(measured)], labels, table[len(measured) :], self.seed, weights)

    def save(self, path: str) -> None:
        """Write what was learned; see PyCostModel."""
        known = {task: list(known.items()) for task, known in self.known.items()}
        Path(path).write_text(json.dumps([self.seed, self.transfer, known, self.joined]))

    def load(self, path: str) -> None:
        """Read what `save` wrote."""
        self.seed, self.transfer, tasks, joined = json.loads(Path(path).read_text())
        self.known = {task: {tuple(map(tuple, point)): seconds for point, seconds in known} for task, known in tasks.items()}
        self.joined = {task: (alike, tuple(shape)) for task, (alike, shape) in joined.items()}


def predicted(known: Mapping[Decisions, float], points: Sequence[Decisions], seed: int) -> Array:
    """Return the logarithm of the time that trees trained on `known` predict for each point."""
    table = features([*known, *points])
    return fitted(table[: len(known)], np.log(list(known.values())), table[len(known) :], seed)


def fitted(known: Array, labels: Array, asked: Array, seed: int, weights: Array | None = None) -> Array:
    """Return what trees predict for the rows `asked` that are trained on the rows `known`, (rows, features), and their labels."""
    require_extra("tune", ("xgboost",))
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=60, max_depth=4, learning_rate=0.2, n_jobs=1, random_state=seed)
    model.fit(known, labels, sample_weight=weights)
    return np.asarray(model.predict(asked))


def features(points: Sequence[Decisions]) -> Array:
    """Return (points, features): the logarithm of each factor, and of each product of two, because
    registers and caches hold products. Forms of a kernel may have fewer factors than others; ones are put behind them.
    """
    plain = [[1 + value if value == 0 else value for d in point for value in d] for point in points]
    longest = max(map(len, plain))
    flat = np.log2(np.array([[*values, *[1] * (longest - len(values))] for values in plain], np.float64))
    pairs = [flat[:, i] + flat[:, j] for i in range(flat.shape[1]) for j in range(i)]
    return np.column_stack([flat, *pairs])
