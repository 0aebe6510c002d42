"""MetaSchedule's evolutionary search with its XGBoost cost model, as a strategy: it proposes, our runners measure."""

import importlib
import inspect
import logging
from collections.abc import Sequence
from typing import Any

import tvm

from tvm_balanced.runtime.environment import require_extra
from tvm_balanced.schedules import ALL_KERNELS, Workload
from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.search.base import Strategy

log = logging.getLogger(__name__)
ROUND = 8  # candidates of one generation, as many as the scheduler requests
ROUNDS_WITHOUT = 5  # after so many generations without anything new, the rest of the space is drawn at random


class Evolutionary(Strategy):
    """Generations of MetaSchedule's search, from a population of measured and random points.

    Parameters
    ----------
    space : Space
    seed : int
    workload : Workload
    target : tvm.target.Target
    """

    def __init__(self, space: Space, seed: int, workload: Workload, target: tvm.target.Target) -> None:
        super().__init__(space, seed)
        self.ms, self.target = meta_schedule(), target
        kernel = ALL_KERNELS[workload.kernel]
        self.func = kernel.prim_func(workload).with_attrs({"global_symbol": "main", "estimated_flops": workload.flops})
        self.context = self.ms.TuneContext(
            mod=self.func,
            target=target,
            space_generator=self.ms.space_generator.ScheduleFn(
                lambda sch: kernel.space(sch, workload, target),
                sch_rules=[],
                postprocs=[],
                mutator_probs={self.ms.mutator.MutateTileSize(): 1.0},
            ),
            search_strategy=self.ms.search_strategy.EvolutionarySearch(population_size=64, genetic_num_iters=2),
            task_name=workload.kernel,
            num_threads=1,
            rand_state=seed + 1,  # TVM does not accept 0
            logger=log,  # its own would fail if the program has handlers of its own
        )
        self.database = self.ms.database.MemoryDatabase()
        self.workload = self.database.commit_workload(tvm.IRModule({"main": self.func}))
        self.cost_model = self.ms.cost_model.XGBModel(num_tuning_cores=1)
        self.started = False

    def propose(self, count: int) -> list[Decisions]:
        if not self.started:
            self.started = True
            self.context.pre_tuning(1 << 20, ROUND, database=self.database, cost_model=self.cost_model)
        found: dict[Decisions, None] = {}
        for _ in range(ROUNDS_WITHOUT):
            candidates = self.context.generate_measure_candidates() or []
            points = [_decisions(candidate.sch.trace, self.space) for candidate in candidates]
            found |= {point: None for point in points if point in self.space and point not in self.seen}
            self.context.notify_runner_results(candidates, [self._result(None) for _ in candidates])
            if len(found) >= count or not candidates:
                break
        left = [point for point in self.left() if point not in found] if len(found) < count else []
        chosen = [*found, *(left[i] for i in self.rng.permutation(len(left)))]
        return chosen[:count]

    def tell(self, results: Sequence[Measured]) -> None:
        super().tell(results)
        candidates = []
        for result in results:
            sch = tvm.s_tir.Schedule(self.func)
            self.space.trace_of(result.decisions).apply_to_schedule(sch, remove_postproc=False)
            arguments = self.ms.arg_info.ArgInfo.from_prim_func(self.func)
            candidates.append(self.ms.MeasureCandidate(sch, arguments))
            if result.seconds is not None:
                record = self.ms.database.TuningRecord(sch.trace, self.workload, [result.seconds], self.target, arguments)
                self.database.commit_tuning_record(record)
        self.cost_model.update(self.context, candidates, [self._result(result.seconds) for result in results])

    def _result(self, seconds: float | None) -> Any:
        return self.ms.runner.RunnerResult(None if seconds is None else [seconds], "failed" if seconds is None else None)


def _decisions(trace: Any, space: Space) -> Decisions:
    """Return the decisions of a MetaSchedule trace, in the order of the space."""
    return tuple(tuple(int(d) for d in trace.decisions[inst]) for inst in trace.insts if inst in trace.decisions)


def meta_schedule() -> Any:
    """Return MetaSchedule with its tensor intrinsics, which every TuneContext imports; here in an eighth of the time.

    TVM's parser asks `inspect` for the module of each frame that it is called from. Some frames come from no file of a module,
    such as importlib's; for each of them `inspect` walks all modules, unless its cache already names theirs. Raises
    EnvironmentFaultError if a package that a search needs is missing.
    """
    require_extra("tune", ("cloudpickle", "psutil", "xgboost"))
    for name in ("_bootstrap", "_bootstrap_external"):
        inspect.modulesbyfile.setdefault(f"<frozen importlib.{name}>", f"importlib.{name}")
    frame = inspect.currentframe()
    while frame is not None:
        inspect.modulesbyfile.setdefault(frame.f_code.co_filename, frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    importlib.import_module("tvm.s_tir.tensor_intrin")
    return importlib.import_module("tvm.s_tir.meta_schedule")
