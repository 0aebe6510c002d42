"""Between our logs and databases of MetaSchedule, in both directions.

    FOLDER/database_workload.json        a function a line
    FOLDER/database_tuning_record.json   a measured schedule a line, with the number of its function

MetaSchedule reads no such database of which a line is unfinished, so it is read here without its last such line. TVM takes what
it reads for sound: read only databases that you trust.
"""

import math
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.core.files import require_free
from tvm_balanced.errors import ArtifactError, TuningError, last_line
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import ALL_KERNELS, Workload
from tvm_balanced.schedules.base.space import Decisions, Space, decisions_of
from tvm_balanced.schedules.spaces import Spaces
from tvm_balanced.transform.annotate_schedule_rule import annotated
from tvm_balanced.tuning.log import manifest
from tvm_balanced.tuning.log.database import LogDatabase, module_of, seconds_of, workload_of
from tvm_balanced.tuning.log.log import Log, logs_in
from tvm_balanced.tuning.log.record import Run, Trial, Winner

FILES = ("database_workload.json", "database_tuning_record.json")


@dataclass(frozen=True)
class Measurement:
    """A record of MetaSchedule that schedules a kernel of ours by its own space; seconds None: it failed."""

    workload: Workload
    target: tvm.target.Target
    space: str
    decisions: Decisions
    seconds: float | None


def is_database(folder: Path) -> bool:
    """Whether a folder holds a database of MetaSchedule."""
    return all((folder / name).is_file() for name in FILES)


def measurements(folder: Path) -> Iterator[Measurement | None]:
    """Yield what a database of MetaSchedule measured, None for each record of something else: another function, or a schedule
    that is none of the kernel's space in this version. Raises TuningError if it cannot be read.
    """
    known: dict[str, Spaces] = {}
    for record in _records(folder):
        workload = workload_of(record.workload.mod)
        if workload is None or workload.m is None or workload.kernel not in ALL_KERNELS or record.target is None:
            yield None
            continue
        space = known.setdefault(str(record.target), Spaces(record.target))[workload]
        decisions = decisions_of(record.trace, record.workload.mod)
        if decisions in space and _is_of(record, space, decisions):
            yield Measurement(workload, record.target, space.fingerprint, decisions, seconds_of(record))
        else:
            yield None


def _records(folder: Path) -> list[Any]:
    if not is_database(folder):
        raise TuningError(f"{folder} holds no database of MetaSchedule ({' and '.join(FILES)}); name its work_dir", usage=True)
    try:
        with tempfile.TemporaryDirectory(prefix="tvm_balanced-") as copy:
            for name in FILES:
                content = (folder / name).read_bytes()
                (Path(copy) / name).write_bytes(content[: content.rfind(b"\n") + 1])
            return list(ms.database.JSONDatabase(work_dir=copy).get_all_tuning_records())
    except Exception as error:  # TVM raises many kinds
        raise TuningError(f"the database of MetaSchedule in {folder} cannot be read ({last_line(error)}); tune again") from error


def _is_of(record: Any, space: Space, decisions: Decisions) -> bool:
    """Whether a record's function is scheduled as our space would, whatever a pass noted on its blocks."""
    scheduled = []
    for trace in (record.trace, space.trace_of(decisions)):
        schedule = Schedule(_copy(record.workload.mod))
        try:
            trace.apply_to_schedule(schedule, remove_postproc=False)
        except Exception:  # it is of another version of the kernel
            return False
        scheduled.append(schedule.mod)
    return bool(tvm_ffi.structural_equal(*scheduled))


def _copy(mod: tvm.IRModule) -> tvm.IRModule:
    """Return a module of its own: schedules annotate blocks in place."""
    return tvm.ir.load_json(tvm.ir.save_json(mod))


def fastest(folder: Path, key: str) -> dict[Workload, Measurement]:
    """Return the fastest schedule of each workload that a database of MetaSchedule has for a target key."""
    best: dict[Workload, Measurement] = {}
    for found in measurements(folder):
        if found is None or found.seconds is None or target_key(found.target) != key:
            continue
        if found.workload not in best or found.seconds < (best[found.workload].seconds or math.inf):
            best[found.workload] = found
    return best


@dataclass(frozen=True)
class Imported:
    """How many measurements came into a log, how many it had already, and how many records were of nothing of ours."""

    added: int
    known: int
    foreign: int


def import_database(source: Path, destination: Path, threads: int | None = None) -> Imported:
    """Add what a database of MetaSchedule measured to our logs, as trials: the next `tune` knows them, and races the fastest with
    the default before `compile` uses it.

    Parameters
    ----------
    source : Path
        The work_dir of MetaSchedule.
    destination : Path
        A folder of logs; created if missing.
    threads : int, optional
        Threads of a timed call; by default the target's num-cores, else 1.

    Raises
    ------
    TuningError
        If the database cannot be read, or the log cannot be written.
    """
    by_key: dict[str, list[Measurement]] = {}
    foreign = 0
    for found in measurements(source):
        if found is None:
            foreign += 1
        else:
            by_key.setdefault(target_key(found.target), []).append(found)
    added = sum(_add(Log(destination, key), all_, threads, source) for key, all_ in by_key.items())
    return Imported(added, sum(map(len, by_key.values())) - added, foreign)


def _add(log: Log, found: list[Measurement], threads: int | None, source: Path) -> int:
    if not log.exists():
        manifest.write(log, found[0].target, "as its database of MetaSchedule does not say")
    log.create()
    held = {_identity(record) for record in log.read().records if isinstance(record, Trial)}
    run, at = secrets.token_hex(4), datetime.now(UTC).isoformat(timespec="milliseconds")
    fresh: dict[Any, Trial] = {}
    for one in found:
        cores = threads or int(one.target.attrs.get("num-cores", 1))
        error = None if one.seconds is not None else "it failed"
        trial = Trial(run, len(fresh) + 1, one.workload, cores, one.space, one.decisions, one.seconds, error, at)
        if _identity(trial) not in held:
            fresh.setdefault(_identity(trial), trial)
    trials = list(fresh.values())
    if trials:
        plan = {"source": f"MetaSchedule's database {source}", "threads": trials[0].threads, "strategy": "imported"}
        log.append([Run(run, plan, environment.versions(), at), *trials])
    return len(trials)


def _identity(trial: Trial) -> tuple[Any, ...]:
    return trial.workload, trial.threads, trial.space, trial.decisions, trial.seconds


def export_database(
    source: Path, destination: Path, key: str | None = None, threads: int | None = None, trials: bool = False
) -> int:
    """Write what a log has as a new database of MetaSchedule; return the number of its records.

    Each kernel's function is written as our passes leave it, and as AnnotateScheduleRule does.

    Parameters
    ----------
    source : Path
        A folder of logs.
    destination : Path
        A folder that is new or empty.
    key : str, optional
        Which log, if there are several.
    threads : int, optional
        Which threads of a timed call, if there are several: a database of MetaSchedule does not tell them apart.
    trials : bool
        Write every measurement, for a search to go on from; MetaSchedule then takes the fastest. By default only what `compile`
        would use: the winner of each kernel, or its default where nothing beat it.

    Raises
    ------
    TuningError
        If the log cannot be read, has nothing to write, or it must be said which key or threads are meant.
    """
    log = _chosen(source, key)
    records = [r for r in log.read().records if isinstance(r, (Trial, Winner))]
    threads = _one("numbers of threads", sorted({r.threads for r in records}), threads, log.folder, "--threads")
    database = LogDatabase(log, tvm.target.Target(manifest.read(log)["target"]), threads)
    workloads = dict.fromkeys(r.workload for r in records if r.threads == threads and (trials or isinstance(r, Winner)))
    try:
        require_free(destination)
        destination.mkdir(parents=True, exist_ok=True)
        written = ms.database.JSONDatabase(work_dir=str(destination))
    except (ArtifactError, OSError) as error:
        raise TuningError(str(error), usage=True) from None
    count = 0
    for workload in workloads:
        found = _of(database, workload, trials)
        for mod in (module_of(workload), _annotated(workload)):
            entry = written.commit_workload(mod)
            for record in found:
                written.commit_tuning_record(
                    ms.database.TuningRecord(record.trace, entry, record.run_secs, record.target, record.args_info)
                )
        count += len(found)
    return count


def _of(database: Any, workload: Workload, trials: bool) -> list[Any]:
    mod = module_of(workload)
    if trials:
        return list(database.get_top_k(ms.database.Workload(mod), 1 << 30))
    record = database.query_tuning_record(mod, database.target, "main")
    return [] if record is None else [record]


def _annotated(workload: Workload) -> tvm.IRModule:
    func = annotated(_copy(module_of(workload))["main"])
    assert func is not None  # a workload of a log has a known M
    return tvm.IRModule({"main": func})


def _chosen(source: Path, key: str | None) -> Log:
    logs = {log.key: log for log in logs_in(source)}
    return logs[_one("logs", sorted(logs), key, source, "--key")]


def _one(what: str, there: list[Any], wanted: Any, where: Path, option: str) -> Any:
    """Return the one that is wanted, or the only one that is there."""
    if wanted in there or (wanted is None and len(there) == 1):
        return there[0] if wanted is None else wanted
    given = "" if wanted is None else f", not {wanted}"
    if not there:
        raise TuningError(f"{where} holds nothing to export; tune first", usage=True)
    raise TuningError(f"{where} has {what} {', '.join(map(str, there))}{given}; choose one with {option}", usage=True)
