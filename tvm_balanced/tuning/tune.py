"""Tune a model: its kernels, a runner, a log, and a run that can be stopped and resumed."""

import math
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from filelock import FileLock, Timeout

from tvm_balanced.compiler.layers import planned
from tvm_balanced.compiler.precision import PRECISIONS, everywhere
from tvm_balanced.compiler.targets import host_gpu, parse_target
from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.core.validation import check_count, check_precision
from tvm_balanced.errors import TargetError, TuningError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.cuda.device import current_gpu
from tvm_balanced.runtime.host import runs_here, threads_of, user_folder
from tvm_balanced.runtime.target_features import is_gpu, target_key
from tvm_balanced.schedules import ALL_KERNELS
from tvm_balanced.selection.kernel_choice import EXACT, KernelSelector
from tvm_balanced.testing.operands import packed_shapes
from tvm_balanced.tuning.log import manifest
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Run
from tvm_balanced.tuning.result import TuningResult, rows
from tvm_balanced.tuning.rpc.runner import RpcRunner
from tvm_balanced.tuning.rpc.tracker import RpcOptions
from tvm_balanced.tuning.runners.base import Runner
from tvm_balanced.tuning.runners.gpu import GpuRunner
from tvm_balanced.tuning.runners.local import LocalRunner
from tvm_balanced.tuning.scheduler import Budget, Tuner, now
from tvm_balanced.tuning.search import DEFAULT, STRATEGIES
from tvm_balanced.tuning.tasks import Task, shard, tasks_of

BUDGETS = ("trials", "per_kernel", "minutes")  # budgets of a plan; a resumed run uses new ones if given, else its old ones
SAME = ("source", "threads", "shard")  # a run must agree in these to be resumed


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How to tune.

    Parameters
    ----------
    target : str, dict, tvm.target.Target or None
        As for `targets.parse_target`; None is this machine.
    work_dir : str, Path or None
        Folder of the logs, with one folder for each target key; None is this user's, where
        `compile` looks.
    minutes : float or None
        The run ends after this long, including the races of the winners.
    trials, per_kernel : int or None
        Candidates to measure in all, and of each kernel.
    resume : bool
        Continue the last run of this model in the log: its trials count, and its seed and strategy
        are used, as are its budgets if none are given. If there is no such run, or without
        `resume`, a new run starts and measures as many more.
    seed : int
        The same seed and log give the same candidates.
    strategy : str
        A name of `strategy.STRATEGIES`.
    threads : int or None
        Threads of a timed call, as many as the model will be compiled for; by default all cores of
        the machine that measures.
    kernels, copies : mapping or None, int or None
        As for compiling.
    precision : str
        As for compiling, for layers that all keep the budget.
    shard : (int, int)
        (i, n): tune the i-th of n shares of the model's kernels, from 1 up.
    rpc : RpcOptions or None
        Measure on other machines.
    """

    target: Any = None
    work_dir: str | Path | None = None
    minutes: float | None = None
    trials: int | None = None
    per_kernel: int | None = None
    resume: bool = False
    seed: int = 0
    strategy: str = DEFAULT
    threads: int | None = None
    kernels: Mapping[str, str] | None = None
    shard: tuple[int, int] = (1, 1)
    rpc: RpcOptions | None = None
    copies: int | None = None
    precision: str = EXACT

    def __post_init__(self) -> None:
        check_precision(self.precision, PRECISIONS)


@quiet_tvm()
def tune_imported(
    imported: ImportedModel, options: TuneOptions, on_progress: Callable[[Tuner], None] = lambda _: None, started: float = 0.0
) -> TuningResult:
    """Tune the kernels of an imported model; parameters as for `tune_tasks`, errors as there and of
    `compile_imported`.
    """
    started = started or time.monotonic()
    environment.require_working_tvm()
    if options.copies is not None:
        check_count("copies", options.copies)
    target = parse_target(options.target)
    selector = KernelSelector.of(
        target, _threads(options, target), options.kernels, options.copies, everywhere(options.precision)
    )
    tasks = tasks_of(planned(imported, selector)[1])
    selector.check_all_used()
    return tune_tasks(tasks, options, imported.source, on_progress, started)


def tune_tasks(
    tasks: Sequence[Task],
    options: TuneOptions,
    source: str,
    on_progress: Callable[[Tuner], None] = lambda _: None,
    started: float = 0.0,
    runner: Runner | None = None,
) -> TuningResult:
    """Tune kernels until the budget is spent, nothing improves any more, or Ctrl-C. The results are in the log.

    Parameters
    ----------
    tasks : sequence of Task
    options : TuneOptions
    source : str
        The origin of the kernels, for the log.
    on_progress : callable
        Called after each candidate.
    started : float
        When the minutes began, on time.monotonic; now by default.
    runner : Runner, optional
        Measures the candidates; by default as `options` says.

    Raises
    ------
    TuningError
        If the log cannot be used, the budget or shard makes no sense, or no server is left to
        measure.
    TargetError
        If the target is unknown, or is not the machine that measures.
    """
    started = started or time.monotonic()
    target = parse_target(options.target)
    _check(options, target)
    threads = _threads(options, target)
    share = shard(tasks, *options.shard)
    log = Log(Path(options.work_dir) if options.work_dir is not None else user_folder(), target_key(target))
    _open(log, target, options.rpc)
    plan = _plan(options, source, threads)
    run = _resumed(log, plan) if options.resume else None
    with _own_run(log, None if run is None else run.run) as name:
        runner = runner or _runner(options, target, threads, tasks)
        known = TunedSchedules.of(target, threads, log.folder.parent)
        try:
            if run is None:
                log.append([Run(name, plan, environment.versions(), now())])
            else:
                plan = dict(run.plan) | {name: plan[name] for name in BUDGETS if plan[name] is not None}
            budget = Budget(plan["trials"], plan["per_kernel"], plan["minutes"], started)
            search = (threads, plan["seed"], plan["strategy"], on_progress, known, known.winners())
            tuner = Tuner(share, target, runner, log, name, budget, *search)
            with _stopping(tuner):
                ended = tuner.tune()
        finally:
            runner.close()
    return TuningResult(log.folder, name, ended, tuner.trials, tuple(rows(tuner.states)), tuner.states)


def _check(options: TuneOptions, target: tvm.target.Target) -> None:
    for name in ("minutes", "trials", "per_kernel"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise TuningError(f"{name} was {value}; give more than 0", usage=True)
    index, count = options.shard
    if not 1 <= index <= count:
        raise TuningError(f"shard was {index}/{count}; give i/n with i from 1 to n", usage=True)
    if options.strategy not in STRATEGIES:
        raise TuningError(f'strategy "{options.strategy}" is unknown; choose one of {", ".join(STRATEGIES)}', usage=True)
    if options.threads is not None:
        check_count("threads", options.threads)
    if options.seed < 0:
        raise TuningError(f"seed was {options.seed}; give 0 or more", usage=True)
    if options.rpc is not None and is_gpu(target):
        raise TuningError(
            f"{target_key(target)} is a GPU, and servers measure on their CPU; tune on its machine, without rpc", usage=True
        )


def _threads(options: TuneOptions, target: tvm.target.Target) -> int:
    """Return the threads of a call: as given, else all cores of the machine that measures."""
    machine = None if options.rpc is None or options.threads is not None else options.rpc.machine
    return threads_of(target, options.threads) if machine is None else machine.cores


def _open(log: Log, target: tvm.target.Target, remote: RpcOptions | None) -> None:
    """Create a log and its manifest if missing, else check that it is for the target."""
    if log.exists():
        log.create()
    device = None
    if is_gpu(target) and current_gpu().exist:
        device = str(current_gpu().device_name)
    elif remote is not None:
        device = "a CPU behind RPC" if remote.machine is None else remote.machine.device
    manifest.write(log, target, device)  # before the log: a killed tuner leaves no log without one
    log.create()


def _plan(options: TuneOptions, source: str, threads: int) -> dict[str, Any]:
    plan = {name: getattr(options, name) for name in (*BUDGETS, "seed", "strategy")}
    return {"source": source, "threads": threads, "shard": list(options.shard), **plan}


def _runner(options: TuneOptions, target: tvm.target.Target, threads: int, tasks: Sequence[Task]) -> Runner:
    weights = {layer: packed_bytes(task) for task in tasks for layer in task.layers}  # once per layer, for all its M
    rotate = sum(weights.values())
    if options.rpc is not None:
        return RpcRunner(options.rpc, target, threads, rotate)
    if not runs_here(target):
        raise TargetError(f"{target} is not this machine; tune on that machine, or through its server with rpc")
    if is_gpu(target) and target_key(target) != target_key(host_gpu()):
        raise TargetError(
            f"{target_key(target)} is not this machine's GPU, {target_key(host_gpu())}, and its times would not hold there; "
            "tune on that machine, or give target cuda"
        )
    return GpuRunner(target, rotate) if is_gpu(target) else LocalRunner(target, threads, rotate)


def packed_bytes(task: Task) -> int:
    """Return the bytes of the packed weight of one layer."""
    kernel = ALL_KERNELS[task.workload.kernel]
    params = kernel.prim_func(task.workload).params[1 : 1 + len(kernel.parts)]
    shapes = packed_shapes(task.workload)
    return sum(math.prod(s) * tvm.DataType(str(p.ty.dtype)).bits // 8 for s, p in zip(shapes, params, strict=True))


def _resumed(log: Log, plan: Mapping[str, Any]) -> Run | None:
    """Return the last run in a log with the same model, number of threads and shard; None if there is none."""
    runs = [record for record in log.read().records if isinstance(record, Run)]
    return next((run for run in reversed(runs) if all(run.plan.get(name) == plan[name] for name in SAME)), None)


@contextmanager
def _own_run(log: Log, run: str | None) -> Iterator[str]:
    """Yield the name of a run (a new one if `run` is None), and keep other processes from resuming it meanwhile."""
    name = run or secrets.token_hex(4)
    lock = FileLock(log.folder / f".run-{name}.lock")
    with log.writing():  # `logs compact` tries the locks of runs under it
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise TuningError(
                f"run {name} in {log.folder} is being tuned by another process; wait for it, or start a run without resume"
            ) from None
    try:
        yield name
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # first: after the release it may be another process's
        lock.release()


@contextmanager
def _stopping(tuner: Tuner) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run and keep what was found; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        tuner.stop("interrupted")
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
