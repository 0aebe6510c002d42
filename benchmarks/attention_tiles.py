"""Would a search make attention faster? `python -m benchmarks.attention_tiles [--model NAME] [--batch N] [--threads N]`.

The rule cpu_attention schedules attention. It chooses its tiles from the shapes and samples nothing. This script measures every
tile that divides the shapes, alternating with the rule's own, on random arguments: half of the rounds choose the best, the others
say what it gains, as a tuner would. Rows are appended to data/attention_tiles.csv.
"""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import tvm
import tvm_ffi
from rich.console import Console
from rich.table import Table
from tvm import tirx

import tvm_balanced as tb
from benchmarks.cell import append
from benchmarks.subjects import SUBJECTS
from tvm_balanced.compiler.build import build
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules.rules import cpu_attention
from tvm_balanced.timing.paired import Implementation, measure_paired

DATA = Path(__file__).parent / "data" / "attention_tiles.csv"
COLUMNS = (
    *("date", "cpu", "tvm", "function", "shapes", "threads"),
    *("rows", "score_vectors", "result_vectors", "us", "p20", "p50", "p80"),
)
TRIED = {"ROWS": (2, 4, 8, 16), "SCORE_VECTORS": (1, 2, 4, 8), "RESULT_VECTORS": (1, 2)}  # constants of the rule
Tile = tuple[int, ...]


def functions(name: str, batch: int) -> list[tirx.PrimFunc]:
    """Return the distinct functions that the rule schedules in a model on `batch` sentences, images or recordings."""
    found: list[tirx.PrimFunc] = []
    schedule = cpu_attention.CPU_ATTENTION.schedule

    def record(func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        done = schedule(func, target)
        if done is not None and not any(tvm_ffi.structural_equal(func, other) for other in found):
            found.append(func)
        return done

    subject = SUBJECTS[name]
    with patch.object(type(cpu_attention.CPU_ATTENTION), "schedule", staticmethod(record)):
        tb.compile(subject.make(), subject.inputs(0, batch), threads=1, race=False)
    return found


def variants(func: tirx.PrimFunc) -> Iterator[tuple[Tile, tirx.PrimFunc]]:
    """Yield the distinct schedules of a function with the requested tiles, the rule's own first."""
    seen: list[tirx.PrimFunc] = []
    own = tuple(getattr(cpu_attention, name) for name in TRIED)
    for tile in (own, *product(*TRIED.values())):
        with patch.multiple(cpu_attention, **dict(zip(TRIED, tile, strict=True))):
            scheduled = cpu_attention.CPU_ATTENTION.schedule(func, host_target())
        if scheduled is not None and not any(tvm_ffi.structural_equal(scheduled, other) for other in seen):
            seen.append(scheduled)
            yield tile, scheduled


def rival(func: tirx.PrimFunc, threads: int) -> Implementation:
    """Return a call of a scheduled function with its own arguments."""
    rng = np.random.default_rng(0)
    main = build(func.with_attr("global_symbol", "main"), host_target())["main"]
    shapes = [([int(dim) for dim in param.ty.shape], str(param.ty.dtype)) for param in func.params]
    arguments = [tvm.runtime.tensor(rng.standard_normal(shape).astype(dtype)) for shape, dtype in shapes]

    def run(_: int) -> None:
        use_threads(threads)
        main(*arguments)

    return run


def main() -> None:
    """Measure all tiles of all functions, print the best of each, and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SUBJECTS, default="minilm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    facts = environment.describe()
    stamp = [datetime.now(UTC).date().isoformat(), facts["cpu"], facts["versions"]["apache-tvm"]]
    table = Table("function", "shapes", "tiles", "us", "best tile", "over the rule's")
    for func in functions(options.model, options.batch):
        tiles = dict(variants(func))
        timing = measure_paired({str(tile): rival(scheduled, options.threads) for tile, scheduled in tiles.items()}, 30, warm=2)
        own = str(next(iter(tiles)))
        shapes = " ".join("x".join(str(int(dim)) for dim in param.ty.shape) for param in func.params)
        name = str(func.attrs.get("global_symbol", "attention"))
        for tile in tiles:
            gain = timing.speedup(str(tile), own)
            spread = [f"{p:.3f}" for p in (gain.p20, gain.p50, gain.p80)]
            row = [*stamp, name, shapes, options.threads, *tile, f"{timing.microseconds(str(tile)):.1f}", *spread]
            append(DATA, COLUMNS, [dict(zip(COLUMNS, row, strict=True))])
        best = max(tiles, key=lambda tile: timing.half(0).speedup(str(tile), own).p50)
        gain = timing.half(1).speedup(str(best), own)
        shown = f"{gain.p50:.2f} ({gain.p20:.2f} to {gain.p80:.2f})"
        table.add_row(name, shapes, str(len(tiles)), f"{timing.microseconds(own):.0f}", str(best), shown)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
