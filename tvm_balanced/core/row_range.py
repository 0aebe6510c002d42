"""A range of M, the number of rows of x."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class RowRange:
    """The M from `first` to `last`, both included; no limit where `last` is None."""

    first: int = 1
    last: int | None = None

    def __contains__(self, m: int) -> bool:
        return self.first <= m and (self.last is None or m <= self.last)

    def intersect(self, other: "RowRange") -> "RowRange | None":
        """Return the M of both ranges, None if there is none."""
        lasts = [last for last in (self.last, other.last) if last is not None]
        first, last = max(self.first, other.first), min(lasts, default=None)
        return None if last is not None and first > last else RowRange(first, last)

    def minus(self, taken: "Iterable[RowRange]") -> "tuple[RowRange, ...]":
        """Return what is left of this range without the ranges `taken`, which lie in it and do not overlap."""
        first: int | None = self.first
        left: list[RowRange] = []
        for other in sorted(taken, key=lambda other: other.first):
            assert first is not None
            if first < other.first:
                left.append(RowRange(first, other.first - 1))
            first = None if other.last is None else other.last + 1
        if first is not None and (self.last is None or first <= self.last):
            left.append(RowRange(first, self.last))
        return tuple(left)

    def __str__(self) -> str:
        if self.last is None:
            return "any" if self.first == 1 else f"{self.first} up"
        if self.first == self.last:
            return str(self.first)
        return f"to {self.last}" if self.first == 1 else f"{self.first} to {self.last}"


EVERY_M = RowRange()
