"""MetaSchedule's measure callback: keeps what was measured."""

from collections.abc import Sequence
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.errors import last_line
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.plugins.session import UNMEASURED, Session

PyMeasureCallback: Any = ms.measure_callback.PyMeasureCallback


@derived_object
class Keep(PyMeasureCallback):
    """Writes a batch to the log at once: MetaSchedule's AddToDatabase commits one record after the other."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def apply(
        self, task_scheduler: Any, task_id: int, measure_candidates: Any, builder_results: Any, runner_results: Sequence[Any]
    ) -> None:
        """Keep the results of a batch; see PyMeasureCallback."""
        try:
            results = [
                Measured(point, float(result.run_secs[0]) if result.run_secs else None, _error(result))
                for point, result in zip(self.session.batch.points, runner_results, strict=True)
            ]
            self.session.keep(task_id, [result for result in results if result.error != UNMEASURED])
        except BaseException as error:  # the caller of the run gets it
            self.session.fail(error)


def _error(result: Any) -> str | None:
    return None if result.error_msg is None else last_line(RuntimeError(str(result.error_msg)))
