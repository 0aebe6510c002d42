"""What does it cost that M is known only at the call? `python -m benchmarks.symbolic [--threads N]`.

The same layer compiled for each M and once for any, in one process; rows are appended to data/symbolic.csv.
"""

import argparse
import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from rich.console import Console
from rich.table import Table

from tvm_balanced import environment
from tvm_balanced.bench import random_weight
from tvm_balanced.compiled_module import use_threads
from tvm_balanced.measure import Rival, race
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules import SPARSE_KERNELS, Workload
from tvm_balanced.targets import host_target

DATA = Path(__file__).parent / "data" / "symbolic.csv"
SHAPES = ((768, 768), (3072, 768))
ROWS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 33, 64, 256, 1024)
COLUMNS = ("date", "cpu", "tvm", "kernel", "n", "k", "m", "pattern", "threads", "known_us", "symbolic_us", "p20", "p50", "p80")


def main() -> None:
    """Measure all cells, print them, and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pattern", default="2:16")
    options = parser.parse_args()
    pattern, target = BalancedPattern.parse(options.pattern), host_target()
    kernel = next(k for k in SPARSE_KERNELS if k.refuses(target, 768, 768, "float32") is None)
    facts = environment.describe()
    stamp = [datetime.now(UTC).date().isoformat(), facts["cpu"], facts["versions"]["apache-tvm"], kernel.name]
    table = Table("N x K", "M", "known us", "symbolic us", "symbolic takes", "20% to 80%", title=f"{kernel.name}, {pattern}")
    new = not DATA.exists()
    with DATA.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for n, k in SHAPES:
            packed = kernel.pack(random_weight(n, k, pattern, np.random.default_rng(0)))
            weights = [tvm.runtime.tensor(a) for a in (*packed, kernel.pack_bias(np.zeros(n, np.float32)))]

            def build(m: int | None, n: int = n, k: int = k) -> Any:
                workload = Workload(kernel.name, m, n, k, pattern.nnz, pattern.block)
                function = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
                return tvm.compile(function, target)["main"]

            symbolic = build(None)
            for m in ROWS:
                x, y = (tvm.runtime.tensor(np.ones((m, columns), np.float32)) for columns in (k, n))

                def call(function: Any, x: Any = x, y: Any = y, weights: list[Any] = weights) -> Rival:
                    def run(_: int) -> None:
                        use_threads(options.threads)
                        function(x, *weights, y)

                    return run

                timing = race({"known": call(build(m)), "symbolic": call(symbolic)}, rounds=51, warm=4)
                ratio = timing.speedup("known", "symbolic")
                times = [f"{timing.microseconds(name):.1f}" for name in ("known", "symbolic")]
                spread = [f"{p:.3f}" for p in (ratio.p20, ratio.p50, ratio.p80)]
                writer.writerow([*stamp, n, k, m, pattern, options.threads, *times, *spread])
                table.add_row(f"{n}x{k}", str(m), *times, f"{ratio.p50:.2f}x", f"{ratio.p20:.2f} to {ratio.p80:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
