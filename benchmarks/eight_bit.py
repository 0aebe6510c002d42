"""How fast are the kernels that round? `python -m benchmarks.eight_bit [--threads N]`.

cpu_avx512_i8, _w8 and _w16 alternate with cpu_avx512 in one process, each on a weight in its own
layout. Rows are appended to data/eight_bit.csv.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cell import append
from tvm_balanced.compiler.build import build
from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.timing.paired import Implementation, measure_paired
from tvm_balanced.timing.rotating import rotation

DATA = Path(__file__).parent / "data" / "eight_bit.csv"
NAMES = ("cpu_avx512_i8", "cpu_avx512_w8", "cpu_avx512_w16")
OVER = "cpu_avx512"
CELLS = (
    (4096, 4096, 1, "2:16", "cold"),
    (4096, 4096, 16, "2:16", "cold"),
    (3072, 768, 64, "2:16", "hot"),
    (3072, 768, 64, "4:16", "hot"),
    (768, 3072, 256, "2:16", "hot"),
    (768, 768, 64, "1:16", "hot"),
)
COLUMNS = ("date", "cpu", "tvm", "n", "k", "m", "pattern", "regime", "threads", "kernel", "us", "p20", "p50", "p80")


def rival(name: str, cell: tuple[int, int, int, str, str], threads: int, place: int) -> Implementation:
    """Return a call of one kernel; if cold, on weights that are in no cache."""
    n, k, m, text, regime = cell
    pattern, kernel, target = BalancedPattern.parse(text), KERNELS[name], host_target()
    workload = Workload(name, m, n, k, pattern.nnz, pattern.block)
    _, copies = rotation(workload, CACHE_MULTIPLE * last_level_cache() if regime == "cold" else 0)
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    main = build(func, target)["main"]

    def run(call: int) -> None:
        use_threads(threads)
        main(*copies[(call + place) % len(copies)])

    return run


def main() -> None:
    """Measure all cells, print them, and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    facts = environment.describe()
    stamp = [datetime.now(UTC).date().isoformat(), facts["cpu"], facts["versions"]["apache-tvm"]]
    names = [name for name in NAMES if KERNELS[name].refuses(host_target(), 64, 64, "float32") is None]
    table = Table("N x K, M", "pattern", "regime", *(f"{name} over {OVER}" for name in names))
    for cell in CELLS:
        n, k, m, pattern, regime = cell
        racing = {name: rival(name, cell, options.threads, place) for place, name in enumerate((OVER, *names))}
        timing = measure_paired(racing, 31, warm=1 if regime == "cold" else 4)
        gains = {name: timing.speedup(name, OVER) for name in names}
        for name, gain in gains.items():
            spread = [f"{p:.3f}" for p in (gain.p20, gain.p50, gain.p80)]
            row = [*stamp, *cell, options.threads, name, f"{timing.microseconds(name):.1f}", *spread]
            append(DATA, COLUMNS, [dict(zip(COLUMNS, row, strict=True))])
        table.add_row(f"{n}x{k}, {m}", pattern, regime, *(f"{g.p50:.2f} ({g.p20:.2f} to {g.p80:.2f})" for g in gains.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
