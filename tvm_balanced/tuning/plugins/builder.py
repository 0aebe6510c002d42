"""MetaSchedule's builder: compiles candidates in this process."""

from collections.abc import Sequence
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.tuning.plugins.session import UNMEASURED, Batch, Session
from tvm_balanced.tuning.runners.base import Candidate

PyBuilder: Any = ms.builder.PyBuilder
CRASHED = "its process died while it was measured, twice"


@derived_object
class Builder(PyBuilder):
    """Builds by the run's runner. An artifact path is a place in the batch: what is built stays in memory.

    MetaSchedule's LocalBuilder starts processes that import TVM, which takes as long as a whole search.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def build(self, build_inputs: Sequence[Any]) -> list[Any]:
        """Build candidates; see PyBuilder."""
        batch = self.session.batch
        try:
            errors = self._build(batch, [given.mod["main"] for given in build_inputs])
        except BaseException as error:  # the caller of the run gets it
            self.session.fail(error)
            errors = {}
        paths = map(str, range(len(build_inputs)))
        return [
            ms.builder.BuilderResult(path, None)
            if path in batch.built
            else ms.builder.BuilderResult(None, errors.get(path, UNMEASURED))
            for path in paths
        ]

    def _build(self, batch: Batch, funcs: Sequence[Any]) -> dict[str, str]:
        """Build a batch into the session; return the error of each that failed, by its path."""
        runner = self.session.runner
        paths: dict[Decisions, str] = {point: str(place) for place, point in enumerate(batch.points)}
        errors: dict[str, str] = {}
        candidates = [Candidate(point, func) for point, func in zip(batch.points, funcs, strict=True)]
        # one at a time where this process measures, so that a crash can be attributed to a candidate
        for some in [candidates] if runner.parallel > 1 else [[candidate] for candidate in candidates]:
            if self.session.halted():
                break
            if runner.parallel == 1 and not self.session.begins(some[0].decisions):
                errors[paths[some[0].decisions]] = CRASHED
                continue
            for built in runner.build_all(some):
                if built.error is None:
                    batch.built[paths[built.decisions]] = built
                else:
                    errors[paths[built.decisions]] = built.error
                if self.session.halted():
                    break
        return errors
