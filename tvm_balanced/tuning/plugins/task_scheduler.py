"""MetaSchedule's task scheduler: the run says which kernel is next, and when to end."""

from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.tuning.plugins.session import Session

PyTaskScheduler: Any = ms.task_scheduler.PyTaskScheduler
END = -1


@derived_object
class Scheduler(PyTaskScheduler):
    """Chooses a kernel by the time that the model may still save.

    MetaSchedule's GradientBased measures a batch of every kernel before it looks at a result, begins anew after a resume, and has
    no end but its number of trials.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._running: int | None = None

    def next_task_id(self) -> int:
        """Wait for the batch that is under way, then choose; see PyTaskScheduler."""
        if self._running is not None and self.session.waiting:
            self._outer().join_running_task(self._running)
        try:
            task = self.session.next_task()
        except BaseException as error:  # the caller of the run gets it
            self.session.fail(error)
            task = END
        self._running = None if task == END else task
        return task
