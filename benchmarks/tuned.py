"""How far are the default schedules from the best ones? `python -m benchmarks.tuned [--trials N] [--threads N]`.

The tuner searches the kernel's space for each layer and keeps the result if it beats the default.
Then default, tuned and the hand-written reference alternate in one process. Rows are appended to
data/tuned.csv.
"""

import argparse
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cell import append
from tvm_balanced.bench.kernel import KernelBenchmark
from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.timing.paired import measure_paired
from tvm_balanced.tuning.runners.local import LocalRunner
from tvm_balanced.tuning.tasks import Task
from tvm_balanced.tuning.tune import TuneOptions, tune_tasks

DATA = Path(__file__).parent / "data" / "tuned.csv"
# (N, K, M, pattern, regime): MiniLM's layers at one sentence of 128 tokens, and shapes of docs/cpu.md
CELLS = (
    (384, 384, 128, "4:16", "hot"),
    (1536, 384, 128, "4:16", "hot"),
    (384, 1536, 128, "4:16", "hot"),
    (768, 768, 1, "2:16", "hot"),
    (768, 768, 16, "1:16", "hot"),
    (3072, 768, 64, "2:16", "hot"),
    (768, 3072, 256, "2:16", "hot"),
    (4096, 4096, 1, "2:16", "cold"),
    (4096, 4096, 8, "2:16", "cold"),
)
COLUMNS = (
    "date", "cpu", "tvm", "n", "k", "m", "pattern", "regime", "threads", "trials", "decisions",
    "default_us", "tuned_us", "p20", "p50", "p80", "over_reference",
)  # fmt: skip


@dataclass(frozen=True)
class Tuned(KernelBenchmark):
    """A kernel benchmark that races the default schedule against a tuned one."""

    def measure_paired(self, trials: int) -> tuple[Any, list[list[int]]]:
        """Search; return the Timing of "default", "tuned" and "reference", and the decisions (none
        if the default won).
        """
        kernel, target = KERNELS["cpu_avx512"], host_target()
        workload = Workload(kernel.name, self.m, self.n, self.k, self.pattern.nnz, self.pattern.block)
        runner = LocalRunner(target, self.threads, CACHE_MULTIPLE * last_level_cache() if self.regime == "cold" else 0)
        with tempfile.TemporaryDirectory() as folder:
            options = TuneOptions(target=target, work_dir=folder, trials=trials, threads=self.threads)
            (state,) = tune_tasks([Task(workload)], options, "benchmarks.tuned", runner=runner).states
        assert state.winner is not None
        decisions = state.winner.decisions if state.winner.won else state.space.default
        weight, dense, x = self.draw()
        racing = {"default": self._ours(kernel, weight, dense, x)}
        racing["tuned"] = replace(self, scheduled=state.space.replay(decisions))._ours(kernel, weight, dense, x)
        reference = self._reference(weight, x)
        racing |= {} if reference is None else {"reference": reference}
        return measure_paired(racing, 41, warm=1 if self.regime == "cold" else 4), [
            list(d) for d in decisions
        ] if state.winner.won else []


def main() -> None:
    """Measure all cells, print them, and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trials", type=int, default=32)
    options = parser.parse_args()
    facts = environment.describe()
    stamp = [datetime.now(UTC).date().isoformat(), facts["cpu"], facts["versions"]["apache-tvm"]]
    table = Table("N x K, M", "pattern", "regime", "default us", "tuned us", "over default", "over reference", "decisions")
    for n, k, m, pattern, regime in CELLS:
        benchmark = Tuned(n, k, m, BalancedPattern.parse(pattern), options.threads, regime)
        timing, decisions = benchmark.race(options.trials)
        gain = timing.speedup("tuned", "default")
        over = f"{timing.speedup('tuned', 'reference').p50:.3f}" if "reference" in timing.times else ""
        times = [f"{timing.microseconds(name):.1f}" for name in ("default", "tuned")]
        spread = [f"{p:.3f}" for p in (gain.p20, gain.p50, gain.p80)]
        cell = [n, k, m, pattern, regime, options.threads, options.trials, decisions]
        append(DATA, COLUMNS, [dict(zip(COLUMNS, [*stamp, *cell, *times, *spread, over], strict=True))])
        table.add_row(f"{n}x{k}, {m}", pattern, regime, *times, " ".join(spread), over, str(decisions))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
