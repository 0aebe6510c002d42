"""Measure on other machines through TVM's RPC tracker and servers. Candidates are compiled here and timed there.

RPC runs uploaded code without authentication: servers belong on loopback, in a private network or
behind an ssh tunnel.
"""

import itertools
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from tvm_balanced.compiler.build import build
from tvm_balanced.core.caches import last_level_cache
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.errors import TuningError, last_line
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import cores
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.schedules.spaces import Spaces
from tvm_balanced.testing.operands import Arguments, draw, relative_error
from tvm_balanced.timing.paired import Implementation, Seconds, measure_paired
from tvm_balanced.timing.rotating import empty_result
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.rpc import tracker
from tvm_balanced.tuning.rpc.batch import ATTEMPTS, Batch, Job
from tvm_balanced.tuning.rpc.tracker import RpcOptions, Session
from tvm_balanced.tuning.runners.base import (
    LEAST_ROUNDS,
    ROUNDS,
    Built,
    Candidate,
    Confirmed,
    build_together,
    dense_workload,
    measure,
    tolerance,
)

OVERDUE_SECONDS = 65.0  # after which a measurement counts as lost
RACE_SECONDS = 120  # of a session for a race, besides the race's own time: for the least number of rounds and the uploads
REPEAT = 3  # measurements of a candidate; a round of a race has one
FLUSH = "cache_flush_cpu_non_first_arg"  # so that weights are loaded from memory


class RpcRunner:
    """Measure on all free servers of a key at once.

    A worker that loses its server returns its candidate to the others and connects to another
    server.

    Parameters
    ----------
    options : RpcOptions
    target : tvm.target.Target
        Target of the servers.
    threads : int
        Threads of a call.
    rotate : int
        Bytes of the model's weights. If they do not fit the server's last-level cache, each call
        loads its weights from memory; otherwise the weights are the same in each call.

    Raises
    ------
    TuningError
        If no tracker answers, it knows no server of the key, or the first server does not have the
        target.
    """

    def __init__(self, options: RpcOptions, target: tvm.target.Target, threads: int, rotate: int = 0) -> None:
        self.options, self.target, self.threads, self.spaces = options, target, threads, Spaces(target)
        servers = options.wait_for_servers()
        machine = options.machine
        if machine is not None:
            machine.check(target, threads)
        self.cold = rotate > (last_level_cache() if machine is None else machine.cache)
        self.parallel = min(servers, options.workers or servers)
        self._folder = tempfile.TemporaryDirectory(prefix="tvm_balanced-")
        self.stop: Callable[[], bool] = lambda: False
        self._numbers = itertools.count()
        self._drawn: dict[Workload, Arguments] = {}

    def fits(self, workload: Workload, decisions: Decisions) -> bool:
        return True  # as for LocalRunner: servers are CPUs

    def build_all(self, candidates: Sequence[Candidate]) -> Iterator[Built]:
        return build_together(self.build, candidates, min(self.parallel, cores()))

    def run_all(self, workload: Workload, built: Sequence[Built]) -> Iterator[Measured]:
        self._draw(workload)
        open_ = Batch(workload)
        for one in built:
            open_.jobs.put(Job(one.decisions, one.code))
        workers = [threading.Thread(target=self._work, args=(open_, i), daemon=True) for i in range(self.parallel)]
        for thread in workers:
            thread.start()
        try:
            yield from self._collect(open_, len(built))
        finally:
            open_.closed = True
            for _ in workers:
                open_.jobs.put(None)

    def confirm(self, workload: Workload, candidates: Sequence[Decisions], seconds: float) -> Confirmed | None:
        self._draw(workload)
        default = self.spaces[workload].default
        space = self.spaces[workload]
        libraries = {decisions: self.build(space.replay(decisions)) for decisions in dict.fromkeys((default, *candidates))}
        for attempt in range(ATTEMPTS):
            try:
                session = self._ready(self.options.connect_soon(self.stop, RACE_SECONDS + seconds))
                return self._confirm(session, workload, libraries, candidates, seconds)
            except TuningError:
                raise
            except Exception as error:  # the server died; TVM raises many kinds
                if attempt == ATTEMPTS - 1:
                    raise TuningError(f"winners could not be raced: {last_line(error)}; run tune --resume") from error
        return None

    def dense_seconds(self, workload: Workload) -> float | None:
        dense = dense_workload(workload, self.target)
        if dense is None:
            return None
        results = list(measure(self, self.spaces[dense], dense, [self.spaces[dense].default]))
        return results[0].seconds if results else None

    def close(self) -> None:
        self._folder.cleanup()

    def build(self, func: tirx.PrimFunc) -> Path:
        """Return the library of a scheduled function."""
        path = Path(self._folder.name) / f"candidate{next(self._numbers)}.so"
        executable = build(func, self.target)
        executable.export_library(str(path), cc=environment.c_compiler())
        return path

    def upload(self, session: Session, library: Path) -> Any:
        """Return a library that a server has loaded. It has a unique name, because a library in use
        must not be overwritten.
        """
        name = f"uploaded{next(self._numbers)}.so"
        session.remote.upload(str(library), target=name)
        return session.remote.load_module(name)

    def time(self, session: Session, workload: Workload, job: Job) -> float:
        """Return the median time of a candidate on a server in seconds; raises TVM's error if the server dies."""
        return self._seconds(self._evaluator(session, job.library, REPEAT), self._remote(session, workload))

    def _collect(self, batch: Batch, count: int) -> Iterator[Measured]:
        done: set[Decisions] = set()
        heard = time.monotonic()
        while len(done) < count:
            try:
                result = batch.results.get(timeout=0.5)
            except queue.Empty:
                if self.stop():
                    return
                self._look_after(batch, heard)
                continue
            heard = time.monotonic()
            if result.decisions not in done:  # a worker that was given up may still answer
                done.add(result.decisions)
                yield result

    def _look_after(self, batch: Batch, heard: float) -> None:
        """Give up jobs that run for too long; raises TuningError if no server is left."""
        for worker, job in list(batch.running.items()):
            if time.monotonic() - job.began > OVERDUE_SECONDS:
                if batch.running.pop(worker, None) is None:
                    continue  # it has just answered
                batch.failed(job, "its server did not answer")
                threading.Thread(target=self._work, args=(batch, max(batch.running, default=0) + 1000), daemon=True).start()
        if batch.running or time.monotonic() - heard < tracker.PATIENCE_SECONDS:
            return
        if not self.options.servers():
            raise TuningError(f"no server of key {self.options.key} is left; start one and run tune --resume")
        if batch.trouble:
            raise TuningError(
                f"no server of key {self.options.key} can be reached ({batch.trouble}); the tracker gives out the address that "
                "the server has told it, which must be one that this machine reaches"
            )

    def _work(self, batch: Batch, worker: int) -> None:
        """Take jobs of a batch until it is closed, on one server after the other."""
        session: Session | None = None
        while not batch.closed:
            try:
                session = session or self._ready(self.options.connect())
            except Exception as error:  # no server, a server with another target, or one that died while we connected
                batch.trouble = last_line(error)
                time.sleep(0.5)
                continue
            batch.trouble = ""
            try:
                job = batch.jobs.get(timeout=1.0)
            except queue.Empty:
                job = None
            if session.is_old():
                session = None
                if job is not None:
                    batch.jobs.put(job)
                continue
            if job is None:
                continue
            job.attempts, job.began = job.attempts + 1, time.monotonic()
            batch.running[worker] = job
            try:
                batch.results.put(Measured(job.decisions, self.time(session, batch.workload, job)))
            except Exception as error:  # the candidate failed, or its server died: TVM raises many kinds
                session = None
                if worker in batch.running:
                    batch.failed(job, last_line(error))
            batch.running.pop(worker, None)

    def _ready(self, session: Session) -> Session:
        """Return a session set up for our calls; raises TuningError if its server does not have the target."""
        if session.machine is not None:
            session.machine.check(self.target, self.threads)
        session.remote.get_function("runtime.config_threadpool")(1, self.threads)
        return session

    def _draw(self, workload: Workload) -> None:
        """Draw the arguments of a workload, for all workers."""
        if workload not in self._drawn:
            self._drawn = {workload: draw(workload)}  # one at a time: all workers measure the same one

    def _remote(self, session: Session, workload: Workload) -> list[Any]:
        """Upload the arguments of a workload, once per session."""
        if workload not in session.held:
            session.held.clear()
            given = (*self._drawn[workload].given, empty_result(workload))
            session.held[workload] = [tvm.runtime.tensor(a, session.remote.cpu(0)) for a in given]
        return list(session.held[workload])

    def _evaluator(self, session: Session, library: Path, repeat: int) -> Any:
        options = {"number": 1, "repeat": 3 * repeat, "f_preproc": FLUSH} if self.cold else {"repeat": repeat, "min_repeat_ms": 5}
        return self.upload(session, library).time_evaluator("main", session.remote.cpu(0), **options)

    @staticmethod
    def _seconds(evaluator: Any, arguments: list[Any]) -> float:
        return float(np.median(evaluator(*arguments).results))

    def _confirm(
        self,
        session: Session,
        workload: Workload,
        libraries: Mapping[Decisions, Path],
        candidates: Sequence[Decisions],
        seconds: float,
    ) -> Confirmed | None:
        """As `confirm`; the first library is the default's."""
        arguments, reference = self._remote(session, workload), self._drawn[workload].reference()
        racers: dict[Decisions, Any] = {}
        errors: dict[Decisions, float] = {}
        for decisions, library in libraries.items():
            evaluator = self._evaluator(session, library, 1)
            arguments[-1] = tvm.runtime.tensor(empty_result(workload), session.remote.cpu(0))
            evaluator(*arguments)
            errors[decisions] = relative_error(arguments[-1].numpy(), reference)
            if errors[decisions] <= tolerance(workload):
                racers[decisions] = evaluator
        default = next(iter(libraries))
        others = {decisions: racers[decisions] for decisions in candidates if decisions in racers}
        if default not in racers or not others:
            return None
        best, gain = self._race(racers[default], others, arguments, seconds)
        return Confirmed(best, gain, errors[best])

    def _race(
        self, default: Any, others: Mapping[Decisions, Any], arguments: list[Any], seconds: float
    ) -> tuple[Decisions, Ratio]:
        """Return the fastest of `others`, and how many times faster than the default it is, as LocalRunner does."""

        def rival(evaluator: Any) -> Implementation:
            return lambda _: Seconds(self._seconds(evaluator, arguments))

        racers = {"default": rival(default)} | {str(decisions): rival(evaluator) for decisions, evaluator in others.items()}
        timing = measure_paired(racers, ROUNDS, seconds, warm=0, least=LEAST_ROUNDS)  # an evaluator makes an untimed call itself
        best = max(others, key=lambda decisions: timing.half(0).speedup(str(decisions), "default").p50)
        return best, timing.half(1).speedup(str(best), "default")
