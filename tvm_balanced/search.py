"""Search for a kernel's decisions with MetaSchedule: evolutionary search, an XGBoost cost model, measured in this process."""

import importlib
import logging
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.compiled_module import use_threads
from tvm_balanced.environment import require_extra
from tvm_balanced.measure import Ratio, Rival, copies, race
from tvm_balanced.schedules import KERNELS, Workload

log = logging.getLogger(__name__)
Rotation = list[list[Any]]  # arguments of a kernel, as many times as copies of the weights are needed
SECONDS = 0.03  # a candidate is timed for
PACKED = "int32", "uint16"  # dtypes of packed indices, for which any bits are valid: a permute ignores what it does not use


@dataclass(frozen=True)
class Found:
    """What a search found.

    Parameters
    ----------
    func : tirx.PrimFunc
        The kernel scheduled by the best decisions, or by its defaults where those win beside them.
    decisions : list of lists of int
        The best that were searched, in the order they were sampled.
    won : bool
        Whether those beat the defaults.
    gain : Ratio
        How many times faster they are than the defaults, timed in turn.
    seconds : list of float
        Time of every candidate that ran, ascending.
    """

    func: tirx.PrimFunc
    decisions: list[list[int]]
    won: bool
    gain: Ratio
    seconds: list[float]


def search(
    workload: Workload, target: tvm.target.Target, trials: int, threads: int = 1, regime: str = "hot", seed: int = 1
) -> Found:
    """Search the space of `workload`'s kernel for the fastest schedule on this machine.

    Parameters
    ----------
    workload : Workload
        M must be known, or ValueError is raised.
    target : tvm.target.Target
        This machine.
    trials : int
        Candidates to measure.
    threads : int
        Threads of each.
    regime : str
        "hot", or "cold": arguments rotate over copies of 4x the last-level cache.
    seed : int
        Of the search; the same seed samples the same first candidates.

    Raises
    ------
    EnvironmentFaultError
        Where a package of the extra "tune" is missing.
    """
    if workload.m is None:
        raise ValueError("a search measures, so that M must be known; search each M that counts")
    ms = meta_schedule()
    kernel = KERNELS[workload.kernel]
    # MetaSchedule counts operations to report rates, and cannot count vector expressions.
    operations = 2 * workload.n * workload.k * workload.m * workload.nnz // workload.block
    func = kernel.prim_func(workload).with_attrs({"global_symbol": "main", "estimated_flops": operations})
    use_threads(threads)
    arguments = rotation(func, regime)
    builder, runner = in_process(ms, threads, arguments)
    with tempfile.TemporaryDirectory() as folder:
        context = ms.TuneContext(
            mod=func,
            target=target,
            space_generator=ms.space_generator.ScheduleFn(
                lambda sch: kernel.space(sch, workload, target),
                sch_rules=[],
                postprocs=[],
                mutator_probs={ms.mutator.MutateTileSize(): 1.0},
            ),
            search_strategy=ms.search_strategy.EvolutionarySearch(population_size=64, genetic_num_iters=2),
            task_name=workload.kernel,
            rand_state=seed,
            logger=log,  # tune_tir would make its own, which fails where the program has handlers of its own
        )
        database = ms.tune.tune_tasks(
            tasks=[context.clone()],
            task_weights=[1.0],
            work_dir=folder,
            max_trials_global=trials,
            num_trials_per_iter=min(trials, 8),
            builder=builder,
            runner=runner,
            cost_model="xgb",
            measure_callbacks=[ms.measure_callback.AddToDatabase(), ms.measure_callback.UpdateCostModel()],
        )
        records = [(float(np.mean([float(s) for s in r.run_secs])), r) for r in database.get_all_tuning_records()]
    records = [(seconds, record) for seconds, record in records if seconds < FAILED]
    if not records:
        raise RuntimeError(f"none of {trials} candidates for {workload} ran")
    records.sort(key=lambda pair: pair[0])
    best = records[0][1].trace
    sch = Schedule(func)
    best.apply_to_schedule(sch, remove_postproc=False)
    default = kernel.schedule_tiles(func, workload, target)
    gain = _race(sch.mod["main"], default, target, arguments, threads)
    decisions = [[int(d) for d in decision] for decision in best.decisions.values()]
    won = gain.p50 > 1
    return Found(sch.mod["main"] if won else default, decisions, won, gain, [seconds for seconds, _ in records])


def _race(one: tirx.PrimFunc, other: tirx.PrimFunc, target: tvm.target.Target, rotation: Rotation, threads: int) -> Ratio:
    """How many times faster `one` is than `other`, timed in turn."""

    def rival(func: tirx.PrimFunc, offset: int) -> Rival:
        main = tvm.compile(func, target)["main"]

        def run(call: int) -> None:
            use_threads(threads)
            main(*rotation[(call + offset) % len(rotation)])

        return run

    # half the rotation apart, or each would find in the cache what the other has just read
    racing = {"one": rival(one, 0), "other": rival(other, len(rotation) // 2)}
    return race(racing, 31, warm=4 if len(rotation) == 1 else 1).speedup("one", "other")


FAILED = 1e9  # seconds that MetaSchedule stores for a candidate that did not run


def meta_schedule() -> Any:
    """Return MetaSchedule, which would import every target's tensor intrinsics: 20 to 70 s for what no kernel of ours uses.

    Only those of x86 are registered then, for as long as the process runs. Raises EnvironmentFaultError where a package that a
    search needs is missing.
    """
    require_extra("tune", ("cloudpickle", "psutil", "xgboost"))
    if "tvm.s_tir.tensor_intrin" not in sys.modules:
        import tvm.s_tir

        stub = types.ModuleType("tvm.s_tir.tensor_intrin")
        stub.__path__ = [str(Path(tvm.s_tir.__file__).parent / "tensor_intrin")]
        sys.modules["tvm.s_tir.tensor_intrin"] = stub
        tvm.s_tir.tensor_intrin = stub
        importlib.import_module("tvm.s_tir.tensor_intrin.x86")
    return importlib.import_module("tvm.s_tir.meta_schedule")


def in_process(ms: Any, threads: int, rotation: Rotation) -> tuple[Any, Any]:
    """Return a builder and a runner that work in this process: workers would import TVM for as long as a search takes."""
    from tvm.ir.utils import derived_object

    libraries: dict[str, Any] = {}

    @derived_object
    class Builder(ms.builder.PyBuilder):
        def build(self, inputs: Sequence[Any]) -> list[Any]:
            results = []
            for given in inputs:
                try:
                    libraries[str(len(libraries))] = tvm.compile(given.mod, given.target)["main"]
                    results.append(ms.builder.BuilderResult(str(len(libraries) - 1), None))
                except Exception as error:  # TVM raises many kinds; the search goes on without the candidate
                    results.append(ms.builder.BuilderResult(None, str(error)))
            return results

    @derived_object
    class Runner(ms.runner.PyRunner):
        def run(self, inputs: Sequence[Any]) -> list[Any]:
            return [_future(ms, libraries.pop(given.artifact_path), threads, rotation) for given in inputs]

    return Builder(), Runner()


def _future(ms: Any, main: Any, threads: int, rotation: Rotation) -> Any:
    from tvm.ir.utils import derived_object

    try:
        result = ms.runner.RunnerResult([time_rotating(main, threads, rotation)], None)
    except Exception as error:  # as in building
        result = ms.runner.RunnerResult(None, str(error))

    @derived_object
    class Future(ms.runner.PyRunnerFuture):
        def done(self) -> bool:
            return True

        def result(self) -> Any:
            return result

    return Future()


def rotation(func: tirx.PrimFunc, regime: str) -> Rotation:
    """Return lists of arguments of a kernel to rotate, at random, with indices that are valid."""
    workload = Workload.of(func)
    assert workload is not None
    rng, given = np.random.default_rng(0), []
    for param in func.params:
        dtype, shape = str(param.ty.dtype), [int(d) for d in param.ty.shape]
        if dtype in PACKED:
            given.append(rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype))
        elif dtype == "uint8":  # positions in a block
            given.append(rng.integers(0, workload.block, shape).astype(dtype))
        else:
            given.append(rng.standard_normal(shape).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype))
    count = copies(sum(a.nbytes for a in given[1:-1]), regime)
    return [[tvm.runtime.tensor(a) for a in given] for _ in range(count)]


def time_rotating(main: Any, threads: int, rotation: Rotation) -> float:
    """Return the median time of a kernel in seconds, on each list of arguments in turn."""
    use_threads(threads)
    main(*rotation[-1])
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        main(*rotation[len(times) % len(rotation)])
        times.append(time.perf_counter() - start)
    return float(np.median(times))
