"""Which strategy finds the best kernel in the fewest trials? `python -m benchmarks.search [--threads N] [--seeds N]`.

First every point of each space is measured once, into a log (--work-dir; a second call continues where the first stopped). Then
each strategy tunes with several seeds, by the package's own tuner and MetaSchedule's loop, and the times come from that table.
Prints the trials until 95% of the best known kernel, and the CPU time that the search itself took for them; writes the trials to
data/search.csv and the share of seeds that are there after so many trials to docs/figures/search.svg.

--transfer asks whether a search that begins with what was measured of other layers is there sooner. It measures nothing: its
tables are what `benchmarks.gpu.tile_sweep` measured of cuda_decode_mma on an H200, tilings that today's space has.
"""

import argparse
import csv
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cell import append, stamp
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Measured, Trial
from tvm_balanced.tuning.runners.base import Built, Candidate
from tvm_balanced.tuning.runners.local import LocalRunner, layer_runner
from tvm_balanced.tuning.scheduler import Tuner
from tvm_balanced.tuning.search import COST_MODELS, STRATEGIES, TRANSFER
from tvm_balanced.tuning.search.decision_trees import DecisionTrees
from tvm_balanced.tuning.search.nearest import distance
from tvm_balanced.tuning.search.ranked import Ranked
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
LARGE = (  # spaces of over 500 points: of these a table of RECORDED random points, and of what the searches came to
    Workload("cpu_avx512", 256, 1536, 384, 4, 16, activation="gelu"),
    Workload("cpu_avx512_i8", 256, 3072, 768, 2, 16),
    Workload("cpu_dense", 256, 384, 1536, 1, 1, residual=True),
)
SIZED = (  # (kernel, M, N, K, nonzeros, block, dtype) whose number of points --sizes prints
    *(("cpu_avx512", m, 3072, 768, 4, 16, "float32") for m in (1, 8, 128, 512)),
    *((kernel, 512, 3072, 768, 4, 16, "float32") for kernel in ("cpu_avx512_spmm", "cpu_avx512_i8", "cpu_avx2", "cpu_portable")),
    *((kernel, 512, 3072, 768, 1, 1, "float32") for kernel in ("cpu_dense", "cpu_dense_i8")),
    *(("cuda_gemv", 1, n, k, 4, 16, "float16") for n, k in ((4096, 4096), (3072, 768))),
    *(("cuda_decode_mma", m, 4096, 4096, 4, 16, "float16") for m in (16, 256)),
    *(("cuda_decode_wgmma", m, 4096, 4096, 4, 16, "float16") for m in (64, 256)),
    ("cuda_two_of_four", 256, 4096, 4096, 8, 16, "float16"),
    ("cuda_dense_mma", 256, 4096, 4096, 1, 1, "float16"),
)
GPU = "cuda/h200"
RECORDED = 1000
BUDGET = 100  # trials of a search in a large space
CUTS, CUT = ROOT / "data" / "gpu_cuts.csv", ("shares", "warps", "tiles", "steps", "ahead", "blocks")
LEAST = 16  # points of a table that is searched
TRANSFERS = {"nothing": (), "all points": ("trees",), "the best point": ("winners",), "both": ("trees", "winners")}
OURS = "evolutionary, our model"  # MetaSchedule's search with the cost model of the default
Times = dict[Decisions, float | None]


def sizes() -> Table:
    """Return a table of how many points some spaces have."""
    table = Table("kernel", "points", "by decision")
    for name, m, n, k, nnz, block, dtype in SIZED:
        workload = Workload(name, m, n, k, nnz, block, dtype)
        space = space_of(workload, parse_target(GPU) if name.startswith("cuda") else host_target())
        table.add_row(workload.title, str(len(space)), " x ".join(str(len(choices)) for choices in space.choices))
    return table


def table_of(folder: Path, workload: Workload, threads: int) -> Times:
    """Measure the points of a space that are not in the log yet, of a large one some at random; return the seconds of each, None
    if it failed.
    """
    points = len(space_of(workload, host_target()))
    trials, strategy = (RECORDED, "replay") if workload in LARGE else (points, "exhaustive")
    options = TuneOptions(work_dir=folder, trials=trials, resume=True, strategy=strategy, threads=threads)
    tune_tasks([Task(workload)], options, "benchmarks.search", runner=layer_runner(workload, threads))
    records = Log(folder, target_key(host_target())).read().records
    return {r.decisions: r.seconds for r in records if isinstance(r, Trial) and r.workload == workload and r.threads == threads}


@dataclass
class TableRunner:
    """Times come from a table where it has them; no race is run.

    Parameters
    ----------
    table : dict
        Seconds of each point. What is measured is added.
    enough : float
        Seconds that end the search.
    measured : LocalRunner or None
        What measures points that the table lacks; None if it has all.
    """

    table: Times
    enough: float
    measured: LocalRunner | None = None
    times: list[float] = field(default_factory=list)
    parallel: int = 1
    stop: Callable[[], bool] = lambda: False

    def fits(self, _workload: Workload, _decisions: Decisions) -> bool:
        return True

    def build_all(self, candidates: Sequence[Candidate]) -> Iterator[Built]:
        for candidate in candidates:
            if candidate.decisions in self.table or self.measured is None:
                yield Built(candidate.decisions)
            else:
                yield from self.measured.build_all([candidate])

    def run_all(self, workload: Workload, built: Sequence[Built]) -> Iterator[Measured]:
        for one in built:
            if one.decisions not in self.table and self.measured is not None:
                (result,) = self.measured.run_all(workload, [one])
                self.table[one.decisions] = result.seconds
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


def search(
    strategy: str, workload: Workload, runner: TableRunner, threads: int, seed: int, trials: int
) -> tuple[list[float], float]:
    """Return the seconds of each trial, and the CPU seconds of the search, measurements of it included."""
    name, model = ("evolutionary", DecisionTrees) if strategy == OURS else (strategy, COST_MODELS.get(strategy, DecisionTrees))
    with tempfile.TemporaryDirectory() as folder, patch.dict(COST_MODELS, {name: model} if name in COST_MODELS else {}):
        options = TuneOptions(work_dir=folder, trials=trials, seed=seed, strategy=name, threads=threads)
        start = time.process_time()
        tune_tasks([Task(workload)], options, "benchmarks.search", runner.found, runner=runner)
        return runner.times, time.process_time() - start


def searches(
    workload: Workload, table: Times, strategies: Sequence[str], threads: int, seeds: int
) -> dict[str, list[tuple[int, float]]]:
    """Return for each strategy and seed the trials until ENOUGH of the best known point, and the CPU seconds of the search.

    A large space is searched twice: first for BUDGET trials, whose points are measured and join the table, then in the table.
    """
    if workload in LARGE:
        measured = layer_runner(workload, threads)
        for strategy in strategies:
            for seed in range(seeds):
                search(strategy, workload, TableRunner(table, 0.0, measured), threads, seed, BUDGET)
    best = min(seconds for seconds in table.values() if seconds)
    found: dict[str, list[tuple[int, float]]] = {}
    for strategy in strategies:
        trials = BUDGET if workload in LARGE else len(table)
        for seed in range(seeds):
            runner = TableRunner(table, best / ENOUGH, layer_runner(workload, threads) if workload in LARGE else None)
            times, spent = search(strategy, workload, runner, threads, seed, trials)
            needed = len(times) if times[-1] <= best / ENOUGH else trials + 1
            found.setdefault(strategy, []).append((needed, spent))
    return found


class TableSpace(tuple[Decisions, ...]):
    """The points of a table, as a strategy asks a space for them."""

    fingerprint = "a table"


def cuts() -> dict[Workload, Times]:
    """Return the microseconds of each tiling of cuda_decode_mma that was measured on an H200, of layers with LEAST of them."""
    tables: dict[Workload, Times] = {}
    with CUTS.open() as file:
        for row in csv.DictReader(file):
            numbers = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", row["cut"])}
            if row["kernel"] == "cuda_decode_mma" and set(numbers) == set(CUT):
                nnz, block = map(int, row["pattern"].split(":"))
                layer = Workload(row["kernel"], int(row["m"]), int(row["n"]), int(row["k"]), nnz, block, row["dtype"])
                table, point = tables.setdefault(layer, {}), tuple((numbers[name],) for name in CUT)
                table[point] = min(float(row["us"]), table.get(point) or math.inf)
    return {layer: table for layer, table in tables.items() if len(table) >= LEAST}


def best_of(table: Times) -> Decisions:
    """Return the fastest point of a table."""
    return min(table, key=lambda point: table[point] or math.inf)


def nearest_point(point: Decisions, table: Times) -> Decisions:
    """Return the point of a table whose factors are nearest to those of a point."""
    return min(table, key=lambda one: sum(abs(math.log2(a / b)) for (a,), (b,) in zip(one, point, strict=True)))


def replayed(layer: Workload, tables: dict[Workload, Times], known: Sequence[str], seed: int) -> int:
    """Return the trials until ENOUGH of the best of a layer's table, the first of which is drawn at random."""
    table, space = tables[layer], TableSpace(tables[layer])
    others = sorted((other for other in tables if other != layer), key=lambda other: distance(other, layer))
    trees = DecisionTrees(seed, transfer="trees" in known)
    for other in others if "trees" in known else ():
        trees.join(other, space.fingerprint)
        for point, us in tables[other].items():
            trees.learn(other.title, point, us or math.inf)
    won = [nearest_point(best_of(tables[other]), table) for other in others[:2]] if "winners" in known else []
    batch = [space[int(np.random.default_rng(seed).integers(len(space)))], *won]
    strategy, enough = Ranked(space, seed, layer, trees), (table[best_of(table)] or math.inf) / ENOUGH  # type: ignore[arg-type]
    while batch:
        for point in dict.fromkeys(batch):
            strategy.tell([Measured(point, table[point])])
            if (table[point] or math.inf) <= enough:
                return len(strategy.seen)
        batch = strategy.propose(4)
    raise AssertionError("the best point was never proposed")


def transfers(seeds: int) -> Table:
    """Return a table of the trials that each recorded layer takes, with what is known of the others."""
    tables, shown = cuts(), Table("layer", "points", "known of the others", "trials to 95%, median", "80%", "worst", "mean")
    means: dict[str, list[float]] = {}
    for layer, table in tables.items():
        for name, known in TRANSFERS.items():
            needed = [replayed(layer, tables, known, seed) for seed in range(seeds)]
            means.setdefault(name, []).append(float(np.mean(needed)))
            p50, p80 = (f"{p:.0f}" for p in np.percentile(needed, (50, 80)))
            shown.add_row(layer.title, str(len(table)), name, p50, p80, str(max(needed)), f"{means[name][-1]:.1f}")
    for name, of_layers in means.items():
        shown.add_row("all layers", "", name, "", "", "", f"{sum(of_layers):.1f} together")
    return shown


def main() -> None:
    """Measure, search, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=Path("build/search"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, help="20, and 5 for large spaces")
    parser.add_argument("--large", action="store_true", help="the spaces of over 500 points, in place of the small ones")
    parser.add_argument("--kernels", type=int, default=len(WORKLOADS), help="only the first so many")
    known = [*(name for name in STRATEGIES if name != TRANSFER), OURS]
    parser.add_argument("--strategies", nargs="+", choices=known, help="all; of large spaces not the exhaustive one")
    parser.add_argument("--sizes", action="store_true", help="search nothing, and print how many points spaces have")
    parser.add_argument("--transfer", action="store_true", help="search with and without what is known of other shapes")
    parser.add_argument("--no-files", action="store_true", help="do not write CSV and figure")
    options = parser.parse_args()
    if options.sizes:
        Console(width=150).print(sizes())
        return
    if options.transfer:
        Console(width=150).print(transfers(options.seeds or 20))
        return
    workloads = (LARGE if options.large else WORKLOADS)[: options.kernels]
    options.seeds = options.seeds or (5 if options.large else 20)
    options.strategies = options.strategies or [name for name in known if name != "exhaustive" or not options.large]
    shown = Table("kernel", "space", "default of best", "strategy", f"trials to {ENOUGH:.0%}, median", "80%", "worst", "search s")
    figure, grid = plt.subplots(1, len(workloads), figsize=(4 * len(workloads), 3), constrained_layout=True, squeeze=False)
    for place, (axes, workload) in enumerate(zip(grid[0], workloads, strict=True)):
        # one folder each: a resumed run counts its trials, whichever kernel they belong to
        name = f"{options.threads}-{'large-' if options.large else ''}{place}"
        table = table_of(options.work_dir / name, workload, options.threads)
        found = searches(workload, table, options.strategies, options.threads, options.seeds)
        space = space_of(workload, host_target())
        share = f"{min(s for s in table.values() if s) / (table[space.default] or math.inf):.3f}"
        for strategy, runs in found.items():
            needed, spent = np.array(runs).T
            p50, p80 = (f"{p:.0f}" for p in np.percentile(needed, (50, 80)))
            row = [workload.title, str(len(space)), share, strategy, p50, p80, f"{needed.max():.0f}", f"{np.median(spent):.1f}"]
            shown.add_row(*row)
            print(*row, sep="; ", flush=True)
            axes.step(np.sort(needed), np.arange(1, len(needed) + 1) / len(needed), where="post", label=strategy)
            cell = {"threads": options.threads, "kernel": workload.title, "space": len(space), "strategy": strategy}
            cell |= {"seeds": options.seeds, "default_of_best": share, "p50": p50, "p80": p80, "worst": row[6]}
            if not options.no_files:
                append(DATA, COLUMNS, [stamp() | cell])
        axes.set(title=workload.title, xlabel="trials", ylabel=f"share of seeds at {ENOUGH:.0%} of the best", xscale="log")
        axes.legend(frameon=False)
    if not options.no_files and not options.large:
        figure.savefig(FIGURE)
    Console(width=150).print(shown)


if __name__ == "__main__":
    main()
