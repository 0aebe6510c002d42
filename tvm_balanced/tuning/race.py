"""Race the winners of a log again.

The race at the end of a run takes two seconds a kernel, so what else the machine did in them may have decided it; and a log
may come from another machine of the same key. A winner that loses here is recorded as one, and the default is used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tvm_balanced.core.caches import LARGE_BYTES
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.errors import TuningError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import Workload
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Winner
from tvm_balanced.tuning.log.tools import fits, winners_of
from tvm_balanced.tuning.runners.base import Confirmed, Runner
from tvm_balanced.tuning.runners.local import layer_runner
from tvm_balanced.tuning.scheduler import RACE_SECONDS, now

TIMES = 3  # that a winner has to win


def model_runner(workload: Workload, threads: int) -> Runner:
    """Return what races a workload here. Its weights are where those of a model's layer are: in the last-level cache, and for one
    row of x, where they are the bottleneck, in memory.
    """
    return layer_runner(workload, threads, rotate=2 * LARGE_BYTES)


def host_log(folder: Path) -> Log:
    """Return this machine's log in a folder; raises TuningError if it has none."""
    key = target_key(host_target())
    log = Log(folder, key)
    if not log.exists():
        raise TuningError(f"{folder} has no log of {key}, which is this machine; name the --work-dir of a tune here", usage=True)
    return log


def race_winners(log: Log, runner_of: Callable[[Workload, int], Runner] = model_runner) -> Iterator[Winner]:
    """Race each winner of this machine's log TIMES times, apart from each other, and append what came of it.

    Yields
    ------
    Winner
        As recorded: `won` if it was faster than the default each time, in four rounds of five; `gain` of the race in the middle.
    """
    winners = [one for one in winners_of(log.read().records).values() if one.won and fits(one, host_target())]
    races: list[list[Confirmed | None]] = [[] for _ in winners]
    for _ in range(TIMES):
        for winner, of_winner in zip(winners, races, strict=True):
            runner = runner_of(winner.workload, winner.threads)
            of_winner.append(runner.confirm(winner.workload, [winner.decisions], RACE_SECONDS))
            runner.close()
    for winner, of_winner in zip(winners, races, strict=True):
        after = _after(winner, of_winner)
        log.append([after])
        yield after


def _after(winner: Winner, races: Sequence[Confirmed | None]) -> Winner:
    """Return a winner after its races; one that is not right any more has lost."""
    gains = sorted((race.gain for race in races if race is not None), key=lambda gain: gain.p50)
    won = all(race is not None and race.faster for race in races)
    return replace(winner, won=won, gain=gains[len(gains) // 2] if gains else Ratio(1.0, 1.0, 1.0), at=now())
