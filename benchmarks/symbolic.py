"""What does it cost that M is known only at the call? `python -m benchmarks.symbolic [--kernel NAME] [--target CPU]`.

The same layer, compiled for each M and once for any M, both called like a user calls them, in one process; rows are appended to
data/symbolic.csv. (A kernel alone does not show it: TVM once compiled kernels of models with a symbolic M as if their buffers
overlapped, see transform/workarounds/mark_noalias.py.)
"""

import argparse
import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import tvm_balanced as tb
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import KERNELS, DenseKernel
from tvm_balanced.timing.paired import Implementation, measure_paired

DATA = Path(__file__).parent / "data" / "symbolic.csv"
SHAPES = ((768, 768), (3072, 768))
ROWS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 33, 64, 256, 1024)
COLUMNS = (
    *("date", "cpu", "tvm", "target", "kernel", "n", "k", "m", "pattern"),
    *("threads", "known_us", "symbolic_us", "p20", "p50", "p80"),
)


def main() -> None:
    """Measure all cells, print them, and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pattern", default="2:16")
    parser.add_argument("--target", help="as compile takes it; this machine by default")
    parser.add_argument("--kernel", choices=KERNELS, default="cpu_avx512")
    options = parser.parse_args()
    facts = environment.describe()
    stamp = [datetime.now(UTC).date().isoformat(), facts["cpu"], facts["versions"]["apache-tvm"]]
    stamp += [target_key(parse_target(options.target)), options.kernel]
    pattern = "1:1" if isinstance(KERNELS[options.kernel], DenseKernel) else options.pattern
    table = Table("N x K", "M", "known us", "symbolic us", "symbolic takes", "20% to 80%", title=f"{options.kernel}, {pattern}")
    new = not DATA.exists()
    with DATA.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for n, k in SHAPES:
            for m, timing in times(n, k, options):
                ratio = timing.speedup("known", "symbolic")
                us = [f"{timing.microseconds(name):.1f}" for name in ("known", "symbolic")]
                spread = [f"{p:.3f}" for p in (ratio.p20, ratio.p50, ratio.p80)]
                writer.writerow([*stamp, n, k, m, pattern, options.threads, *us, *spread])
                table.add_row(f"{n}x{k}", str(m), *us, f"{ratio.p50:.2f}x", f"{ratio.p20:.2f} to {ratio.p80:.2f}")
    Console(width=120).print(table)


def times(n: int, k: int, options: argparse.Namespace) -> Any:
    """Yield (M, timing) of one layer for each of ROWS."""
    torch.manual_seed(0)
    layer = nn.Linear(k, n).eval()
    tb.prune(layer, options.pattern)
    how = {"target": options.target, "threads": options.threads, "kernels": {"*": options.kernel}, "logs": False}
    symbolic = tb.compile(layer, (torch.randn(4, k),), dynamic_shapes=({0: torch.export.Dim("m")},), **how)
    for m in ROWS:
        x = torch.randn(m, k)

        def call(module: tb.CompiledModule, x: torch.Tensor = x) -> Implementation:
            return lambda _: module(x)

        yield m, measure_paired({"known": call(tb.compile(layer, (x,), **how)), "symbolic": call(symbolic)}, rounds=51, warm=4)


if __name__ == "__main__":
    main()
