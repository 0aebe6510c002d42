"""MetaSchedule's own search strategies: they propose; what was measured already is left out."""

from collections.abc import Callable
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions, Space, decisions_of
from tvm_balanced.tuning.search.base import Strategy
from tvm_balanced.tuning.search.tune_context import random_state, space_generator, tune_context

ROUND = 8  # candidates of one generation
ROUNDS_WITHOUT = 5  # after so many generations without anything new, the rest of the space is drawn at random


class MetaScheduleStrategy(Strategy):
    """Proposes what one of MetaSchedule's strategies generates, each point once.

    Parameters
    ----------
    space : Space
    seed : int
    workload : Workload
    target : tvm.target.Target
    make : callable
        Returns the strategy.
    afresh : bool
        Whether each batch begins with a new one, seeded by how much was measured, so that a resumed run proposes the same.
    """

    def __init__(
        self, space: Space, seed: int, workload: Workload, target: tvm.target.Target, make: Callable[[], Any], afresh: bool
    ) -> None:
        super().__init__(space, seed)
        self.workload, self.target, self.make, self.afresh = workload, target, make, afresh
        self._given: tuple[Any, ...] = ()
        self._surplus: list[Decisions] = []  # MetaSchedule takes what it has generated for measured
        self._inner: tuple[Any, Any] | None = None  # the strategy, and its context, which it does not hold itself

    def begin(self, design_spaces: Any, database: Any, cost_model: Any) -> None:
        self._given, self._inner = (design_spaces, database, cost_model), None

    def propose(self, count: int) -> list[Decisions]:
        found: dict[Decisions, None] = {point: None for point in self._surplus if point not in self.seen}
        for attempt in range(ROUNDS_WITHOUT if len(found) < count else 0):
            strategy = self._strategy(attempt)
            candidates = strategy.generate_measure_candidates() or []
            points = [decisions_of(candidate.sch.trace, candidate.sch.mod) for candidate in candidates]
            found |= {point: None for point in points if point in self.space and point not in self.seen}
            strategy.notify_runner_results(candidates, [ms.runner.RunnerResult(None, "only proposed") for _ in candidates])
            if len(found) >= count or not candidates:
                break
        left = [point for point in self.left() if point not in found] if len(found) < count else []
        chosen = [*found, *(left[i] for i in self.rng.permutation(len(left)))]
        self._surplus = [] if self.afresh else list(found)[count:]
        return chosen[:count]

    def _strategy(self, attempt: int) -> Any:
        if self._inner is None or self.afresh:
            drawn = (len(self.seen), attempt) if self.afresh else ()
            context = tune_context(
                self.space.func,
                self.target,
                space_generator=space_generator(self.workload, self.target),
                rand_state=random_state(self.seed, *drawn),
                task_name=self.workload.kernel,
            )
            strategy = self.make()
            strategy._initialize_with_tune_context(context)
            design_spaces, database, cost_model = self._given or _alone(context)
            strategy.pre_tuning(1 << 20, ROUND, design_spaces, database, cost_model)
            self._inner = strategy, context
        return self._inner[0]


def _alone(context: Any) -> tuple[Any, ...]:
    """Return what a strategy gets that no run of MetaSchedule has begun."""
    return context.generate_design_space(), ms.database.MemoryDatabase(), ms.cost_model.RandomModel()


def evolutionary(space: Space, seed: int, workload: Workload, target: tvm.target.Target, _model: Any = None) -> Strategy:
    """Return generations from a population of measured and random points, chosen by a cost model."""
    return MetaScheduleStrategy(
        space,
        seed,
        workload,
        target,
        lambda: ms.search_strategy.EvolutionarySearch(population_size=64, genetic_num_iters=2),
        afresh=False,
    )


def replay(space: Space, seed: int, workload: Workload, target: tvm.target.Target, _model: Any = None) -> Strategy:
    """Return MetaSchedule's random points."""
    return MetaScheduleStrategy(space, seed, workload, target, ms.search_strategy.ReplayTrace, afresh=True)
