"""Which strategy finds the best kernel in the fewest trials? `python -m benchmarks.search [--threads N] [--seeds N]`.

First every point of each space is measured once, into a log (--work-dir; a second call continues where the first stopped). Then
each strategy tunes with several seeds, by the package's own tuner and MetaSchedule's loop, and the times come from that table.
Prints the trials until 95% of the best known kernel, and the CPU time that the search itself took for them; writes the trials to
data/search.csv and the share of seeds that are there after so many trials to docs/figures/search.svg.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cell import append, stamp
from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Measured, Trial
from tvm_balanced.tuning.runners.base import Built, Candidate
from tvm_balanced.tuning.runners.local import LocalRunner
from tvm_balanced.tuning.scheduler import Tuner
from tvm_balanced.tuning.search import COST_MODELS, STRATEGIES
from tvm_balanced.tuning.search.decision_trees import DecisionTrees
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
OURS = "evolutionary, our model"  # MetaSchedule's search with the cost model of the default
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


@dataclass
class TableRunner:
    """Times come from a table, nothing is built, and no race is run.

    Parameters
    ----------
    table : mapping
        Seconds of each point.
    enough : float
        Seconds that end the search.
    """

    table: Times
    enough: float
    times: list[float] = field(default_factory=list)
    parallel: int = 1
    stop: Callable[[], bool] = lambda: False

    def fits(self, _workload: Workload, _decisions: Decisions) -> bool:
        return True

    def build_all(self, candidates: Sequence[Candidate]) -> Iterator[Built]:
        return (Built(candidate.decisions) for candidate in candidates)

    def run_all(self, _workload: Workload, built: Sequence[Built]) -> Iterator[Measured]:
        for one in built:
            seconds = self.table[one.decisions]
            self.times.append(math.inf if seconds is None else seconds)
            yield Measured(one.decisions, seconds, None if seconds else "failed")

    def confirm(self, *_: Any) -> None:
        return None

    def dense_seconds(self, _workload: Workload) -> float:
        return 1.0

    def close(self) -> None:
        return None

    def found(self, tuner: Tuner) -> None:
        """End the search if this is enough."""
        if self.times[-1:] and self.times[-1] <= self.enough:
            tuner.stop("found")


def search(strategy: str, workload: Workload, table: Times, threads: int, seed: int) -> tuple[int, float]:
    """Return the trials until ENOUGH of the best of the table, and the CPU seconds of the search."""
    best = min(seconds for seconds in table.values() if seconds)
    runner = TableRunner(table, best / ENOUGH)
    name, model = ("evolutionary", DecisionTrees) if strategy == OURS else (strategy, COST_MODELS.get(strategy, DecisionTrees))
    with tempfile.TemporaryDirectory() as folder, patch.dict(COST_MODELS, {name: model} if name in COST_MODELS else {}):
        options = TuneOptions(work_dir=folder, trials=len(table), seed=seed, strategy=name, threads=threads)
        start = time.process_time()
        tune_tasks([Task(workload)], options, "benchmarks.search", runner.found, runner=runner)
        return len(runner.times), time.process_time() - start


def main() -> None:
    """Measure, search, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=Path("build/search"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kernels", type=int, default=len(WORKLOADS), help="only the first so many")
    known = [*STRATEGIES, OURS]
    parser.add_argument("--strategies", nargs="+", default=known, choices=known)
    parser.add_argument("--no-files", action="store_true", help="do not write CSV and figure")
    options = parser.parse_args()
    shown = Table("kernel", "space", "default of best", "strategy", f"trials to {ENOUGH:.0%}, median", "80%", "worst", "search s")
    figure, grid = plt.subplots(1, options.kernels, figsize=(4 * options.kernels, 3), constrained_layout=True, squeeze=False)
    for place, (axes, workload) in enumerate(zip(grid[0], WORKLOADS, strict=False)):
        # one folder each: a resumed run counts its trials, whichever kernel they belong to
        table = table_of(options.work_dir / f"{options.threads}-{place}", workload, options.threads)
        first = table[space_of(workload, host_target()).default] or math.inf
        share = f"{min(s for s in table.values() if s) / first:.3f}"
        for strategy in options.strategies:
            runs = [search(strategy, workload, table, options.threads, seed) for seed in range(options.seeds)]
            needed, spent = np.array(runs).T
            p50, p80 = (f"{p:.0f}" for p in np.percentile(needed, (50, 80)))
            row = [workload.title, str(len(table)), share, strategy, p50, p80, f"{needed.max():.0f}", f"{np.median(spent):.1f}"]
            shown.add_row(*row)
            print(*row, sep="; ", flush=True)
            axes.step(np.sort(needed), np.arange(1, len(needed) + 1) / len(needed), where="post", label=strategy)
            cell = {"threads": options.threads, "kernel": workload.title, "space": len(table), "strategy": strategy}
            cell |= {"seeds": options.seeds, "default_of_best": share, "p50": p50, "p80": p80, "worst": row[6]}
            if not options.no_files:
                append(DATA, COLUMNS, [stamp() | cell])
        axes.set(title=workload.title, xlabel="trials", ylabel=f"share of seeds at {ENOUGH:.0%} of the best", xscale="log")
        axes.legend(frameon=False)
    if not options.no_files:
        figure.savefig(FIGURE)
    Console(width=150).print(shown)


if __name__ == "__main__":
    main()
