"""One cell of a benchmark: a layer's shape, M, pattern and threads. It is timed in its own process; its rows go to a CSV."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

from tvm_balanced.core.caches import last_level_cache
from tvm_balanced.core.encoding import Array
from tvm_balanced.runtime import environment

LARGE = 4096 * 4096  # no cache keeps a layer with so many weights between two calls of a model
COLUMNS = (
    *("date", "cpu", "versions", "n", "k", "m", "pattern", "dtype", "threads", "regime"),
    *("rival", "rounds", "us", "p20", "p50", "p80", "note"),
)
BOUND = "bound"  # the baseline that no kernel can beat, see benchmarks.bound
ROUNDS = 31
TIMEOUT = 1200  # seconds besides the timing: DeepSparse compiles thirty copies of a large layer for minutes


@dataclass(frozen=True)
class Cell:
    """y (M, N) = x (M, K) @ weight (N, K)^T at a pattern."""

    n: int
    k: int
    m: int
    pattern: str
    threads: int
    dtype: str = "float32"
    from_memory: bool = False  # for any size, as in a model that no cache keeps

    def __str__(self) -> str:
        words = [f"{self.n}x{self.k}", f"m{self.m}", self.pattern, f"t{self.threads}", self.dtype.replace("float32", "")]
        return " ".join(words).rstrip()

    @property
    def nbytes(self) -> int:
        """Bytes of the dense weight."""
        return self.n * self.k * (2 if self.dtype == "bfloat16" else 4)

    @property
    def regime(self) -> str:
        """Return "cold" if the dense weight is larger than the last-level cache, x is one row of a large
        layer, or `from_memory`.
        """
        streamed = self.m == 1 and self.n * self.k >= LARGE
        return "cold" if self.from_memory or streamed or self.nbytes >= last_level_cache() else "hot"


@dataclass(frozen=True)
class Timed:
    """The result of one baseline in a cell.

    Parameters
    ----------
    microseconds : float
        Median; NaN if it did not run.
    ratios : array (rounds,)
        Its time over ours, round by round: how many times faster we are.
    versions, note : str
        Packages, and why it did not run.
    """

    microseconds: float
    ratios: Array
    versions: str
    note: str = ""

    def percentiles(self) -> tuple[float, float, float]:
        """Return the 20th, 50th and 80th percentile of the ratios; NaN if there are none."""
        p20, p50, p80 = np.percentile(self.ratios, (20, 50, 80)) if len(self.ratios) else (np.nan,) * 3
        return float(p20), float(p50), float(p80)


def measure(cell: Cell, rivals: Sequence[str], seconds: float, rounds: int = ROUNDS, tuned: bool = False) -> dict[str, Timed]:
    """Time our kernel and baselines in a separate process; return them by name, ours as "balanced".

    Ours has its default schedule or, if `tuned`, that of the shipped log.

    Raises
    ------
    RuntimeError
        If the process failed; the message is its last output.
    """
    work = json.dumps({"cell": asdict(cell), "rivals": list(rivals), "seconds": seconds, "rounds": rounds, "tuned": tuned})
    command = [sys.executable, "-m", "benchmarks.time_cell", work]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT + seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{cell}: took longer than {TIMEOUT + seconds:.0f} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RuntimeError(f"{cell}: {said[-1] if said else f'ended with {done.returncode}'}")
    results = json.loads(done.stdout.splitlines()[-1])
    return {name: Timed(**values | {"ratios": np.array(values["ratios"])}) for name, values in results.items()}


@cache
def stamp() -> dict[str, str]:
    """Return the first columns of every row: date, CPU and the versions that matter to all."""
    facts = environment.describe()
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("apache-tvm", "torch"))
    return {"date": datetime.now(UTC).date().isoformat(), "cpu": facts["cpu"], "versions": versions}


def row_of(cell: Cell, rival: str, timed: Timed) -> dict[str, object]:
    """Return a baseline's row, without the stamp."""
    p20, p50, p80 = (f"{p:.3f}" for p in timed.percentiles())
    row: dict[str, object] = asdict(cell) | {"regime": cell.regime, "rival": rival, "note": timed.note}
    del row["from_memory"]  # the regime implies it
    row |= {"rounds": len(timed.ratios), "us": f"{timed.microseconds:.1f}", "p20": p20, "p50": p50, "p80": p80}
    return row | (
        {"versions": ", ".join(dict.fromkeys([*stamp()["versions"].split(", "), *timed.versions.split(", ")]))}
        if timed.versions
        else {}
    )


def append(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Append rows to a CSV; a new file gets a header."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        writer.writerows(rows)


def show(results: Mapping[str, Timed], rivals: Sequence[str]) -> list[str]:
    """Return our time and our speed-up over each baseline, as text."""

    def text(timed: Timed | None) -> str:
        if timed is None or not len(timed.ratios):
            return "-"
        p20, p50, p80 = timed.percentiles()
        return f"{p50:.2f} ({p20:.2f} to {p80:.2f})"

    return [f"{results['balanced'].microseconds:.0f}", *(text(results.get(name)) for name in rivals)]
