"""Random search without repetition."""

from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.tuning.search.base import Strategy


class Replay(Strategy):
    """Points at random, as MetaSchedule's ReplayFunc samples them, but none twice."""

    def propose(self, count: int) -> list[Decisions]:
        left = self.left()
        return [left[i] for i in self.rng.permutation(len(left))[:count]]
