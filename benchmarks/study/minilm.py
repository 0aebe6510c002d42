"""The points of MiniLM on the retrieval task, a row each in data/accuracy.csv."""

import copy
import csv
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.study import debian, retrieval
from tvm_balanced.core.files import new_file
from tvm_balanced.demo.minilm import ENCODER_LINEARS, sentence_encoder
from tvm_balanced.demo.retrieval import TrainingBatches, batches
from tvm_balanced.frontend.pruning.allocate import CHOICES, AllocatedLayer, Allocation, cheapest

DATA = Path(__file__).parent.parent / "data" / "accuracy.csv"
KEY = ("method", "pattern", "steps", "seed", "calibration", "queries")
COLUMNS = (
    *("date", "cpu", "versions", "model", *KEY, "sparsity", "mrr", "first_hits", "cosine"),
    *("share", "share_low", "share_high", "cpu_seconds", "distil_cpu_seconds"),
)
PATTERNS = ("8:16", "4:16", "2:16")
# Of distillation, as multiples of the steps that are asked for: with every seed, and once
DISTILLED = {"4:16": (2, 4), "2:16": (1, 2)}
SEEDS = (0, 1, 2)
DENSE = "dense"
ALLOCATED = "allocate"
METHODS = ("magnitude", "wanda", "sparsegpt")
# At equal sparsity: other lengths of a block, and what the balanced pattern is compared with.
OTHERS = (*("1:4", "2:8", "8:32", "16:64"), *("unstructured:0.75", "block8x8:0.75", "vector8:0.75"))
# Of a step of distillation. With a minute of CPU time, 4:16 came to a cosine of 0.788 to dense by 68 steps of 32 texts at a rate
# of 3e-4, 0.808 by 206 of 8, and 0.823 by 192 of 8 at 1e-3; to 0.740 by 119 of 16 at 2e-3.
TEXTS = 8
RATE = 1e-3
STEPS_A_MINUTE = 455  # of distillation on two idle cores of Zen 5, by `python -m benchmarks.study --measure`


@dataclass(frozen=True)
class Point:
    """One pruned model: the method, the pattern, steps of distillation, and the seed that draws texts and their order.

    The method "allocate" is SparseGPT with a pattern for each layer, so that the layers take the modelled time of `pattern`.
    """

    method: str
    pattern: str
    steps: int = 0
    seed: int = 0
    calibration: int = 192
    queries: int = 1000

    def key(self) -> tuple[str, ...]:
        """Return what tells a row of the CSV from another: the values of the columns KEY."""
        return tuple(str(getattr(self, name)) for name in KEY)


def points(quick: bool, queries: int, steps: int) -> Iterator[Point]:
    """Yield the points of a study, the most telling ones first; `steps` of distillation for some, if not 0."""
    yield Point(DENSE, "16:16", calibration=0, queries=queries)
    if quick:
        for pattern, method in itertools.product(PATTERNS, METHODS):
            yield Point(method, pattern, queries=queries)
        return
    for seed in SEEDS:
        yield from _of_seed(seed, queries, steps)
    for pattern in (*OTHERS, "1:16"):
        yield Point("sparsegpt", pattern, queries=queries)
    if steps:
        for pattern, (_, longer) in DISTILLED.items():
            yield Point("sparsegpt", pattern, longer * steps, queries=queries)
        yield Point("sparsegpt", "8:16", steps, queries=queries)


def _of_seed(seed: int, queries: int, steps: int) -> Iterator[Point]:
    """Yield what is measured with every seed: SparseGPT with distillation and without, and a pattern for each layer."""
    if steps:
        for pattern, (times, _) in DISTILLED.items():
            yield Point("sparsegpt", pattern, times * steps, seed, queries=queries)
    for pattern in PATTERNS:
        yield Point("sparsegpt", pattern, seed=seed, queries=queries)
    yield Point(ALLOCATED, "4:16", seed=seed, queries=queries)


def rows(path: Path = DATA) -> list[dict[str, str]]:
    """Return the rows of the CSV, none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(quick: bool, queries: int | None, steps: int, until: float) -> bool:
    """Measure the points that have no row, until time.monotonic() is `until`; return whether all have one."""
    there = {tuple(row[name] for name in KEY) for row in rows()}
    study = Study(queries or (1000 if quick else debian.QUERIES))
    for point in points(quick, study.queries, steps):
        if point.key() in there:
            continue
        if time.monotonic() > until:
            return False
        row = study.measure(point)
        append(DATA, COLUMNS, [row])
        print(" ".join(f"{name} {row[name]}" for name in COLUMNS[4:]), flush=True)
    return True


def steps_a_minute(seconds: float = 30.0) -> float:
    """Return how many steps of distillation this machine does in a minute, with all its cores."""
    study = Study(0)
    model = copy.deepcopy(study.dense_model)
    tb.prune(model, "4:16", ENCODER_LINEARS)
    texts = TrainingBatches(retrieval.texts_of(study.packages[1]), TEXTS)
    tb.distill(model, study.dense_model, texts, steps=5, precision="bfloat16")  # the first ones take longer
    done = tb.distill(model, study.dense_model, texts, minutes=seconds / 60, precision="bfloat16")
    return 60 * done.steps / done.seconds


@dataclass(frozen=True)
class Pruned:
    """A model of a study: its sparsity, and the CPU seconds of pruning and of distillation."""

    model: torch.nn.Module
    sparsity: float = 0.0
    seconds: tuple[float, float] = (0.0, 0.0)


class Study:
    """The dense model, the texts, and what is measured only once."""

    def __init__(self, queries: int, folder: Path = debian.FOLDER) -> None:
        self.queries, self._folder = queries, folder

    @cached_property
    def packages(self) -> tuple[list[debian.Package], list[debian.Package]]:
        """Those that are asked for, and those to calibrate and train with."""
        found, rest = debian.split(debian.packages(self._folder))
        return found[: self.queries], rest

    @cached_property
    def dense_model(self) -> torch.nn.Module:
        """The model as it was released."""
        return sentence_encoder()[0]

    @cached_property
    def _dense(self) -> retrieval.Quality:
        """What the dense model does; its embeddings are kept in a file."""
        path = self._folder / f"minilm-{self.queries}.pt"
        if path.is_file():
            return retrieval.quality(torch.load(path, weights_only=True))
        found = retrieval.evaluate(self.dense_model, self.packages[0])
        with new_file(path) as written:
            torch.save(found.embeddings, written)
        return found

    def measure(self, point: Point) -> dict[str, object]:
        """Prune and judge one model; return its row."""
        if point.method == DENSE:
            return self._row(point, Pruned(self.dense_model), self._dense)
        pruned = self.pruned(point)
        return self._row(point, pruned, retrieval.evaluate(pruned.model, self.packages[0]))

    def pruned(self, point: Point) -> Pruned:
        """Return the model that a point is about."""
        if point.method == DENSE:
            return Pruned(self.dense_model)
        model = copy.deepcopy(self.dense_model)
        rest, texts = self.packages[1], point.calibration // 2
        start = (point.seed * texts) % len(rest)
        before = time.process_time()
        report = prune(model, point, retrieval.texts_of(rest[start : start + texts]))
        pruned = time.process_time()
        if point.steps:
            self._distil(model, point, rest[:start] + rest[start + texts :])
        return Pruned(model, report.sparsity, (pruned - before, time.process_time() - pruned))

    def checkpoint(self, point: Point) -> Path:
        """Return the file that a distillation goes on from."""
        return self._folder / f"{_name(point)}.pt"

    def _distil(self, model: torch.nn.Module, point: Point, packages: list[debian.Package]) -> None:
        """Distill for the steps of a point; a run that was interrupted goes on, though its CPU seconds begin again."""
        name = _name(point)
        tb.distill(
            model,
            self.dense_model,
            TrainingBatches(retrieval.texts_of(packages), TEXTS, point.seed),
            steps=point.steps,
            learning_rate=RATE,
            checkpoint=self.checkpoint(point),
            progress=lambda line: print(name, line, flush=True),
            precision="bfloat16",
        )

    def _row(self, point: Point, pruned: Pruned, quality: retrieval.Quality) -> dict[str, object]:
        share, low, high = quality.share_of(self._dense)
        return {
            **stamp(),
            **asdict(point),
            "model": "MiniLM",
            "sparsity": f"{pruned.sparsity:.4f}",
            "mrr": f"{quality.mrr:.4f}",
            "first_hits": f"{quality.first_hits:.4f}",
            "cosine": f"{quality.cosine(self._dense):.4f}",
            "share": f"{share:.4f}",
            "share_low": f"{low:.4f}",
            "share_high": f"{high:.4f}",
            "cpu_seconds": f"{pruned.seconds[0]:.1f}",
            "distil_cpu_seconds": f"{pruned.seconds[1]:.1f}",
        }


def _name(point: Point) -> str:
    return f"{point.method}-{point.pattern}-{point.steps}-{point.seed}".replace(":", "of")


def prune(model: torch.nn.Module, point: Point, texts: list[str]) -> Any:
    """Prune a model in place as a point says; return the report."""
    calibration = batches(texts)
    pattern = patterns_in_the_time_of(point.pattern, model, calibration) if point.method == ALLOCATED else point.pattern
    method = "sparsegpt" if point.method == ALLOCATED else point.method
    return tb.prune(model, pattern, ENCODER_LINEARS, method=method, calibration=calibration)


def patterns_in_the_time_of(pattern: str, model: torch.nn.Module, calibration: list[Any]) -> Any:
    """Return a pattern for each layer, so that all together take the modelled time of `pattern`, NNZ:16, everywhere."""
    layers = tb.allocate(model, calibration, 1.0, include=ENCODER_LINEARS, threads=1).layers
    return within_the_time_of(pattern, layers)


def within_the_time_of(pattern: str, layers: Sequence[AllocatedLayer]) -> Allocation:
    """Return the best allocation of layers whose losses and times are known, in the time of `pattern` everywhere."""
    at = CHOICES.index(int(pattern.partition(":")[0]))
    seconds = [layer.seconds for layer in layers]
    chosen = cheapest([layer.lost for layer in layers], seconds, sum(of_layer[at] for of_layer in seconds))
    assert chosen is not None  # `pattern` everywhere is one
    return Allocation([replace(layer, chosen=choice) for layer, choice in zip(layers, chosen, strict=True)])
