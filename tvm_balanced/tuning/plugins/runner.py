"""MetaSchedule's runner: measures what was built, on weights that rotate."""

from collections.abc import Sequence
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.plugins.session import UNMEASURED, Batch, Session
from tvm_balanced.tuning.runners.base import Built

PyRunner: Any = ms.runner.PyRunner
PyRunnerFuture: Any = ms.runner.PyRunnerFuture


@derived_object
class Measurement(PyRunnerFuture):
    """A result that is there already."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self._result = result

    def done(self) -> bool:
        """Return True; see PyRunnerFuture."""
        return True

    def result(self) -> Any:
        """Return it; see PyRunnerFuture."""
        return self._result


@derived_object
class BatchRunner(PyRunner):
    """Measures by the run's runner, and returns when the batch is measured: two candidates at once would disturb each other."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def run(self, runner_inputs: Sequence[Any]) -> list[Any]:
        """Measure candidates; see PyRunner."""
        batch = self.session.batch
        built = [batch.built[str(given.artifact_path)] for given in runner_inputs]
        results: dict[Any, Measured] = {}
        try:
            self._run(batch, built, results)
        except BaseException as error:  # the caller of the run gets it, and what was measured is kept
            self.session.fail(error)
        return [Measurement(_result(results.get(one.decisions))) for one in built]

    def _run(self, batch: Batch, built: Sequence[Built], results: dict[Any, Measured]) -> None:
        runner = self.session.runner
        for some in [built] if runner.parallel > 1 else [[one] for one in built]:
            if self.session.halted() or (runner.parallel == 1 and not self.session.begins(some[0].decisions)):
                return
            for measured in runner.run_all(batch.workload, some):
                results[measured.decisions] = measured
                self.session.progressed()
                if self.session.halted():
                    return


def _result(measured: Measured | None) -> Any:
    if measured is None or measured.seconds is None:
        return ms.runner.RunnerResult(None, UNMEASURED if measured is None else measured.error or "it failed")
    return ms.runner.RunnerResult([measured.seconds], None)
