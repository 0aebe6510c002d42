"""Measuring on other machines, through TVM's RPC tracker and servers: candidates are compiled here and timed there.

RPC runs what is uploaded to it, and asks nobody who they are: servers belong on loopback, in a private network or behind an
ssh tunnel.
"""

import contextlib
import gc
import itertools
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import rpc

from tvm_balanced import environment
from tvm_balanced.errors import TuningError
from tvm_balanced.measure import Timing
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.decisions import Decisions
from tvm_balanced.tuning.arguments import Arguments, draw
from tvm_balanced.tuning.runner import (
    Confirmed,
    Measured,
    dense_workload,
    empty_result,
    last_line,
    relative_error,
    space_of,
    tolerance,
)

SESSION_SECONDS = 60  # after which a server ends a session
OVERDUE_SECONDS = 65.0  # after which a measurement counts as lost
PATIENCE_SECONDS = 30  # to wait for a server where none is there
STOP_PATIENCE_SECONDS = 4  # the same once the run is to end
ATTEMPTS = 2  # at a candidate whose server died or was too slow
ROUNDS = 15  # of a race with the default
FLUSH = "cache_flush_cpu_non_first_arg"  # so that weights come from memory


@dataclass(frozen=True)
class RpcOptions:
    """Where to measure: an RPC tracker, the key of its servers, and how many to use at once (all by default)."""

    host: str
    port: int
    key: str
    workers: int | None = None

    @classmethod
    def parse(cls, address: str, key: str, workers: int | None = None) -> "RpcOptions":
        """Read HOST:PORT; raises TuningError."""
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdecimal()):
            raise TuningError(f'RPC tracker "{address}" is not of the form HOST:PORT; write for instance 127.0.0.1:9190')
        return cls(host, int(port), key, workers)

    def servers(self) -> int:
        """Return how many servers of the key the tracker knows; raises TuningError where there is no tracker."""
        try:
            socket.create_connection((self.host, self.port), timeout=5).close()  # TVM would try for a minute
            tracker = rpc.TrackerSession((self.host, self.port))
            found = tracker.summary()["server_info"]
            tracker.close()
        except (OSError, RuntimeError) as error:
            raise TuningError(f"no RPC tracker answers at {self.host}:{self.port} ({last_line(error)}); start one") from None
        return sum(str(server["key"]) == f"server:{self.key}" for server in found)


@dataclass
class Job:
    """A candidate on its way: its library, how often it was tried, and when the last try began."""

    decisions: Decisions
    library: Path
    attempts: int = 0
    began: float = 0.0


@dataclass
class Session:
    """A server that is ours for a while, and the arguments that were uploaded to it."""

    remote: Any
    held: dict[Workload, list[Any]] = field(default_factory=dict)


@dataclass
class Batch:
    """One call of `RpcRunner.measure`: workers take jobs until it is closed."""

    workload: Workload
    jobs: "queue.SimpleQueue[Job | None]" = field(default_factory=queue.SimpleQueue)
    results: "queue.SimpleQueue[Measured]" = field(default_factory=queue.SimpleQueue)
    running: dict[int, Job] = field(default_factory=dict)  # by worker
    closed: bool = False
    trouble: str = ""  # why the last server could not be had

    def failed(self, job: Job, error: str) -> None:
        """Let another worker try a job, unless it was tried often enough."""
        if job.attempts < ATTEMPTS:
            self.jobs.put(job)
        else:
            self.results.put(Measured(job.decisions, None, error))


class RpcRunner:
    """Measures on all free servers of a key at once.

    A worker that loses its server leaves its candidate to the others and asks for another server.

    Parameters
    ----------
    options : RpcOptions
    target : tvm.target.Target
        Of the servers.
    threads : int
        Of a call.
    cold : bool
        Whether weights come from memory in each call.

    Raises
    ------
    TuningError
        Where no tracker answers, or it knows no server of the key.
    """

    def __init__(self, options: RpcOptions, target: tvm.target.Target, threads: int, cold: bool = False) -> None:
        self.options, self.target, self.threads, self.cold = options, target, threads, cold
        servers = self._wait_for_servers()
        self.parallel = min(servers, options.workers or servers)
        self._folder = tempfile.TemporaryDirectory(prefix="tvm_balanced-")
        self.stop: Callable[[], bool] = lambda: False
        self._numbers = itertools.count()
        self._drawn: dict[Workload, Arguments] = {}

    def fits(self, workload: Workload, decisions: Decisions) -> bool:
        return True  # as for LocalRunner: servers are CPUs

    def measure(self, workload: Workload, batch: Sequence[Decisions]) -> Iterator[Measured]:
        open_ = Batch(workload)
        workers = [threading.Thread(target=self._work, args=(open_, i), daemon=True) for i in range(self.parallel)]
        builder = threading.Thread(target=self._build_all, args=(open_, batch), daemon=True)
        for thread in (builder, *workers):
            thread.start()
        try:
            yield from self._collect(open_, len(batch))
        finally:
            open_.closed = True
            for _ in workers:
                open_.jobs.put(None)
            builder.join()

    def confirm(self, workload: Workload, candidates: Sequence[Decisions], seconds: float) -> Confirmed | None:
        for attempt in range(ATTEMPTS):
            try:
                return self._confirm(self._connect_soon(), workload, candidates, seconds)
            except TuningError:
                raise
            except Exception as error:  # the server died, in one of TVM's many ways
                if attempt == ATTEMPTS - 1:
                    raise TuningError(f"winners could not be raced: {last_line(error)}; run tune --resume") from error
            finally:
                gc.collect()  # TVM leaves cycles that would keep the session, and its server, from others
        return None

    def dense_seconds(self, workload: Workload) -> float | None:
        dense = dense_workload(workload, self.target)
        if dense is None:
            return None
        results = list(self.measure(dense, [space_of(dense, self.target).default]))
        return results[0].seconds

    def close(self) -> None:
        self._folder.cleanup()

    def build(self, workload: Workload, decisions: Decisions) -> Path:
        """Return the library of a candidate."""
        path = Path(self._folder.name) / f"candidate{next(self._numbers)}.so"
        executable = tvm.compile(space_of(workload, self.target).replay(decisions), self.target)
        executable.export_library(str(path), cc=environment.c_compiler())
        return path

    def upload(self, session: Session, library: Path) -> Any:
        """Return a library loaded by a server, under a name of its own: one that is in use must not be overwritten."""
        name = f"uploaded{next(self._numbers)}.so"
        session.remote.upload(str(library), target=name)
        return session.remote.load_module(name)

    def time(self, session: Session, workload: Workload, job: Job) -> float:
        """Return the median time of a candidate on a server in seconds; raises whatever TVM does where it dies."""
        return self._seconds(self._evaluator(session, job.library), self._remote(session, workload))

    def _build_all(self, batch: Batch, candidates: Sequence[Decisions]) -> None:
        for decisions in candidates:
            if batch.closed:
                return
            try:
                batch.jobs.put(Job(decisions, self.build(batch.workload, decisions)))
            except Exception as error:  # TVM raises many kinds; the search goes on without the candidate
                batch.results.put(Measured(decisions, None, last_line(error)))

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
        """Give up what runs for too long; raises TuningError where no server is left."""
        for worker, job in list(batch.running.items()):
            if time.monotonic() - job.began > OVERDUE_SECONDS:
                if batch.running.pop(worker, None) is None:
                    continue  # it has just answered
                batch.failed(job, "its server did not answer")
                threading.Thread(target=self._work, args=(batch, max(batch.running, default=0) + 1000), daemon=True).start()
        if batch.running or time.monotonic() - heard < PATIENCE_SECONDS:
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
                session = session or self._connect()
            except Exception as error:  # no server, or it died while we connected
                batch.trouble = last_line(error)
                time.sleep(0.5)
                continue
            batch.trouble = ""
            job = batch.jobs.get()
            if job is None:
                return
            job.attempts, job.began = job.attempts + 1, time.monotonic()
            batch.running[worker] = job
            try:
                batch.results.put(Measured(job.decisions, self.time(session, batch.workload, job)))
            except Exception as error:  # the candidate failed, or its server died: TVM says so in many ways
                session = None
                if worker in batch.running:
                    batch.failed(job, last_line(error))
            batch.running.pop(worker, None)

    def _connect(self) -> Session:
        """Ask the tracker for a server, and wait until one is free."""
        tracker = rpc.TrackerSession((self.options.host, self.options.port))
        remote = tracker.request(self.options.key, session_timeout=SESSION_SECONDS, max_retry=1)
        tracker.close()
        remote.get_function("runtime.config_threadpool")(1, self.threads)
        return Session(remote)

    def _connect_soon(self) -> Session:
        """Connect, but wait for a free server no longer than PATIENCE_SECONDS, nor when the run is to end.

        Raises
        ------
        TuningError
            Where none was free in time.
        """
        sessions: queue.SimpleQueue[Session | Exception] = queue.SimpleQueue()

        def connect() -> None:
            try:
                sessions.put(self._connect())
            except Exception as error:  # whatever TVM raises, for the thread that waits
                sessions.put(error)

        threading.Thread(target=connect, daemon=True).start()  # TVM's request has no time limit
        began = time.monotonic()
        while time.monotonic() - began < (STOP_PATIENCE_SECONDS if self.stop() else PATIENCE_SECONDS):
            with contextlib.suppress(queue.Empty):
                session = sessions.get(timeout=0.5)
                if isinstance(session, Exception):
                    raise session
                return session
        raise TuningError(f"no server of key {self.options.key} is free to race the winners; start one and run tune --resume")

    def _wait_for_servers(self) -> int:
        end = time.monotonic() + PATIENCE_SECONDS
        while not (servers := self.options.servers()):
            if time.monotonic() > end:
                raise TuningError(
                    f"the tracker at {self.options.host}:{self.options.port} knows no server of key {self.options.key}; "
                    "start one with tvm-balanced serve-rpc"
                )
            time.sleep(0.5)
        return servers

    def _arguments(self, workload: Workload) -> Arguments:
        if workload not in self._drawn:
            self._drawn = {workload: draw(workload)}  # one at a time: workers are on the same one
        return self._drawn[workload]

    def _remote(self, session: Session, workload: Workload) -> list[Any]:
        """Upload the arguments of a workload, once a session."""
        if workload not in session.held:
            session.held.clear()
            given = (*self._arguments(workload).given, empty_result(workload))
            session.held[workload] = [tvm.runtime.tensor(a, session.remote.cpu(0)) for a in given]
        return list(session.held[workload])

    def _evaluator(self, session: Session, library: Path) -> Any:
        module = self.upload(session, library)
        options = {"number": 1, "repeat": 9, "f_preproc": FLUSH} if self.cold else {"number": 1, "repeat": 3, "min_repeat_ms": 10}
        return module.time_evaluator("main", session.remote.cpu(0), **options)

    @staticmethod
    def _seconds(evaluator: Any, arguments: list[Any]) -> float:
        return float(np.median(evaluator(*arguments).results))

    def _confirm(self, session: Session, workload: Workload, candidates: Sequence[Decisions], seconds: float) -> Confirmed | None:
        space = space_of(workload, self.target)
        arguments, reference = self._remote(session, workload), self._arguments(workload).reference()
        errors: dict[Decisions, float] = {}
        racers = {"default": self._evaluator(session, self.build(workload, space.default))}
        for decisions in candidates:
            evaluator = self._evaluator(session, self.build(workload, decisions))
            arguments[-1] = tvm.runtime.tensor(empty_result(workload), session.remote.cpu(0))
            evaluator(*arguments)
            errors[decisions] = relative_error(arguments[-1].numpy(), reference)
            if errors[decisions] <= tolerance(workload):
                racers[str(decisions)] = evaluator
        right = [decisions for decisions in candidates if str(decisions) in racers]
        if not right:
            return None
        timing = self._race(racers, arguments, seconds)
        best = max(right, key=lambda decisions: timing.speedup(str(decisions), "default").p50)
        return Confirmed(best, timing.speedup(str(best), "default"), errors[best])

    def _race(self, racers: Mapping[str, Any], arguments: list[Any], seconds: float) -> Timing:
        """Time racers in turn on their server, in an order that is reversed from round to round."""
        times: dict[str, list[float]] = {name: [] for name in racers}
        end = time.monotonic() + seconds
        for round_ in range(ROUNDS):
            for name in racers if round_ % 2 else reversed(list(racers)):
                times[name].append(self._seconds(racers[name], arguments))
            if round_ >= 4 and time.monotonic() > end:
                break
        return Timing({name: np.array(values) for name, values in times.items()})
