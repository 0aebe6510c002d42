"""Search by rank: a cost model ranks all remaining points."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.search.base import Strategy
from tvm_balanced.tuning.search.decision_trees import DecisionTrees


class Ranked(Strategy):
    """Random points first, then those that gradient-boosted trees over the decisions predict to be fastest. Where the trees know
    kernels whose decisions mean the same, no random points come first.

    Parameters
    ----------
    space : Space
    seed : int
    workload : Workload
    trees : DecisionTrees, optional
        The cost model of the run.
    first : int
        Random points before the model is used.
    explore : int
        Of so many later points one is drawn at random.
    """

    def __init__(self, space: Space, seed: int, workload: Workload, trees: Any = None, first: int = 8, explore: int = 8) -> None:
        super().__init__(space, seed)
        self.task, self.trees = workload.title, trees or DecisionTrees(seed)
        self.first, self.explore = first, explore
        self.trees.join(workload, space.fingerprint)

    def tell(self, results: Sequence[Measured]) -> None:
        super().tell(results)
        for result in results:
            if result.seconds is not None:
                self.trees.learn(self.task, result.decisions, result.seconds)

    def propose(self, count: int) -> list[Decisions]:
        left = self.left()
        enough = sum(seconds is not None for seconds in self.seen.values()) >= self.first or self.trees.others(self.task)
        if not enough or not left:
            return [left[i] for i in self.rng.permutation(len(left))[:count]]
        slowness = self.trees.slowness(self.task, left)
        chosen = [left[i] for i in np.argsort(slowness, kind="stable")[:count]]
        for place in range(len(chosen)):
            others = [point for point in left if point not in chosen]
            if others and (len(self.seen) + place) % self.explore == self.explore - 1:
                chosen[place] = others[int(self.rng.integers(len(others)))]
        return chosen


def ranked(space: Space, seed: int, workload: Workload, _target: tvm.target.Target, trees: Any = None) -> Strategy:
    """Return the search by rank, with the cost model of a run."""
    return Ranked(space, seed, workload, trees)
