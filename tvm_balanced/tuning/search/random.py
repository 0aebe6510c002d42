"""Random search without repetition."""

from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.tuning.search.base import Strategy


class Replay(Strategy):
    """Random points, as MetaSchedule's ReplayFunc samples them, but without repetition."""

    def propose(self, count: int) -> list[Decisions]:
        left = self.left()
        return [left[i] for i in self.rng.permutation(len(left))[:count]]
