"""What pruning gains: MiniLM's time at each pattern, in float32 and int8: `python -m benchmarks.study.latency`.

All take turns in one process. Rows go to data/accuracy_latency.csv, and docs/accuracy.md sets them beside the quality. Times do
not depend on the values of weights, so the models are pruned by magnitude here; those that were compiled before are loaded.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import int8
from benchmarks.cell import append, stamp
from benchmarks.study import minilm
from benchmarks.subjects import SUBJECTS
from tvm_balanced.demo.int8 import dense_int8
from tvm_balanced.timing.paired import PAUSE, Implementation, Timing, measure_paired

DATA = Path(__file__).parent.parent / "data" / "accuracy_latency.csv"
COLUMNS = ("date", "cpu", "versions", "pattern", "precision", "threads", "ms", "p20", "p50", "p80")
PATTERNS, PRECISIONS = ("dense", "8:16", "4:16", "2:16"), ("float32", "int8")
PYTORCH = ("pytorch", "float32")
ROUNDS = 25


def rivals(threads: int, precisions: Sequence[str]) -> dict[tuple[str, str], Implementation]:
    """Return calls with one sentence of 128 tokens, by pattern ("pytorch" for its own) and precision."""
    torch.set_num_threads(threads)
    subject = SUBJECTS["minilm"]
    model, inputs = subject.make(), subject.inputs(0, 1)
    calls: dict[tuple[str, str], Implementation] = {PYTORCH: lambda _: model(*inputs)}
    rounded = dense_int8(model)
    if rounded is not None:
        calls["pytorch", "int8"] = lambda _: rounded(*inputs)
    for pattern in PATTERNS:
        for precision in precisions:
            module = int8.compiled("minilm", pattern, precision, int8.Setting(1, threads))
            calls[pattern, precision] = partial(int8.run_module, module, inputs)
    return calls


def rows_of(timing: Timing, threads: int) -> list[dict[str, object]]:
    """Return a row for each, with how many times faster than PyTorch in float32 it is."""
    base = " ".join(PYTORCH)
    found = []
    for name in timing.times:
        pattern, precision = name.split()
        ratio = timing.speedup(name, base)
        spread = {p: f"{getattr(ratio, p):.3f}" for p in ("p20", "p50", "p80")}
        ms = f"{timing.microseconds(name) / 1e3:.2f}"
        found.append({**stamp(), "pattern": pattern, "precision": precision, "threads": threads, "ms": ms, **spread})
    return found


def rows(path: Path = DATA) -> list[dict[str, str]]:
    """Return the last row of each pattern, precision and number of threads; none if there is no CSV."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        last = {(row["pattern"], row["precision"], row["threads"]): row for row in csv.DictReader(file)}
    return list(last.values())


def best(retrieval: Sequence[Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Return for each pattern NNZ:16 the row of the best share of dense's MRR, of those with the most queries."""
    found: dict[str, Mapping[str, str]] = {}
    for row in sorted(retrieval, key=lambda row: (int(row["queries"]), float(row["share"]))):
        if row["method"] in minilm.METHODS:
            found[row["pattern"]] = row
    return found


def main() -> None:
    """Measure, append, and write the page."""
    from benchmarks.study import page

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40, help="of timing")
    parser.add_argument("--float32", action="store_true", help="leave int8 away, whose models take minutes to compile")
    options = parser.parse_args()
    calls = rivals(options.threads, PRECISIONS[:1] if options.float32 else PRECISIONS)
    named = {" ".join(key): call for key, call in calls.items()}
    with torch.inference_mode():
        timing = measure_paired(named, ROUNDS, options.seconds, pause=PAUSE if options.threads > 1 else 0.005)
    measured = rows_of(timing, options.threads)
    append(DATA, COLUMNS, measured)
    for row in measured:
        print(" ".join(f"{name} {row[name]}" for name in COLUMNS[3:]))
    page.write()


if __name__ == "__main__":
    main()
