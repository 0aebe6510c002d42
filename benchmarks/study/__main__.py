"""How much accuracy does pruning cost? `python -m benchmarks.study [--quick] [--queries 4000] [--minutes 60]`.

MiniLM finds the descriptions of Debian packages, pruned by each method at each pattern. A row a point goes to data/accuracy.csv;
points that are there are not measured again, so the same command goes on. docs/accuracy.md is written from the rows.
"""

import argparse
import copy
import csv
import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.study import debian, page, retrieval
from tvm_balanced.demo.minilm import ENCODER_LINEARS, sentence_encoder
from tvm_balanced.demo.retrieval import TrainingBatches, batches

DATA = Path(__file__).parent.parent / "data" / "accuracy.csv"
COLUMNS = (
    *("date", "cpu", "versions", "model", "method", "pattern", "minutes", "seed", "calibration", "queries"),
    *("sparsity", "mrr", "first_hits", "cosine", "share", "share_low", "share_high", "cpu_seconds"),
)
KEY = ("method", "pattern", "minutes", "seed", "calibration", "queries")
PATTERNS = ("8:16", "4:16", "2:16")
DENSE = "dense"
METHODS = ("magnitude", "wanda", "sparsegpt")
# At equal sparsity: other lengths of a block, and what the balanced pattern is compared with.
OTHERS = (*("1:4", "2:8", "8:32", "16:64"), *("unstructured:0.75", "block8x8:0.75", "vector8:0.75"))


@dataclass(frozen=True)
class Point:
    """One pruned model: the method, the pattern, minutes of distillation, and the seed that draws the calibration texts."""

    method: str
    pattern: str
    minutes: float = 0.0
    seed: int = 0
    calibration: int = 192
    queries: int = 1000

    def key(self) -> tuple[str, ...]:
        """Return what tells a row of the CSV from another: the values of the columns KEY."""
        return tuple(str(value) for value in (self.as_row()[name] for name in KEY))

    def as_row(self) -> dict[str, object]:
        """Return the columns of a row that the point itself has."""
        return asdict(self) | {"minutes": f"{self.minutes:g}"}


def points(quick: bool, queries: int, distil: float) -> Iterator[Point]:
    """Yield the points of a study, the most telling ones first; `distil` minutes of distillation each, if not 0."""
    yield Point(DENSE, "16:16", calibration=0, queries=queries)
    for pattern, method in itertools.product(PATTERNS, METHODS):
        yield Point(method, pattern, queries=queries)
    if distil:
        for pattern in PATTERNS:
            yield Point("sparsegpt", pattern, distil, queries=queries)
    if not quick:
        for pattern in ("1:16", *OTHERS):
            yield Point("sparsegpt", pattern, queries=queries)
        for seed, pattern in itertools.product((1, 2), PATTERNS):
            yield Point("sparsegpt", pattern, seed=seed, queries=queries)


def rows_there() -> set[tuple[str, ...]]:
    """Return the keys of the points that are in the CSV."""
    if not DATA.exists():
        return set()
    with DATA.open(newline="") as file:
        return {tuple(row[name] for name in KEY) for row in csv.DictReader(file)}


def main() -> None:
    """Measure what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three patterns by three methods, 1000 queries")
    parser.add_argument("--queries", type=int, help="of those in held_out.txt; 4000, or 1000 with --quick")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no point after these")
    parser.add_argument("--distil", type=float, default=0.0, help="minutes of distillation for SparseGPT's models")
    options = parser.parse_args()
    started = time.monotonic()
    queries, rest = debian.split(debian.packages())
    queries = queries[: options.queries or (1000 if options.quick else debian.QUERIES)]
    dense_model, _ = sentence_encoder()
    dense = None
    for point in points(options.quick, len(queries), options.distil):
        if point.key() in rows_there():
            continue
        if time.monotonic() - started > 60 * options.minutes:
            print("stopped; the same command goes on")
            break
        dense = dense or retrieval.evaluate(dense_model, queries)
        row = measure(point, dense_model, dense, queries, rest)
        append(DATA, COLUMNS, [row])
        print(" ".join(f"{name} {row[name]}" for name in COLUMNS[4:]), flush=True)
    page.write()
    print(f"wrote {page.PAGE}")


def measure(
    point: Point,
    dense_model: torch.nn.Module,
    dense: retrieval.Quality,
    queries: list[debian.Package],
    rest: list[debian.Package],
) -> dict[str, object]:
    """Prune and judge one model; return its row."""
    if point.method == DENSE:
        return _row(point, 0.0, 0.0, dense, dense)
    model = copy.deepcopy(dense_model)
    start = (point.seed * point.calibration // 2) % len(rest)
    texts = retrieval.texts_of(rest[start : start + point.calibration // 2])
    before = time.process_time()
    report = tb.prune(model, point.pattern, ENCODER_LINEARS, method=point.method, calibration=batches(texts))
    seconds = time.process_time() - before
    if point.minutes:
        training = retrieval.texts_of(rest[start + point.calibration // 2 :])
        tb.distill(model, dense_model, TrainingBatches(training, seed=point.seed), minutes=point.minutes)
    return _row(point, report.sparsity, seconds, retrieval.evaluate(model, queries), dense)


def _row(
    point: Point, sparsity: float, seconds: float, quality: retrieval.Quality, dense: retrieval.Quality
) -> dict[str, object]:
    share, low, high = quality.share_of(dense)
    return {
        **stamp(),
        **point.as_row(),
        "model": "MiniLM",
        "sparsity": f"{sparsity:.4f}",
        "mrr": f"{quality.mrr:.4f}",
        "first_hits": f"{quality.first_hits:.4f}",
        "cosine": f"{quality.cosine(dense):.4f}",
        "share": f"{share:.4f}",
        "share_low": f"{low:.4f}",
        "share_high": f"{high:.4f}",
        "cpu_seconds": f"{seconds:.1f}",
    }


if __name__ == "__main__":
    main()
