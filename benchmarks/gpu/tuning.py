"""Searches a kernel's space with MetaSchedule, for as long as it is given: its search proposes, the device measures."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from benchmarks.gpu.device import Device
from benchmarks.gpu.layer import LIMITS, Cell, Layer, check, rotate
from tvm_balanced.measure import Rival
from tvm_balanced.targets import cores
from tvm_balanced.tuning.evolutionary import meta_schedule

log = logging.getLogger(__name__)
ROUND = 16  # candidates that are built and measured together
FAILED = 1e9  # seconds that stand for a candidate that did not run


@dataclass(frozen=True)
class Found:
    """What a search found.

    Parameters
    ----------
    func : PrimFunc
        The kernel in the best schedule.
    decisions : list of lists of int
        In the order that they are sampled.
    seconds, default_seconds : float
        Of the best and of the default, as candidates are timed.
    measured, failed : int
        Candidates that ran, and that did not compile or run; those that MetaSchedule's checks reject are not built.
    """

    func: tirx.PrimFunc
    decisions: list[list[int]]
    seconds: float
    default_seconds: float
    measured: int
    failed: int

    def line(self, cell: Cell, device: Device, took: float) -> dict[str, Any]:
        """Return what is kept of it."""
        return {
            "workload": asdict(cell.workload),
            "target": device.key,
            "gpu": device.name,
            "date": datetime.now(UTC).date().isoformat(),
            "decisions": self.decisions,
            "us": round(self.seconds * 1e6, 2),
            "default_us": round(self.default_seconds * 1e6, 2),
            "measured": self.measured,
            "failed": self.failed,
            "search_seconds": round(took, 1),
        }


def tune(cell: Cell, device: Device, seconds: float, candidates: int, workers: int | None = None) -> Found:
    """Search for the fastest schedule of a cell.

    Parameters
    ----------
    cell : Cell
    device : Device
    seconds : float
        After which no further round of candidates begins; there is always a first, for getting ready may take as long.
    candidates : int
        To measure at most.
    workers : int, optional
        Threads that compile candidates; as many as cores by default.

    Raises
    ------
    RuntimeError
        Where no candidate ran, or where the best is wrong.
    """
    end = time.monotonic() + seconds
    layer = Layer(cell, device)
    default = _time(layer.ours(layer.default()), layer)
    search = _Search(layer, device)
    with ThreadPoolExecutor(workers or cores()) as pool:
        while len(search.times) + search.failed < candidates:
            proposed = search.propose()
            if not proposed:
                break
            rivals = list(pool.map(lambda schedule: _built(layer, schedule.mod["main"]), proposed))
            search.tell([_measured(rival, layer) for rival in rivals])
            if time.monotonic() > end:
                break
    if not search.times:
        raise RuntimeError(f"no candidate for {cell} ran; {search.failed} failed")
    best, trace = min(search.times, key=lambda pair: pair[0])
    schedule = Schedule(search.func)
    trace.apply_to_schedule(schedule, remove_postproc=True)
    func = schedule.mod["main"]
    check("the best candidate", layer.ours(func)(0), layer.x, layer.dense, LIMITS[cell.dtype])
    return Found(func, decisions_of(trace), best, default, len(search.times), search.failed)


def decisions_of(trace: Any) -> list[list[int]]:
    """Return the decisions of a trace, in the order that they were sampled; a choice is a list of one."""
    found = [trace.decisions[inst] for inst in trace.insts if inst in trace.decisions]
    return [[int(d) for d in decision] if hasattr(decision, "__len__") else [int(decision)] for decision in found]


class _Search:
    """MetaSchedule's evolutionary search with its cost model, one round at a time."""

    def __init__(self, layer: Layer, device: Device) -> None:
        self.ms, cell = meta_schedule(), layer.cell
        workload = cell.workload
        # MetaSchedule counts operations to report rates, and cannot count vector expressions.
        operations = 2 * cell.n * cell.k * cell.m * workload.nnz // workload.block
        self.func = layer.kernel.prim_func(workload).with_attrs({"global_symbol": "main", "estimated_flops": operations})
        self.times: list[tuple[float, Any]] = []
        self.failed = 0
        target = device.limits or device.target
        # VerifyGPUCode counts threads, shared memory and the bytes of vectors
        checks = [self.ms.postproc.DisallowDynamicLoop(), *([self.ms.postproc.VerifyGPUCode()] if device.limits else [])]
        self.context = self.ms.TuneContext(
            mod=self.func,
            target=target,
            space_generator=self.ms.space_generator.ScheduleFn(
                lambda sch: layer.kernel.space(sch, workload, target),
                sch_rules=[],
                postprocs=checks,
                mutator_probs={self.ms.mutator.MutateTileSize(): 1.0},
            ),
            search_strategy=self.ms.search_strategy.EvolutionarySearch(
                population_size=64,
                init_min_unmeasured=1,  # some spaces have a handful of points
                genetic_num_iters=2,
            ),
            task_name=cell.kernel,
            num_threads=min(8, cores()),
            rand_state=1,
            logger=log,  # it would make its own, which fails where the program has handlers of its own
        )
        self.target, self.database = target, self.ms.database.MemoryDatabase()
        self.workload = self.database.commit_workload(tvm.IRModule({"main": self.func}))
        self.model = self.ms.cost_model.XGBModel(num_tuning_cores=1)
        self.context.pre_tuning(1 << 20, ROUND, database=self.database, cost_model=self.model)
        self.proposed: Any = []

    def propose(self) -> list[Schedule]:
        """Return the next candidates; none where the space is exhausted."""
        self.proposed = self.context.generate_measure_candidates() or []
        return [candidate.sch for candidate in self.proposed]

    def tell(self, seconds: Sequence[float | None]) -> None:
        """Learn from the times of what was proposed, None of what failed."""
        results = []
        for candidate, taken in zip(self.proposed, seconds, strict=True):
            results.append(self.ms.runner.RunnerResult(None if taken is None else [taken], "failed" if taken is None else None))
            if taken is None:
                self.failed += 1
                continue
            trace = candidate.sch.trace
            self.times.append((taken, trace))
            record = self.ms.database.TuningRecord(trace, self.workload, [taken], self.target, candidate.args_info)
            self.database.commit_tuning_record(record)
        self.model.update(self.context, list(self.proposed), results)
        self.context.notify_runner_results(self.proposed, results)


def _built(layer: Layer, func: tirx.PrimFunc) -> Rival | None:
    """Return a candidate ready to be called, None where it does not compile."""
    try:
        return layer.ours(func)
    except Exception as error:  # compilers raise many kinds; the search goes on without the candidate
        log.debug("%s", error)
        return None


def _measured(rival: Rival | None, layer: Layer) -> float | None:
    """Return the time of a candidate, None where it does not run."""
    return None if rival is None else _time(rival, layer)


def _time(rival: Rival, layer: Layer) -> float:
    """Return the least of three times of a rival."""
    once: Callable[[], float] = layer.device.timer(rival, rotate(layer.packed_bytes, layer.device)).once
    return min(once() for _ in range(3))
