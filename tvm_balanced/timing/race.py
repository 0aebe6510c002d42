"""The finished module beside the original model, so that nobody gets a slower one without being told."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tvm_balanced.core.imported_model import Eager, ImportedModel
from tvm_balanced.core.mapped_files import mapped_bytes
from tvm_balanced.core.race import Race
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.timing.paired import PAUSE, Seconds, Timing, measure_paired

log = logging.getLogger(__name__)
VARIABLE = "TVM_BALANCED_RACE"  # "0" switches races off
MOST_MAPPED = 1 << 30  # bytes of weights that are mapped from files: a race keeps all of them in memory, beside the module
SECONDS = 3.0  # of all entry points together
OURS, EAGER = "ours", "eager"
LEAST, DISCARDED = 2, 2  # rounds of measure_paired that count at least, and that do not count
BLAMED, SHARE = 3, 0.05  # how many functions are blamed at most, and from which share of the time on
PROFILED = 3  # calls of a profile


def race(module: CompiledModule, imported: ImportedModel) -> CompiledModule:
    """Time each entry point of a module in turns with the original model, write it to the report, and return the module.

    Nothing is done for another machine's module, for one on a GPU, for a model whose framework is not the one that runs it, and
    where the environment says TVM_BALANCED_RACE=0. A model whose own weights were left in their files because they may not fit
    into memory, more than MOST_MAPPED bytes of them, is not run as a whole either.
    """
    mapped = mapped_bytes(imported.weight_names)
    if mapped > MOST_MAPPED:
        log.info("no race: the original model would keep %.1f GB of weights in memory", mapped / 1e9)
        return module
    entries = {name: entry.eager for name, entry in imported.entry_points.items() if entry.eager is not None}
    if os.environ.get(VARIABLE) == "0" or module.machine is None or module.facts.on_gpu or not entries:
        return module
    return module.with_races([_race(module, name, eager, SECONDS / len(entries)) for name, eager in entries.items()])


def _race(module: CompiledModule, name: str, eager: Eager, seconds: float) -> Race:
    clock = time.thread_time if module.threads == 1 else time.perf_counter  # the former does not count other processes

    def timed(call: Callable[..., object]) -> Callable[[int], Seconds]:
        def run(_call: int) -> Seconds:
            start = clock()
            call(*eager.args, **eager.kwargs)
            return Seconds(clock() - start)

        return run

    with eager.running(module.threads):
        timing = _timed(timed(module[name]), timed(eager.call), seconds, module.threads)
    ratio = timing.speedup(OURS, EAGER)
    blamed = _blamed(module, name, eager) if ratio.p50 < 1 else ()
    return Race(name, len(timing.times[OURS]), timing.microseconds(OURS), ratio, blamed)


def _timed(ours: Callable[[int], Seconds], theirs: Callable[[int], Seconds], seconds: float, threads: int) -> Timing:
    """Return the times of as many rounds as fit into so many seconds, at least of one."""
    end = time.perf_counter() + seconds
    rivals = {OURS: ours, EAGER: theirs}
    first = {name: call(0) for name, call in rivals.items()}  # the comparison has warmed both
    a_pair = time.perf_counter() - (end - seconds)
    warm, pause = (1, PAUSE) if threads > 1 else (0, 0.0)
    a_round = (1 + warm) * a_pair + 2 * pause
    left = end - time.perf_counter()
    if (LEAST + DISCARDED + 1) * a_round > left:
        return _pairs(rivals, first, a_pair, end, pause)
    return measure_paired(rivals, seconds=left - a_round, warm=warm, pause=pause, least=LEAST)


def _pairs(
    rivals: dict[str, Callable[[int], Seconds]], first: Mapping[str, Seconds], a_pair: float, end: float, pause: float
) -> Timing:
    """Return the times of calls that take so long that waking threads does not matter: all pairs that fit, and the first."""
    times = {name: [float(taken)] for name, taken in first.items()}
    a_pair += 2 * pause
    while (start := time.perf_counter()) + a_pair <= end:
        for name in reversed(rivals) if len(times[OURS]) % 2 else rivals:
            time.sleep(pause)
            times[name].append(float(rivals[name](0)))
        a_pair = max(a_pair, time.perf_counter() - start)
    return Timing({name: np.array(taken) for name, taken in times.items()})


def _blamed(module: CompiledModule, name: str, eager: Eager) -> tuple[tuple[str, float], ...]:
    """Return the functions that take most of a call's time."""
    profile: Any = module[name].profile(*eager.args, rounds=PROFILED, **eager.kwargs)
    naive = {row.name for row in module.report.functions if not row.scheduled}
    rows = [row for row in profile.rows[:BLAMED] if row.share >= SHARE]
    return tuple((f"{row.name}, a naive loop" if row.name in naive else row.name, row.share) for row in rows)
