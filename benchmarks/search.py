"""Which strategy finds the best kernel in the fewest trials? `python -m benchmarks.search [--threads N] [--seeds N]`.

First every point of each space is measured once, into a log (--work-dir; a second call continues where the first stopped). Then
each strategy searches that table, with several seeds and without new measurements. "transfer" is the default strategy, started
from the best points of the other shapes. Prints the trials until 95% of the best known kernel, and writes the curves to
docs/figures/search.svg and data/search.csv.
"""

import argparse
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cell import append, stamp
from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.core.encoding import Array
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Measured, Trial
from tvm_balanced.tuning.runners.base import space_of
from tvm_balanced.tuning.runners.local import LocalRunner
from tvm_balanced.tuning.search import DEFAULT, STRATEGIES
from tvm_balanced.tuning.tasks import Task
from tvm_balanced.tuning.tune import TuneOptions, tune_tasks

matplotlib.use("agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parent
DATA, FIGURE = ROOT / "data" / "search.csv", ROOT.parent / "docs" / "figures" / "search.svg"
ENOUGH = 0.95  # of the best known kernel's speed
BATCH = 8
COLUMNS = ("date", "cpu", "versions", "threads", "kernel", "space", "strategy", "seeds", "default_of_best", "p50", "p80", "worst")
WORKLOADS = (  # MiniLM's layers at 4:16, shapes of docs/measurements/tuning.md, and a layer of the LSTM of hidden size 1500
    Workload("cpu_avx512", 128, 384, 384, 4, 16, residual=True),
    Workload("cpu_avx512", 128, 1536, 384, 4, 16, activation="gelu"),
    Workload("cpu_avx512", 128, 384, 1536, 4, 16, residual=True),
    Workload("cpu_avx512", 16, 768, 768, 2, 16),
    Workload("cpu_avx512", 1, 4096, 4096, 2, 16),
    Workload("cpu_avx512", 1, 3072, 768, 2, 16),
    Workload("cpu_avx512", 1, 6000, 1500, 2, 16),
)
TRANSFER = "transfer"
Times = Mapping[Decisions, float | None]


def table_of(folder: Path, workload: Workload, threads: int) -> Times:
    """Measure all points of a space that are not in the log yet; return the seconds of each, None if it failed."""
    options = TuneOptions(work_dir=folder, trials=len(space_of(workload, host_target())), resume=True, strategy="exhaustive")
    options = TuneOptions(**{**vars(options), "threads": threads})
    # with one row of x the weights are the bottleneck; in a model larger than the caches they are in memory
    runner = LocalRunner(host_target(), threads, CACHE_MULTIPLE * last_level_cache() if workload.m == 1 else 0)
    tune_tasks([Task(workload)], options, "benchmarks.search", runner=runner)
    records = Log(folder, target_key(host_target())).read().records
    return {r.decisions: r.seconds for r in records if isinstance(r, Trial) and r.workload == workload and r.threads == threads}


def transferred(space: Space, others: Iterable[Times]) -> list[Decisions]:
    """Return the points of a space whose tiles were best for other shapes; the outermost factors follow from them."""
    points = []
    for table in others:
        best = min((d for d, s in table.items() if s), key=lambda d: table[d] or math.inf)
        inner = tuple(decision[1:] for decision in best)
        points += [point for point in space if tuple(decision[1:] for decision in point) == inner]
    return list(dict.fromkeys(points))


def curve(strategy: str, workload: Workload, table: Times, seed: int, others: Iterable[Times] = ()) -> Array:
    """Return the best seconds after each trial of a search in the table; the default is the first."""
    space = space_of(workload, host_target())
    searching = STRATEGIES[DEFAULT if strategy == TRANSFER else strategy](space, seed, workload, host_target())
    times: list[float] = []
    batch = [space.default]
    if strategy == TRANSFER:
        batch += [point for point in transferred(space, others) if point != space.default]
    while batch:
        seconds = [table[decisions] for decisions in batch]
        searching.tell([Measured(d, s, None if s else "failed") for d, s in zip(batch, seconds, strict=True)])
        times += [math.inf if s is None else s for s in seconds]
        batch = searching.propose(BATCH)
    return np.minimum.accumulate(np.array(times))


def trials_needed(curves: Iterable[Array]) -> Array:
    """Return for each curve the trials until ENOUGH of its best."""
    return np.array([int(np.argmax(c <= c[-1] / ENOUGH)) + 1 for c in curves])


def main() -> None:
    """Measure, search, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=Path("build/search"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kernels", type=int, default=len(WORKLOADS), help="only the first so many")
    known = [*STRATEGIES, TRANSFER]
    parser.add_argument("--strategies", nargs="+", default=known, choices=known)
    parser.add_argument("--no-files", action="store_true", help="do not write CSV and figure")
    options = parser.parse_args()
    shown = Table("kernel", "space", "default of best", "strategy", f"trials to {ENOUGH:.0%}, median", "80%", "worst")
    figure, grid = plt.subplots(1, options.kernels, figsize=(4 * options.kernels, 3), constrained_layout=True, squeeze=False)
    # one folder each: a resumed run counts its trials, whichever kernel they belong to
    folders = [options.work_dir / f"{options.threads}-{place}" for place in range(options.kernels)]
    tables = [table_of(folder, w, options.threads) for folder, w in zip(folders, WORKLOADS, strict=False)]
    for axes, workload, table in zip(grid[0], WORKLOADS, tables, strict=False):
        title, others = Task(workload).title, [other for other in tables if other is not table]
        for strategy in options.strategies:
            curves = [curve(strategy, workload, table, seed, others) for seed in range(options.seeds)]
            best, first = curves[0][-1], curves[0][0]
            needed = trials_needed(curves)
            p50, p80 = (f"{p:.0f}" for p in np.percentile(needed, (50, 80)))
            row = [title, str(len(table)), f"{best / first:.3f}", strategy, p50, p80, str(needed.max())]
            shown.add_row(*row)
            axes.plot(np.arange(1, len(table) + 1), np.median([best / c for c in curves], axis=0), label=strategy)
            cell = {"threads": options.threads, "kernel": title, "space": len(table), "strategy": strategy}
            cell |= {"seeds": options.seeds, "default_of_best": row[2], "p50": p50, "p80": p80, "worst": row[6]}
            if not options.no_files:
                append(DATA, COLUMNS, [stamp() | cell])
        axes.set(title=title, xlabel="trials", ylabel="of the best known speed", xscale="log")
        axes.legend(frameon=False)
    if not options.no_files:
        figure.savefig(FIGURE)
    Console(width=150).print(shown)


if __name__ == "__main__":
    main()
