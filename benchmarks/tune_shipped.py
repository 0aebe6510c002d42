"""Make the tuned logs that are shipped: `python -m benchmarks.tune_shipped [--work-dir D] [--minutes N] [--threads 1 2]`.

The kernels of MiniLM for one and for eight sentences of 128 tokens (2:16 and 4:16), of one step of the LSTM of hidden size 1500,
SHAPES, and the cells of benchmarks.grid. Everything is kept in the folder; a second call continues where the first stopped.
`--race` races the winners again, and `--ship` writes them in place of those in tuning_logs/.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

from benchmarks import grid
from benchmarks.cell import Cell
from benchmarks.models import lstm, minilm
from tvm_balanced.api import import_model
from tvm_balanced.bench.kernel import KernelBenchmark
from tvm_balanced.compiler.layers import planned
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.tuning.log import manifest, tools
from tvm_balanced.tuning.log.log import FILE
from tvm_balanced.tuning.race import host_log, model_runner, race_winners
from tvm_balanced.tuning.result import TuningResult
from tvm_balanced.tuning.runners.local import cold_runner
from tvm_balanced.tuning.tasks import Task, tasks_of
from tvm_balanced.tuning.tune import TuneOptions, tune_tasks

SHIPPED = Path(__file__).parent.parent / "tuning_logs"
PATTERNS = ("2:16", "4:16")
# (N, K), and the M of each
SHAPES = ((768, 768), (3072, 768), (768, 3072), (4096, 4096))
ROWS = (1, 8, 16, 64, 256)


def minilm_tasks(threads: int, batch: int = 1) -> list[Task]:
    """Return the kernels of MiniLM at both patterns."""
    return [task for pattern in PATTERNS for task in _tasks(*minilm(batch, pattern)[:2], threads)]


def lstm_tasks(threads: int) -> list[Task]:
    """Return the kernels of the LSTM step at both patterns."""
    return [task for pattern in PATTERNS for task in _tasks(*lstm(1, pattern)[:2], threads)]


def shape_tasks(threads: int) -> list[Task]:
    """Return the shapes of docs/measurements/tuning.md."""
    return [_layer(Cell(*shape, m, pattern, threads)) for shape, m, pattern in product(SHAPES, ROWS, PATTERNS)]


def grid_tasks(threads: int) -> list[Task]:
    """Return the cells of benchmarks.grid."""
    return [_layer(cell) for cell in grid.draw() if cell.threads == threads]


def _layer(cell: Cell) -> Task:
    """Return a single layer, on the kernel that it would get."""
    pattern = BalancedPattern.parse(cell.pattern)
    return Task(KernelBenchmark(cell.n, cell.k, cell.m, pattern, cell.threads, cell.regime).workload())


def _tasks(model: object, args: object, threads: int) -> list[Task]:
    imported = import_model(model, args)  # type: ignore[arg-type]
    return tasks_of(planned(imported, KernelSelector.of(host_target(), threads))[1])


SETS: dict[str, Callable[[int], list[Task]]] = {
    "minilm": minilm_tasks,
    "minilm-8": lambda threads: minilm_tasks(threads, 8),
    "lstm": lstm_tasks,
    "shapes": shape_tasks,
    "grid": grid_tasks,
}
ALONE = ("shapes", "grid")  # layers without a model: their weights are in memory


def tune(name: str, threads: int, options: argparse.Namespace) -> TuningResult:
    """Tune one set, in a folder of its own: a resumed run is the last run of its folder."""
    folder = options.work_dir / f"{name}-{threads}"
    settings = TuneOptions(
        target=host_target(),
        work_dir=folder,
        minutes=options.minutes,
        per_kernel=options.per_kernel,
        resume=True,
        threads=threads,
    )
    tasks, runner = SETS[name](threads), cold_runner(threads) if name in ALONE else None
    return tune_tasks(tasks, settings, f"benchmarks.tune_shipped {name}", runner=runner)


def folders(work_dir: Path) -> list[Path]:
    """Return the folders of the sets."""
    return sorted(path for path in work_dir.iterdir() if path.is_dir())


def race(work_dir: Path) -> None:
    """Race the winners of all sets again, their weights from where they were when they won, and print what came of it."""
    for folder in folders(work_dir):
        alone = folder.name.rpartition("-")[0] in ALONE
        for winner in race_winners(host_log(folder), (lambda _, threads: cold_runner(threads)) if alone else model_runner):
            gain = f"{winner.gain.p50:.3f}x ({winner.gain.p20:.3f} to {winner.gain.p80:.3f})"
            print(f"{tools.title((winner.workload, winner.threads))}: {gain}{'' if winner.won else ', dropped'}", flush=True)


def ship(work_dir: Path) -> None:
    """Write the winners of all sets in a folder in place of those in tuning_logs/."""
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder)
        tools.merge(folders(work_dir), together)
        tools.compact(together)
        faults = tools.verify(together)
        if faults:
            raise SystemExit("\n".join(faults))
        key = target_key(host_target())
        shutil.copy(together / key / FILE, SHIPPED / key / FILE)
        facts = json.loads((together / key / manifest.FILE).read_text())
        facts["command"] = "python -m benchmarks.tune_shipped"  # not this machine's folders
        (SHIPPED / key / manifest.FILE).write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    """Tune the named sets, and print the gain of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=Path("build/tune_shipped"))
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--minutes", type=float, help="of each set")
    parser.add_argument("--per-kernel", type=int, default=64)
    parser.add_argument("--race", action="store_true", help="only race the winners again")
    parser.add_argument("--ship", action="store_true", help="only write the winners to tuning_logs/")
    options = parser.parse_args()
    if options.race or options.ship:
        (race if options.race else ship)(options.work_dir)
        return
    for name, threads in product(options.sets, options.threads):
        result = tune(name, threads, options)
        print(f"{name}, {threads} threads: {result.ended}")
        for row in result.kernels:
            print(
                f"  {row.kernel}: {row.trials} trials, {row.gain or 1:.3f}x over the default{'' if row.won else ', which stays'}"
            )
        before = sum(row.calls * row.default_us for row in result.kernels if row.default_us)
        after = sum(row.calls * row.default_us / (row.gain or 1) for row in result.kernels if row.default_us)
        print(f"  together {before:.0f} us, tuned {after:.0f} us: {before / max(after, 1e-9):.3f}x")


if __name__ == "__main__":
    main()
