"""The process that times one cell of a benchmark, our kernel and its baselines; `cell.measure` starts it."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.bound import bound
from benchmarks.cell import BOUND, Cell
from benchmarks.engines import ENGINES
from tvm_balanced.bench.kernel import KernelBenchmark
from tvm_balanced.bench.pytorch_baselines import BASELINES
from tvm_balanced.bench.result import OURS
from tvm_balanced.core.pattern import BalancedPattern


def run(cell: Cell, rivals: Sequence[str], seconds: float, rounds: int, tuned: bool = False) -> dict[str, dict[str, Any]]:
    """Time a cell in this process; `cell.measure` reads the result."""
    pattern = BalancedPattern.parse(cell.pattern)
    benchmark = KernelBenchmark(cell.n, cell.k, cell.m, pattern, cell.threads, cell.regime, rounds=rounds, dtype=cell.dtype)
    if tuned:
        benchmark = benchmark.as_tuned()
    engines = {name: ENGINES[name].bound(cell.regime, cell.threads) for name in rivals if name in ENGINES}
    engines |= {BOUND: bound(cell)} if BOUND in rivals else {}
    timing = benchmark.time([name for name in rivals if name in BASELINES or name == "reference"], engines, seconds)
    results = {}
    for name in (OURS, *rivals):
        if name not in timing.times:
            results[name] = {"microseconds": float("nan"), "ratios": [], "versions": "", "note": "does not take this cell"}
            continue
        ratios = (timing.times[name] / timing.times[OURS]).round(4).tolist()
        versions = ENGINES[name].versions() if name in ENGINES else ""
        results[name] = {"microseconds": timing.microseconds(name), "ratios": ratios, "versions": versions}
    return results


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(run(Cell(**given["cell"]), given["rivals"], given["seconds"], given["rounds"], given["tuned"])))
