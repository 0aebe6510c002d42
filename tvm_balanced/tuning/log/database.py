"""A tuning log as a database of MetaSchedule."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import tvm
from tvm import tirx
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.schedules import ALL_KERNELS, Workload
from tvm_balanced.schedules.base.space import Decisions, decisions_of, form_of
from tvm_balanced.schedules.spaces import Spaces
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Record, Run, Trial, Winner

PyDatabase: Any = ms.database.PyDatabase
FAILED = 1e9  # seconds from which a time of MetaSchedule means that a candidate failed: it notes 1e10


@derived_object
class LogDatabase(PyDatabase):
    """The trials and winners of one log, for one number of threads.

    A workload is known by what our kernels' functions say of themselves, so a function finds its records also if a pass has
    annotated it. What a query returns is the winner: also the default, where nothing beat it. Without a race it is the fastest
    trial. What is of another form of the function than the one that is asked for is left out: a trace schedules one function.

    Parameters
    ----------
    log : Log
    target : tvm.target.Target
        The log's target.
    threads : int
        Threads of a timed call.
    run : str, optional
        Name of the run that new records belong to; by default the log is only read.
    """

    def __init__(self, log: Log, target: tvm.target.Target, threads: int, run: str | None = None) -> None:
        super().__init__()
        self.log, self.target, self.threads, self.run = log, target, threads, run
        self._spaces = Spaces(target)
        self._read: tuple[Any, list[Record]] = (None, [])

    def has_workload(self, mod: tvm.IRModule) -> bool:
        """Return whether there are records of a module's one function; see PyDatabase."""
        workload = workload_of(mod)
        return any(trial.workload == workload for trial in self._of(Trial))

    def commit_workload(self, mod: tvm.IRModule) -> Any:
        """Return a module as MetaSchedule's Workload; see PyDatabase."""
        return ms.database.Workload(mod)

    def commit_tuning_record(self, record: Any) -> None:
        """Append a measurement to the log. One of no kernel of ours is left out; see PyDatabase."""
        workload = workload_of(record.workload.mod)
        if self.run is None or workload is None:
            return
        seconds = seconds_of(record)
        numbers = [trial.number for trial in self._of(Trial) if trial.run == self.run]
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        error = None if seconds is not None else "it failed"
        space = self._spaces[workload].fingerprint
        fields = (workload, self.threads, space, decisions_of(record.trace, record.workload.mod), seconds, error, at)
        self.log.append([Trial(self.run, max(numbers, default=0) + 1, *fields)])

    def get_top_k(self, workload: Any, top_k: int) -> list[Any]:
        """Return the fastest trials of a workload, each point once; see PyDatabase."""
        known = workload_of(workload.mod)
        best: dict[Decisions, float] = {}
        for trial in self._of(Trial):
            if trial.workload == known and trial.seconds is not None and self._fits(trial) and _of_form(trial, workload.mod):
                best[trial.decisions] = min(trial.seconds, best.get(trial.decisions, math.inf))
        fastest = sorted(best, key=lambda decisions: best[decisions])[:top_k]
        return [self._record(workload, known, decisions, best[decisions]) for decisions in fastest]

    def get_all_tuning_records(self) -> list[Any]:
        """Return all trials of our kernels that did not fail; see PyDatabase."""
        workloads = {trial.workload: None for trial in self._of(Trial)}
        return [record for known in workloads for record in self.get_top_k(ms.database.Workload(module_of(known)), 1 << 30)]

    def query_tuning_record(self, mod: tvm.IRModule, _target: Any, _name: str | None = None) -> Any:
        """Return the winner of a module's one function, None if there is none; see PyDatabase."""
        known, workload = workload_of(mod), ms.database.Workload(mod)
        winners = [winner for winner in self._of(Winner) if winner.workload == known and self._fits(winner)]
        if known is None or not winners or (winners[-1].won and not _of_form(winners[-1], mod)):
            return next(iter(self.get_top_k(workload, 1)), None)
        decisions = winners[-1].decisions if winners[-1].won else self._spaces[known].default
        seconds = [
            t.seconds for t in self._of(Trial) if t.workload == known and t.decisions == decisions and t.seconds is not None
        ]
        return self._record(workload, known, decisions, min(seconds, default=FAILED))

    def __len__(self) -> int:
        return len(self.get_all_tuning_records())

    def _record(self, workload: Any, known: Workload | None, decisions: Decisions, seconds: float) -> Any:
        assert known is not None
        arguments = ms.arg_info.ArgInfo.from_prim_func(workload.mod["main"])
        trace = self._spaces[known].trace_of(decisions)
        return ms.database.TuningRecord(trace, workload, [seconds], self.target, arguments)

    def _fits(self, record: Trial | Winner) -> bool:
        space = self._spaces[record.workload]
        return record.space == space.fingerprint and record.decisions in space

    def _of(self, kind: Callable[..., Any]) -> list[Any]:
        """Return the records of a kind on this number of threads; the file is read again if it has changed."""
        state = self.log.path.stat()
        if self._read[0] != (state.st_size, state.st_mtime_ns):
            self._read = (state.st_size, state.st_mtime_ns), self.log.read().records
        return [r for r in self._read[1] if isinstance(r, kind) and not isinstance(r, Run) and r.threads == self.threads]  # type: ignore[arg-type]


def _of_form(record: Trial | Winner, mod: tvm.IRModule) -> bool:
    """Whether a record schedules the form of a kernel's function that a module holds, as all do of kernels without forms."""
    (func,) = mod.functions.values()
    form = form_of(func)
    return form is None or record.decisions[:1] == (form,)


def workload_of(mod: tvm.IRModule) -> Workload | None:
    """Return the workload of a module's one function, None if it is no kernel of ours."""
    functions = [func for func in mod.functions.values() if isinstance(func, tirx.PrimFunc)]
    return Workload.of(functions[0]) if len(functions) == 1 else None


def module_of(workload: Workload) -> tvm.IRModule:
    """Return the module of a workload, as MetaSchedule extracts it from a model."""
    func = ALL_KERNELS[workload.kernel].prim_func(workload)
    return tvm.IRModule({"main": func.with_attrs({"global_symbol": "main", "tirx.noalias": True})})


def seconds_of(record: Any) -> float | None:
    """Return the median time of a record of MetaSchedule, None if it failed."""
    times = sorted(float(seconds) for seconds in record.run_secs or [])
    return times[len(times) // 2] if times and times[-1] < FAILED else None
