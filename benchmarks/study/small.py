"""The points of the small models: a structure and a sparsity each, a row each in data/accuracy_small.csv."""

import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cell import append, stamp
from benchmarks.study import training
from benchmarks.study.digits import Digits
from benchmarks.study.language import Language
from benchmarks.study.segmentation import Segmentation

DATA = Path(__file__).parent.parent / "data" / "accuracy_small.csv"
KEY = ("model", "structure", "pattern", "seed", "dense_steps", "tune_steps")
COLUMNS = (*("date", "cpu", "versions"), *KEY, *("sparsity", "metric", "value", "cpu_seconds"))
TASKS: dict[str, type[training.Task]] = {task.name: task for task in (Digits, Segmentation, Language)}
DENSE = "dense"
UNSTRUCTURED = "unstructured"
PERCENT = (60, 70, 80, 90)
# Blocks that keep a whole number of elements at 60, 70, 80 and 90% zeros, where they do.
EVEN = {25: {60: 10, 80: 5}, 50: {60: 20, 70: 15, 80: 10, 90: 5}, 100: {60: 40, 70: 30, 80: 20, 90: 10}}
OF_16 = {6: 0.625, 5: 0.6875, 3: 0.8125, 2: 0.875}  # what 16 elements keep near these, and the sparsity
# Of the convolutions, up to the sparsity at which the digits suffer.
HIGH = {"4:16": 0.75, "2:16": 0.875, "1:16": 0.9375, "1:32": 0.96875, "1:64": 0.984375}
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Point:
    """One fine-tuned model: its structure ("balanced 50", say), the pattern (None: dense) and the seed."""

    model: str
    structure: str
    pattern: str | None = None
    seed: int = 0

    def as_row(self) -> dict[str, object]:
        """Return the columns KEY of its row."""
        task = TASKS[self.model]
        return asdict(self) | {"pattern": self.pattern or "", "dense_steps": task.dense_steps, "tune_steps": task.tune_steps}

    def key(self) -> tuple[str, ...]:
        """Return what tells a row from another."""
        return tuple(str(self.as_row()[name]) for name in KEY)


def points(model: str, quick: bool) -> Iterator[Point]:
    """Yield a model's points, the most telling ones first."""
    yield Point(model, DENSE)
    found = _high(model) if model == Digits.name else _recurrent(model)
    yield from (point for point in found if not quick or _is_quick(point))


def _is_quick(point: Point) -> bool:
    """The least that tests the paper's claims: three structures, at two sparsities of the digits, at 80% of the others."""
    wanted = ("balanced 16", "balanced 50", "block 8x8", UNSTRUCTURED)
    pattern = point.pattern or ""
    return not point.seed and point.structure in wanted and pattern.endswith(("0.8", "0.9375", "10:50", "1:16"))


def _high(model: str) -> Iterator[Point]:
    for seed in SEEDS:
        if seed:
            yield Point(model, DENSE, None, seed)
        for pattern, sparsity in HIGH.items():
            yield Point(model, f"balanced {pattern.partition(':')[2]}", pattern, seed)
            yield Point(model, UNSTRUCTURED, f"unstructured:{sparsity:g}", seed)
            yield Point(model, "block 8x8", f"block8x8:{sparsity:g}", seed)


def _recurrent(model: str) -> Iterator[Point]:
    yield from _three(model, 0)
    for block, kept in EVEN.items():
        if block != 50:
            yield from (Point(model, f"balanced {block}", f"{nnz}:{block}") for nnz in kept.values())
    for nnz, sparsity in OF_16.items():
        yield Point(model, "balanced 16", f"{nnz}:16")
        yield Point(model, UNSTRUCTURED, f"unstructured:{sparsity:g}")
    yield Point(model, "2:4", "2:4")
    yield Point(model, "balanced 16", "8:16")
    yield Point(model, UNSTRUCTURED, "unstructured:0.5")
    for name in ("block 4x4", "vector 8"):
        yield from (Point(model, name, f"{name.replace(' ', '')}:{percent / 100:g}") for percent in PERCENT)
    for seed in SEEDS[1:]:
        yield Point(model, DENSE, None, seed)
        yield from _three(model, seed)


def _three(model: str, seed: int) -> Iterator[Point]:
    """Yield unstructured, balanced and blocks at each of PERCENT."""
    for percent in (80, 90, 60, 70):
        yield Point(model, UNSTRUCTURED, f"unstructured:{percent / 100:g}", seed)
        yield Point(model, "balanced 50", f"{EVEN[50][percent]}:50", seed)
        yield Point(model, "block 8x8", f"block8x8:{percent / 100:g}", seed)


def rows(path: Path = DATA) -> list[dict[str, str]]:
    """Return the rows of the CSV, none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(model: str, quick: bool, until: float) -> bool:
    """Measure the points of a model that have no row, until time.monotonic() is `until`; return whether all have one."""
    there = {tuple(row[name] for name in KEY) for row in rows()}
    task = TASKS[model]()
    for point in points(model, quick):
        if point.key() in there:
            continue
        if time.monotonic() > until:
            return False
        row = measure(task, point)
        append(DATA, COLUMNS, [row])
        print(" ".join(f"{name} {row[name]}" for name in COLUMNS[3:]), flush=True)
    return True


def measure(task: training.Task, point: Point) -> dict[str, object]:
    """Fine-tune and judge one model; return its row."""
    model = training.dense(task, point.seed)
    before = time.process_time()
    value = training.tuned(task, model, point.seed, point.pattern)
    return {
        **stamp(),
        **point.as_row(),
        "sparsity": f"{training.sparsity(task, model):.4f}",
        "metric": task.metric,
        "value": f"{value:.4f}",
        "cpu_seconds": f"{time.process_time() - before:.1f}",
    }
