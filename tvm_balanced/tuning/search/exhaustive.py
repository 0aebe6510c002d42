"""Exhaustive search."""

from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.tuning.search.base import Strategy


class Exhaustive(Strategy):
    """Every point in order, from the first."""

    def propose(self, count: int) -> list[Decisions]:
        return self.left()[:count]
