"""Is the kernel faster than its baselines wherever it may be used? `python -m benchmarks.grid [--engines] [--minutes 60]`.

Forty cells, timed --runs times, each cell in its own process; `make bench-grid` is the same.
--every takes every size with every M and pattern on one thread instead, as needed for a mean over
the sizes. --dtype bfloat16 takes the cells of one thread, --tuned gives our kernels the schedules
of the shipped log, --cold loads weights from memory in small layers too. Rows are appended to
data/grid.csv and the ratios of every round to data/grid_rounds.csv. A baseline that has its row
under this --label, run and cell is not timed again, so a stopped grid continues where it was. At
the end, or with --summary alone, the tables are printed and written to data/grid-LABEL.md: medians
of the paired ratios with 95% bootstrap intervals.
"""

import argparse
import csv
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import deepsparse_process, engines
from benchmarks.bootstrap import Estimate, estimate, geometric_mean
from benchmarks.cell import BOUND, COLUMNS, ROUNDS, Cell, Timed, append, measure, row_of, stamp
from benchmarks.interference import other_load
from tvm_balanced.core.encoding import Array

SIZES = ((768, 768), (3072, 768), (768, 3072), (4096, 4096), (11008, 4096), (16384, 8192))  # N, K
ROWS = (1, 8, 16, 64, 256)  # M
PATTERNS = ("8:16", "4:16", "2:16", "1:16")
THREADS = (1, 2)
DTYPES = ("float32", "bfloat16")
SEED = 0

OURS = "balanced"
BASELINES = ("reference", "onednn", "eager")
WITH_ENGINES = (*BASELINES, "csr", *engines.ENGINES, BOUND)

FOLDER = Path(__file__).parent / "data"
GRID, GRID_ROUNDS = (FOLDER / name for name in ("grid.csv", "grid_rounds.csv"))
KEY = ("label", "run", "n", "k", "m", "pattern", "threads", "dtype", "rival")
Ratios = Mapping[Cell, Mapping[str, list[Array]]]  # for each cell and baseline: an array (rounds,) per run
Estimates = Mapping[Cell, Mapping[str, Estimate]]
TextTable = tuple[str, list[str], list[list[str]]]  # title, header, rows
Measure = Callable[[Cell, Sequence[str], float, int], Mapping[str, Timed]]


def draw(seed: int = SEED) -> list[Cell]:
    """Return forty cells: every (M, pattern, threads) once; every size with every M and pattern, and equally often.

    Sizes are drawn at random until they are even: six or seven cells each, three or four of them
    with one thread.
    """
    rng = random.Random(seed)
    while True:
        cells = []
        more = rng.sample(SIZES * 2, len(ROWS) * 2)
        for i, m in enumerate(ROWS):
            sizes = [*SIZES, *more[2 * i : 2 * i + 2]]
            rng.shuffle(sizes)
            cells += [Cell(*size, m, *rest) for size, rest in zip(sizes, product(PATTERNS, THREADS), strict=True)]
        if _even(cells):
            return cells


def every() -> list[Cell]:
    """Return every size with every M and pattern, on one thread: 120 cells."""
    return [Cell(*size, m, pattern, threads=1) for size in SIZES for m, pattern in product(ROWS, PATTERNS)]


def _even(cells: Sequence[Cell]) -> bool:
    sizes = Counter((c.n, c.k) for c in cells)
    of_threads = Counter((c.n, c.k, c.threads) for c in cells)
    with_patterns = {(c.n, c.k, c.pattern) for c in cells}
    return (
        len(with_patterns) == len(SIZES) * len(PATTERNS)
        and set(sizes.values()) <= {6, 7}
        and all(of_threads[(*size, threads)] in (3, 4) for size in SIZES for threads in THREADS)
    )


@dataclass(frozen=True)
class Plan:
    """What to time.

    Parameters
    ----------
    label : str
        Names the series of runs.
    runs : int
    seconds : float
        Timing of each cell.
    end : float
        No cell begins later, on the clock of time.monotonic.
    quiet : float
        A cell is not recorded if other processes took more than this share of the machine.
    """

    label: str
    runs: int = 3
    seconds: float = 30
    end: float = float("inf")
    quiet: float = 0.1


def run_grid(plan: Plan, cells: Sequence[Cell], rivals: Sequence[str], time_cell: Measure = measure) -> list[str]:
    """Time what has no row yet, run after run, and append it; return what failed."""
    done, failed = timed_already(), []
    for run, cell in product(range(1, plan.runs + 1), cells):
        wanted = [rival for rival in rivals if key(plan.label, run, cell, rival) not in done]
        if not wanted:
            continue
        if time.monotonic() >= plan.end:
            print(f"out of time before run {run}, {cell}; the same command goes on from there")
            break
        start = time.monotonic()
        try:
            with other_load() as neighbours:
                results = time_cell(cell, wanted, plan.seconds, ROUNDS)
            if neighbours.share > plan.quiet:
                raise RuntimeError(f"{cell}: other processes took {neighbours.share:.0%} of the machine; not recorded")
        except RuntimeError as error:
            failed.append(f"run {run}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
            continue
        record(plan.label, run, cell, {name: timed for name, timed in results.items() if name != OURS or wanted == list(rivals)})
        shown = ", ".join(f"{name} {timed.percentiles()[1]:.2f}" for name, timed in results.items() if name != OURS)
        print(f"run {run}, {cell}, {cell.regime}: {shown} ({time.monotonic() - start:.0f} s)", flush=True)
    return failed


def key(label: str, run: int, cell: Cell, rival: str) -> tuple[str, ...]:
    """Return the identity of a row, with the fields of `KEY`."""
    return tuple(map(str, (label, run, *(getattr(cell, name) for name in KEY[2:-1]), rival)))


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """Return the identity of a row that was read."""
    return tuple(row[name] for name in KEY)


def timed_already() -> set[tuple[str, ...]]:
    """Return the keys of the existing rows."""
    return {key_of(row) for row in read(GRID)}


def record(label: str, run: int, cell: Cell, results: Mapping[str, Timed]) -> None:
    """Append a cell's rows to both files; the rounds first, because the other file records what is done."""
    keys = {rival: dict(zip(KEY, key(label, run, cell, rival), strict=True)) for rival in results}
    rounds = {rival: " ".join(f"{ratio:g}" for ratio in timed.ratios) for rival, timed in results.items() if rival != OURS}
    append(GRID_ROUNDS, (*KEY, "ratios"), [keys[rival] | {"ratios": text} for rival, text in rounds.items()])
    rows = [stamp() | keys[rival] | row_of(cell, rival, timed) for rival, timed in results.items()]
    append(GRID, (*COLUMNS[:3], "label", "run", *COLUMNS[3:]), rows)


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def ratios_of(label: str) -> dict[Cell, dict[str, list[Array]]]:
    """Return the paired ratios under a label, by cell and baseline, with an array per run."""
    found: dict[Cell, dict[str, list[Array]]] = {}
    cold = {key_of(row) for row in read(GRID) if row["regime"] == "cold"}
    for row in read(GRID_ROUNDS):
        if row["label"] == label and row["ratios"]:
            numbers = (int(row[name]) for name in ("n", "k", "m"))
            cell = Cell(*numbers, row["pattern"], int(row["threads"]), row["dtype"])
            if cell.regime == "hot" and key_of(row) in cold:
                cell = replace(cell, from_memory=True)
            found.setdefault(cell, {}).setdefault(row["rival"], []).append(np.array(row["ratios"].split(), float))
    return found


def summarise(ratios: Ratios) -> list[TextTable]:
    """Return each cell, geometric means by M, by pattern and over all, and how many cells are decided."""
    rivals = [name for name in WITH_ENGINES if any(name in of_cell for of_cell in ratios.values())]
    estimates = {cell: {name: estimate(runs) for name, runs in of_cell.items()} for cell, of_cell in ratios.items()}
    return [
        _of_cells(estimates, rivals),
        _means("M", lambda cell: cell.m, estimates, rivals),
        _means("pattern", lambda cell: cell.pattern, estimates, rivals),
        _means("M and pattern", lambda cell: f"{cell.m}, {cell.pattern}", estimates, rivals),
        _means("cells", lambda _: "all", estimates, rivals),
        (
            "Cells whose whole interval is on one side of 1",
            ["rival", "we are faster", "we are slower", "undecided"],
            [_decided(name, estimates) for name in rivals],
        ),
    ]


def _of_cells(estimates: Estimates, rivals: Sequence[str]) -> TextTable:
    by_size = sorted(estimates, key=lambda cell: (cell.n * cell.k, *asdict(cell).values()))
    rows = [
        [f"{c.n}x{c.k}", str(c.m), c.pattern, str(c.threads), c.regime, *(str(estimates[c].get(name, "-")) for name in rivals)]
        for c in by_size
    ]
    header = ["N x K", "M", "pattern", "threads", "regime", *(f"over {name}" for name in rivals)]
    return "Every cell: median (95% interval)", header, rows


def _means(title: str, group: Callable[[Cell], object], estimates: Estimates, rivals: Sequence[str]) -> TextTable:
    def mean(value: object, rival: str) -> str:
        return geometric_mean([e[rival].median for cell, e in estimates.items() if group(cell) == value and rival in e])

    values = dict.fromkeys(group(cell) for cell in sorted(estimates, key=lambda c: (c.m, -int(c.pattern.split(":")[0]))))
    rows = [[str(value), *(mean(value, rival) for rival in rivals)] for value in values]
    return f"Geometric mean of the medians by {title}", [title, *(f"over {name}" for name in rivals)], rows


def _decided(rival: str, estimates: Estimates) -> list[str]:
    of_rival = [of_cell[rival] for of_cell in estimates.values() if rival in of_cell]
    faster, slower = sum(e.low > 1 for e in of_rival), sum(e.high < 1 for e in of_rival)
    return [rival, *map(str, (faster, slower, len(of_rival) - faster - slower))]


def report(label: str) -> None:
    """Print the tables of a label and write them beside the data."""
    ratios = ratios_of(label)
    if not ratios:
        print(f'nothing was timed under the label "{label}"')
        return
    runs = max(len(runs) for of_cell in ratios.values() for runs in of_cell.values())
    lines = [f"# The grid, {label}", "", f"{len(ratios)} cells, {runs} runs, {stamp()['cpu']}, {stamp()['versions']}."]
    lines += [f"How many times faster we are than each rival; made by `python -m benchmarks.grid --summary --label {label}`."]
    for title, header, rows in summarise(ratios):
        table = Table(*header, title=title)
        for row in rows:
            table.add_row(*row)
        Console(width=60 + 18 * len(header)).print(table)
        lines += ["", f"## {title}", "", _markdown(header), _markdown(["---"] * len(header)), *map(_markdown, rows)]
    (GRID.parent / f"grid-{label}.md").write_text("\n".join(lines) + "\n")


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Time the grid and print its tables; return 1 if a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", help="names a series of runs; by default today's date, the dtype and whether it is tuned")
    parser.add_argument("--every", action="store_true", help="every size with every M and pattern on one thread, 120 cells")
    parser.add_argument("--rivals", nargs="+", choices=(*BASELINES, BOUND), default=BASELINES, help="the first three by default")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--cold", action="store_true", help="weights come from memory in every cell, as in a large model")
    parser.add_argument("--tuned", action="store_true", help="our kernels with the schedules of the shipped log")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cells", nargs="+", default=["*"], help='names as --list prints them, with * and ?: "4096x4096 m1 *"')
    parser.add_argument("--seconds", type=float, default=30, help="of timing, for each cell; at least five rounds count")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after this long")
    parser.add_argument(
        "--quiet", type=float, default=0.1, help="record no cell in which others took more than this share of the CPU"
    )
    parser.add_argument("--engines", nargs="*", choices=list(engines.ENGINES), help="also CSR and these engines, all by default")
    parser.add_argument("--list", action="store_true", help="print the cells and end")
    parser.add_argument("--summary", action="store_true", help="time nothing")
    options = parser.parse_args()
    chosen = every() if options.every else draw()
    drawn = [
        replace(cell, dtype=options.dtype, from_memory=options.cold)
        for cell in chosen
        if options.dtype == DTYPES[0] or cell.threads == 1
    ]
    cells = [cell for cell in drawn if any(fnmatchcase(str(cell), pattern) for pattern in options.cells)]
    if options.list:
        print("\n".join(f"{cell} {cell.regime}" for cell in cells))
        return 0
    label = options.label or _label(options.dtype, options.tuned, options.cold)
    failed = []
    if not options.summary:
        end = time.monotonic() + 60 * options.minutes
        plan = Plan(label, options.runs, options.seconds, end, options.quiet)
        failed = run_grid(plan, cells, _rivals(options.rivals, options.engines), partial(measure, tuned=options.tuned))
    report(label)
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def _label(dtype: str, tuned: bool, cold: bool) -> str:
    words = [datetime.now(UTC).date().isoformat()]
    words += [dtype] if dtype != DTYPES[0] else []
    return "-".join(words + ["tuned"] * tuned + ["cold"] * cold)


def _rivals(rivals: Sequence[str], names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(rivals)
    wanted = names or list(engines.ENGINES)
    deepsparse_process.try_install(wanted)
    return (*rivals, "csr", *engines.available(wanted))


if __name__ == "__main__":
    sys.exit(main())
