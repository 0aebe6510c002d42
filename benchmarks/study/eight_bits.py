"""What do 8 bits cost MiniLM on the retrieval task? `python -m benchmarks.study.eight_bits [--queries 4000] [--steps 2260]`.

The dense model and those that SparseGPT pruned are compiled in float32 and in 8 bits, with the default budget and in all layers,
and find the held-out packages. Beside them stands PyTorch's dynamic INT8 on the dense model. A row each goes to
data/accuracy_int8.csv, and docs/accuracy.md has a table of them; what is there is not measured again. With `--steps` models that
`python -m benchmarks.study --steps` distilled are judged, too, as far as their checkpoints are in build/study.
"""

import argparse
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.study import debian, minilm, retrieval
from benchmarks.study.minilm import DENSE, DISTILLED, PATTERNS, SEEDS, Point, Study
from tvm_balanced.demo.int8 import dense_int8
from tvm_balanced.demo.retrieval import TOKENS, Batch, Encoder, tokens

DATA = Path(__file__).parent.parent / "data" / "accuracy_int8.csv"
OURS, PYTORCH = "ours", "PyTorch"
KEY = ("engine", *minilm.KEY, "max_loss")
COLUMNS = (
    *("date", "cpu", "versions", "model", *KEY, "layers", "attention", "loss"),
    *("mrr_float32", "mrr", "change", "change_low", "change_high", "cosine"),
)
BUDGETS = (0.01, 1.0)  # the default, and enough for all layers
TEXTS = 16  # of a call: a size that is known lets attention run in bfloat16
CALIBRATION = 4  # calls on which layers are chosen; none of their texts is a query


def points(queries: int, seeds: Sequence[int], steps: int) -> Iterator[Point]:
    """Yield the models: the dense one, those that are pruned at once, and with `steps` those that were distilled so long."""
    yield Point(DENSE, "16:16", calibration=0, queries=queries)
    for seed in seeds:
        for pattern in PATTERNS:
            yield Point("sparsegpt", pattern, seed=seed, queries=queries)
        for pattern, (times, _) in DISTILLED.items() if steps else ():
            yield Point("sparsegpt", pattern, times * steps, seed, queries=queries)


def batched(module: Any) -> Encoder:
    """Return a module for TEXTS texts of TOKENS tokens as a function of any number of shorter ones."""

    def run(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = []
        for start in range(0, len(ids), TEXTS):
            parts = ids[start : start + TEXTS], mask[start : start + TEXTS]
            found.append(module(*map(whole, parts)).clone()[: len(parts[0])])
        return torch.cat(found)

    return run


def whole(part: torch.Tensor) -> torch.Tensor:
    """Return tokens or a mask (texts, tokens) as (TEXTS, TOKENS): the first text again and again, no token after the last."""
    repeated = torch.cat([part, part[:1].expand(TEXTS - len(part), -1)])
    return nn.functional.pad(repeated, (0, TOKENS - part.shape[1]))


def calibration(texts: Sequence[str]) -> list[Batch]:
    """Return calls with texts that nothing is asked about."""
    found = []
    for start in range(0, CALIBRATION * TEXTS, TEXTS):
        ids, mask = tokens(texts[start : start + TEXTS])
        found.append((whole(ids), whole(mask)))
    return found


class Rounded:
    """One model, in float32 and in 8 bits."""

    def __init__(self, study: Study, point: Point, threads: int) -> None:
        self.study, self.point, self.threads = study, point, threads
        self.model = study.pruned(point).model
        self.batches = calibration(retrieval.texts_of(study.packages[1][-CALIBRATION * TEXTS // 2 :]))
        self.exact = self._judged(self._compiled())

    def ours(self, max_loss: float) -> dict[str, object]:
        """Return the row of our 8 bits within a budget."""
        module = self._compiled(precision="int8", calibration=self.batches, max_loss=max_loss)
        said = module.report.precision
        assert said is not None
        assert said.loss is not None
        about = {"layers": len(said.rounded), "attention": said.attention, "loss": f"{said.loss:.4f}"}
        return self._row(OURS, max_loss, self._judged(module)) | about

    def pytorch(self) -> dict[str, object] | None:
        """Return the row of PyTorch's dynamic INT8, None where there is none."""
        model = dense_int8(self.model)
        if model is None:
            return None
        layers = sum(isinstance(part, torch.ao.nn.quantized.dynamic.Linear) for part in model.modules())
        row = self._row(PYTORCH, BUDGETS[-1], retrieval.evaluate(model, self.study.packages[0]))
        return row | {"layers": layers, "attention": "float32", "loss": ""}

    def _compiled(self, **rounding: Any) -> Any:
        return tb.compile(self.model, self.batches[0], threads=self.threads, race=False, **rounding)

    def _judged(self, module: Any) -> retrieval.Quality:
        return retrieval.evaluate(batched(module), self.study.packages[0])

    def _row(self, engine: str, max_loss: float, found: retrieval.Quality) -> dict[str, object]:
        change, low, high = found.change_from(self.exact)
        return {
            **stamp(),
            **asdict(self.point),
            "model": "MiniLM",
            "engine": engine,
            "max_loss": max_loss,
            "mrr_float32": f"{self.exact.mrr:.4f}",
            "mrr": f"{found.mrr:.4f}",
            "change": f"{change:.4f}",
            "change_low": f"{low:.4f}",
            "change_high": f"{high:.4f}",
            "cosine": f"{found.cosine(self.exact):.4f}",
        }


def rows(path: Path = DATA) -> list[dict[str, str]]:
    """Return the rows of the CSV, none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(study: Study, every: Iterable[Point], budgets: Sequence[float], threads: int) -> None:
    """Measure and append what has no row."""
    there = {tuple(row[name] for name in KEY) for row in rows()}
    for point in every:
        asked = [(OURS, budget) for budget in budgets] + ([(PYTORCH, BUDGETS[-1])] if point.method == DENSE else [])
        missing = [(engine, budget) for engine, budget in asked if (engine, *point.key(), str(budget)) not in there]
        if not missing or (point.steps and not study.checkpoint(point).is_file()):
            continue
        rounded = Rounded(study, point, threads)
        for engine, budget in missing:
            row = rounded.ours(budget) if engine == OURS else rounded.pytorch()
            if row is not None:
                append(DATA, COLUMNS, [row])
                print(" ".join(f"{name} {row[name]}" for name in COLUMNS[4:]), flush=True)


def main() -> None:
    """Measure what is missing, and write the page."""
    from benchmarks.study import page

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=debian.QUERIES, help="of those in held_out.txt")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS[:1])
    parser.add_argument("--steps", type=int, default=0, help="of the distillation whose models are judged, too")
    parser.add_argument("--max-loss", type=float, nargs="+", default=BUDGETS, help="the budgets; 1 is for all layers")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    every = points(options.queries, options.seeds, options.steps)
    run(Study(options.queries), every, options.max_loss, options.threads)
    page.write()


if __name__ == "__main__":
    main()
