"""MetaSchedule's search strategy: asks the run for candidates of one kernel."""

from collections.abc import Sequence
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.schedules.base.space import Space
from tvm_balanced.tuning.plugins.session import Session
from tvm_balanced.tuning.search.base import Strategy

PySearchStrategy: Any = ms.search_strategy.PySearchStrategy


@derived_object
class Search(PySearchStrategy):
    """Measures the default first, then what a strategy proposes.

    Parameters
    ----------
    session : Session
    task : int
        Number of the kernel.
    space : Space
    strategy : Strategy
    """

    def __init__(self, session: Session, task: int, space: Space, strategy: Strategy) -> None:
        super().__init__()
        self.session, self.task, self.space, self.strategy = session, task, space, strategy
        self._arguments: Any = None

    def _initialize_with_tune_context(self, context: Any) -> None:
        self._arguments = ms.arg_info.ArgInfo.from_prim_func(context.mod["main"])

    def pre_tuning(
        self, max_trials: int, num_trials_per_iter: int, design_spaces: Any, database: Any = None, cost_model: Any = None
    ) -> None:
        """Hand on what a strategy of MetaSchedule needs; see PySearchStrategy."""
        self.strategy.begin(design_spaces, database, cost_model)

    def post_tuning(self) -> None:
        """Do nothing; see PySearchStrategy."""

    def generate_measure_candidates(self) -> list[Any] | None:
        """Return the next batch, None if nothing is left to measure; see PySearchStrategy."""
        try:
            return [measure_candidate(self.space, point, self._arguments) for point in self.session.propose(self.task)] or None
        except BaseException as error:  # the caller of the run gets it
            self.session.fail(error)
            self.session.drop()
            return None

    def notify_runner_results(self, measure_candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """Do nothing: the run keeps the results, and tells them to the strategy; see PySearchStrategy."""

    def clone(self) -> Any:
        """Return another such; see PySearchStrategy."""
        return Search(self.session, self.task, self.space, self.strategy)


def measure_candidate(space: Space, point: Any, arguments: Any) -> Any:
    """Return MetaSchedule's candidate of a point."""
    return ms.MeasureCandidate(space.schedule(point), arguments)
