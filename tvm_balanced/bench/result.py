"""Rows of a benchmark."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.timing.paired import Timing

OURS = "balanced"


@dataclass(frozen=True)
class Row:
    """One baseline: its median time, and how many times faster we are (median, 20th and 80th
    percentile of paired ratios).
    """

    name: str
    microseconds: float
    speedup: Ratio

    def cells(self) -> tuple[str, ...]:
        """Return the row as text: name, time, speed-up with its spread."""
        s = self.speedup
        return self.name, f"{self.microseconds:.1f}", f"{s.p50:.2f}x", f"{s.p20:.2f} to {s.p80:.2f}"


def rows(timing: Timing) -> list[Row]:
    """Return ours first, then each baseline with our speed-up over it."""
    return [Row(name, timing.microseconds(name), timing.speedup(OURS, name)) for name in timing.times]


def to_json(results: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as plain data."""
    return [asdict(row) for row in results]
