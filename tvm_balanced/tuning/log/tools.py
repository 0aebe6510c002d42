"""Tools for logs: list, show, check, compare, merge and compact them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from filelock import FileLock, Timeout

from tvm_balanced.errors import TuningError
from tvm_balanced.schedules import ALL_KERNELS, Workload
from tvm_balanced.tuning.log import manifest
from tvm_balanced.tuning.log.log import Log, logs_in
from tvm_balanced.tuning.log.record import Record, Run, Trial, Winner, to_line

Outcome = tuple[Workload, int]  # the key of a winner: a workload and a number of threads


@dataclass(frozen=True)
class Listed:
    """One log in a folder."""

    key: str
    device: str
    date: str
    runs: int
    trials: int
    failed: int
    winners: int
    won: int


def listed(folder: Path) -> list[Listed]:
    """Return the contents of the logs in a folder; raises TuningError if one cannot be read."""
    found = []
    for log in logs_in(folder):
        records = log.read().records
        trials = [record for record in records if isinstance(record, Trial)]
        winners = winners_of(records)
        device, date = _made(log)
        failed, won = sum(t.seconds is None for t in trials), sum(w.won for w in winners.values())
        runs = sum(isinstance(r, Run) for r in records)
        found.append(Listed(log.key, device, date, runs, len(trials), failed, len(winners), won))
    return found


def _made(log: Log) -> tuple[str, str]:
    try:
        facts = manifest.read(log)
    except TuningError:
        return "no manifest", "-"
    return str(facts["device"]), str(facts["date"])


def winners_of(records: Sequence[Record]) -> dict[Outcome, Winner]:
    """Return the last winner of each workload and number of threads."""
    return {(record.workload, record.threads): record for record in records if isinstance(record, Winner)}


def title(outcome: Outcome) -> str:
    """Return a readable name of a workload on a number of threads."""
    return f"{outcome[0].title}, {outcome[1]} thread{'s' if outcome[1] > 1 else ''}"


def merge(sources: Sequence[Path], destination: Path) -> dict[str, int]:
    """Add all records of logs to those in `destination`, without duplicates. Return how many were added for each key.

    Raises
    ------
    TuningError
        If a source is not a log; none of its records are written then.
    """
    added: dict[str, int] = {}
    logs = [(log, log.read().records) for folder in sources for log in logs_in(folder)]
    empty = next((folder for folder in sources if not logs_in(folder)), None)
    if empty is not None:
        raise TuningError(f"{empty} holds no tuning log; name the --work-dir of tune", usage=True)
    for log, records in logs:
        into = Log(destination, log.key)
        into.create()
        held = {to_line(record) for record in into.read().records}
        fresh = [record for record in records if to_line(record) not in held]
        if fresh:
            into.rewrite(lambda present, fresh=fresh: _by_time([*present, *fresh]))  # type: ignore[misc]
        manifest.copy(log, into)
        added[log.key] = added.get(log.key, 0) + len(fresh)
    return added


def _by_time(records: Sequence[Record]) -> list[Record]:
    """Return the records in the order of their time, each once: of several winners the last counts."""
    once = {to_line(record): record for record in records}
    return sorted(once.values(), key=lambda record: record.at)


def compact(folder: Path, trials: bool = False) -> int:
    """Keep the last winner of each workload, and with `trials` all trials, in every log. Return how
    many records were removed.

    Raises
    ------
    TuningError
        If a tuner is writing one of the logs. That log stays as it is, because the tuner's run
        would be lost.
    """
    return sum(_prune(log, trials) for log in logs_in(folder))


def _prune(log: Log, trials: bool) -> int:
    gone = 0

    def select(records: list[Record]) -> list[Record]:
        nonlocal gone
        running = runs_under_way(log)  # under the log's lock: a run that begins later writes later
        if running:
            raise TuningError(f"{log.folder} is being written by run {running[0]}; compact it when that has ended")
        winners = set(map(id, winners_of(records).values()))
        wanted = {id(r) for r in records if id(r) in winners or (trials and isinstance(r, Trial))}
        runs = {r.run for r in records if id(r) in wanted}
        kept = [r for r in records if id(r) in wanted or (isinstance(r, Run) and r.run in runs)]
        gone = len(records) - len(kept)
        return kept

    log.rewrite(select)
    return gone


def runs_under_way(log: Log) -> list[str]:
    """Return the names of the runs of a log that a process holds."""
    held = []
    for path in sorted(log.folder.glob(".run-*.lock")):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            held.append(path.name.removeprefix(".run-").removesuffix(".lock"))
        else:
            lock.release()
    return held


def verify(folder: Path) -> list[str]:
    """Return the faults of the logs in a folder, one sentence each; empty if there are none."""
    found = []
    logs = logs_in(folder)
    for log in logs:
        try:
            read, facts = log.read(), manifest.read(log)
            target = tvm.target.Target(facts["target"])
        except (TuningError, ValueError, RuntimeError) as error:
            found.append(str(error))
            continue
        found += [f"{log.path}, line {line}, is damaged; logs compact drops it" for line in read.damaged]
        found += [f"{log.path}: {fault}" for fault in _faults(read.records, target)]
    return found or ([] if logs else [f"{folder} holds no tuning log"])


def _faults(records: Sequence[Record], target: tvm.target.Target) -> list[str]:
    """Return the faults of records that can be read."""
    found, runs, numbers = [], {r.run for r in records if isinstance(r, Run)}, set()
    for record in records:
        if record.run not in runs:
            found.append(f"run {record.run} is not described")
            runs.add(record.run)
        if isinstance(record, Trial):
            if (record.run, record.number) in numbers:
                found.append(f"trial {record.number} of run {record.run} is there twice")
            numbers.add((record.run, record.number))
    for outcome, winner in winners_of(records).items():
        try:
            fitting = not winner.won or fits(winner, target)
        except Exception as error:  # the kernel or TVM may raise anything for an impossible shape or dtype
            found.append(
                f"the winner of {title(outcome)} is of no workload that its kernel has ({type(error).__name__}); drop its line"
            )
            continue
        if not fitting:
            found.append(f"the winner of {title(outcome)} is of another version of its kernel and not used; tune again")
    return found


def fits(winner: Winner, target: tvm.target.Target) -> bool:
    """Whether a winner's decisions belong to its kernel's current space."""
    kernel = ALL_KERNELS.get(winner.workload.kernel)
    if kernel is None:
        return False
    space = kernel.sampled(kernel.prim_func(winner.workload), winner.workload, target)
    return winner.space == space.fingerprint and winner.decisions in space


def diff(left: Path, right: Path) -> list[dict[str, Any]]:
    """Return the workloads whose winners differ between two folders, with the decisions and gain of each."""
    rows = []
    logs = [{log.key: winners_of(log.read().records) for log in logs_in(folder)} for folder in (left, right)]
    for key in sorted(logs[0].keys() | logs[1].keys()):
        ours, theirs = logs[0].get(key, {}), logs[1].get(key, {})
        for outcome in sorted(ours.keys() | theirs.keys(), key=title):
            a, b = _used(ours.get(outcome)), _used(theirs.get(outcome))
            if a != b:
                rows.append({"key": key, "kernel": title(outcome), "left": a, "right": b})
    return rows


def _used(winner: Winner | None) -> str:
    if winner is None:
        return "-"
    return f"{[list(d) for d in winner.decisions]} {winner.gain.p50:.2f}x" if winner.won else "default"
