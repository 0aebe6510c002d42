"""How fast is the AVX-512 kernel against the hand-written one and oneDNN? `python -m benchmarks.kernels [--threads N]`.

`tvm-balanced bench kernel` times each cell in its own process; rows are appended to
data/kernels.csv.
"""

import argparse
import csv
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tvm_balanced.runtime import environment

DATA = Path(__file__).parent / "data" / "kernels.csv"
# (N, K, M): matrix-vector, small batch, and two shapes of a transformer
CELLS = ((4096, 4096, 1), (4096, 4096, 16), (3072, 768, 64), (768, 3072, 256))
COLUMNS = ("date", "cpu", "tvm", "n", "k", "m", "pattern", "dtype", "threads", "regime", "rival", "us", "p20", "p50", "p80")


def measure(n: int, k: int, m: int, pattern: str, threads: int, regime: str) -> dict[str, object]:
    """Run one cell and return the command's output."""
    command = [sys.executable, "-m", "tvm_balanced", "bench", "kernel", "--json", "--pattern", pattern, "--regime", regime]
    sizes = ["--n", str(n), "--k", str(k), "--m", str(m), "--threads", str(threads)]
    done = subprocess.run([*command, *sizes], check=True, stdout=subprocess.PIPE)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measure all cells, print them, and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--patterns", nargs="+", default=["2:16"])
    parser.add_argument("--regimes", nargs="+", default=["hot"], choices=["hot", "cold"])
    options = parser.parse_args()
    facts = environment.describe()
    stamp = [datetime.now(UTC).date().isoformat(), facts["cpu"], facts["versions"]["apache-tvm"]]
    table = Table("N x K, M", "pattern", "regime", "over the reference", "over oneDNN", "over eager", "over CSR")
    new = not DATA.exists()
    with DATA.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for n, k, m in CELLS:
            for pattern in options.patterns:
                for regime in options.regimes:
                    result = measure(n, k, m, pattern, options.threads, regime)
                    rows = {row["name"]: row for row in result["results"]}  # type: ignore[attr-defined]
                    for name, row in rows.items():
                        ratio = [f"{row['speedup'][p]:.3f}" for p in ("p20", "p50", "p80")]
                        cell = [n, k, m, pattern, "float32", options.threads, regime, name, f"{row['microseconds']:.1f}"]
                        writer.writerow([*stamp, *cell, *ratio])
                    shown = [rows.get(name) for name in ("reference", "onednn", "eager", "csr")]
                    cells = [
                        f"{r['speedup']['p50']:.2f} ({r['speedup']['p20']:.2f} to {r['speedup']['p80']:.2f})" if r else "-"
                        for r in shown
                    ]
                    table.add_row(f"{n}x{k}, {m}", pattern, regime, *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
