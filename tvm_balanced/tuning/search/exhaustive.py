"""Exhaustive search."""

from typing import Any

from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.search.base import Strategy


class Exhaustive(Strategy):
    """Every point in order, from the first."""

    def propose(self, count: int) -> list[Decisions]:
        return self.left()[:count]


def exhaustive(space: Space, seed: int, *_: Any) -> Strategy:
    """Return every point in order."""
    return Exhaustive(space, seed)
