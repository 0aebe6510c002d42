"""Which decisions a workload gets: the user's log of the target, else the shipped one, else the kernel's defaults."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Literal

import tvm

from tvm_balanced.runtime.host import threads_of, user_folder
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import ALL_KERNELS, Workload
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.tuning.log.exchange import Measurement, fastest, is_database
from tvm_balanced.tuning.log.log import Log, logs_in
from tvm_balanced.tuning.log.record import Winner

DEFAULT = "default"


@dataclass(frozen=True)
class Choice:
    """The decisions of one workload, None for the kernel's defaults, and where they come from."""

    decisions: Decisions | None
    source: str


class TunedSchedules:
    """The winners of one target's logs.

    Parameters
    ----------
    target : tvm.target.Target
    threads : int
        Of a call: a winner on another number of threads says nothing about this one.
    logs : sequence of (name, Log)
        The first that has a winner for a workload counts. Those that do not exist are passed over; one that is not for the
        target, or not a log, raises TuningError.
    database : mapping, optional
        What a database of MetaSchedule found for each workload; it comes before the logs.
    """

    def __init__(
        self,
        target: tvm.target.Target,
        threads: int,
        logs: Sequence[tuple[str, Log]],
        database: Mapping[Workload, Measurement] | None = None,
    ) -> None:
        self.target, self.threads = target, threads
        self._winners: list[tuple[str, dict[Workload, Winner]]] = []
        for name, log in logs:
            if log.exists():
                stat = log.path.stat()
                winners = _winners(log.folder.parent, log.key, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
                self._winners.append((name, {winner.workload: winner for winner in winners if winner.threads == threads}))
        self._chosen: dict[Workload, Choice] = {}
        self._database = database or {}

    @classmethod
    def of(cls, target: tvm.target.Target, threads: int, logs: str | Path | Literal[False] | None = None) -> "TunedSchedules":
        """Return what is tuned for a target: by the log in folder `logs` (None: this user's), then by the shipped one.

        False leaves all kernels at their defaults. A folder with a database of MetaSchedule is one of logs too: of each kernel,
        its fastest schedule is used. Raises TuningError where `logs` is neither.
        """
        if logs is False:
            return cls(target, threads, [])
        if logs is not None and is_database(Path(logs)):
            shipped = ("shipped", Log(_shipped(), target_key(target)))
            return cls(target, threads_of(target, threads), [shipped], fastest(Path(logs), target_key(target)))
        if logs is not None:
            logs_in(Path(logs))  # says so where it is none: a name that was mistyped would leave all at its defaults
        key, threads = target_key(target), threads_of(target, threads)
        user = user_folder() if logs is None else Path(logs)
        return cls(target, threads, [("user log", Log(user, key)), ("shipped", Log(_shipped(), key))])

    @classmethod
    def shipped(cls, target: tvm.target.Target, threads: int) -> "TunedSchedules":
        """Return what the shipped log of a target has, whatever this user tuned."""
        return cls(target, threads, [("shipped", Log(_shipped(), target_key(target)))])

    def __call__(self, workload: Workload) -> Decisions | None:
        """Return the decisions of a workload whose M is known, None for the defaults."""
        return self.choose(workload).decisions

    def choose(self, workload: Workload) -> Choice:
        """Return the decisions of a workload whose M is known, and where they come from.

        With rounded rows it has those of the whole kernel, which is what is tuned.
        """
        workload = replace(workload, rounded=False)
        if workload not in self._chosen:
            self._chosen[workload] = self._choose(workload)
        return self._chosen[workload]

    def winners(self) -> list[Winner]:
        """Return what won for any workload on this number of threads, that of the first log first."""
        return [winner for _, winners in self._winners for winner in winners.values()]

    def source(self, variant: Variant) -> str:
        """Return where the schedule of a layer's variant comes from, in a few words."""
        if variant.workload.m is not None:
            return self.choose(variant.workload).source
        tuned: dict[str, list[int]] = {}
        for tile in variant.small_tiles:
            choice = self.choose(replace(variant.workload, m=tile))
            if choice.decisions is not None:
                tuned.setdefault(choice.source, []).append(tile)
        return "; ".join(f"{source} at M = {', '.join(map(str, rows))}" for source, rows in tuned.items()) or DEFAULT

    def _choose(self, workload: Workload) -> Choice:
        if workload in self._database:
            return Choice(self._database[workload].decisions, "tuned: MetaSchedule's database")
        for name, winners in self._winners:
            winner = winners.get(workload)
            if winner is None:
                continue
            if not winner.won:
                return Choice(None, f"{DEFAULT}: nothing beat it, {name}")
            kernel = ALL_KERNELS[workload.kernel]
            space = kernel.sampled(kernel.prim_func(workload), workload, self.target)
            if winner.space != space.fingerprint or winner.decisions not in space:
                return Choice(None, f"{DEFAULT}: the kernel has changed since it was tuned, {name}")
            return Choice(winner.decisions, f"tuned: {name}")
        return Choice(None, DEFAULT)


@functools.lru_cache(maxsize=16)  # each model that is compiled asks for the shipped ones
def _winners(folder: Path, key: str, _state: tuple[int, ...]) -> tuple[Winner, ...]:
    """Return what won by a log; `_state` is another one after each change of its file."""
    return tuple(record for record in Log(folder, key).read().records if isinstance(record, Winner))


def _shipped() -> Path:
    return Path(str(resources.files("tvm_balanced.tuning_logs")))
