"""MetaSchedule's own builder and runner for our kernels, so that `tune_relax` measures them: docs/tvm.md has a program.

What its worker processes call stands in modules that load little.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tvm import tirx
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.support.popen_pool import PopenPoolExecutor, StatusKind

from tvm_balanced.compiler.build import build_candidate
from tvm_balanced.schedules import Workload
from tvm_balanced.testing.operands import allocate
from tvm_balanced.tuning.search.tune_context import load_intrinsics

load_intrinsics()
PyBuilder: Any = ms.builder.PyBuilder
PyRunner: Any = ms.runner.PyRunner
WORKLOAD_FILE = "workload.json"  # beside a built candidate
USES = 64  # candidates that a process builds before another takes its place: TVM's code generation keeps some memory of each


@derived_object
class KernelBuilder(PyBuilder):
    """Builds candidates in processes that go on from batch to batch, and notes which workload each computes.

    MetaSchedule's LocalBuilder starts a process for each batch, and one to begin with, which takes three seconds each.

    Parameters
    ----------
    workers : int
        Processes that build at once.
    timeout : float
        Seconds for one candidate.
    """

    def __init__(self, workers: int = 1, timeout: float = 60.0) -> None:
        super().__init__()
        self.pool = PopenPoolExecutor(max_workers=workers, timeout=timeout, maximum_process_uses=USES)

    def build(self, build_inputs: Sequence[Any]) -> list[Any]:
        """Build candidates; see PyBuilder."""
        given = [(one.mod, one.target) for one in build_inputs]
        found = self.pool.map_with_error_catching(lambda pair: build_candidate(*pair), given)
        return [self._result(one.mod["main"], built) for one, built in zip(build_inputs, found, strict=True)]

    def _result(self, func: tirx.PrimFunc, built: Any) -> Any:
        """Return what became of a candidate, whose workload is noted beside it."""
        if built.status != StatusKind.COMPLETE:
            return ms.builder.BuilderResult(None, f"{type(built.value).__name__}: {built.value}")
        workload = Workload.of(func)
        if workload is not None:
            Path(built.value).with_name(WORKLOAD_FILE).write_text(json.dumps(workload.to_attr()))
        return ms.builder.BuilderResult(built.value, None)


@derived_object
class KernelRunner(PyRunner):
    """MetaSchedule's LocalRunner on operands that a kernel may get: random indices would read beyond x.

    Parameters
    ----------
    copies : int
        Sets of operands; more than one lets weights come from further away than the nearest cache.
    timeout : float
        Seconds for one candidate.
    """

    def __init__(self, copies: int = 1, timeout: float = 60.0) -> None:
        super().__init__()
        self.local = ms.runner.LocalRunner(timeout_sec=timeout, alloc_repeat=copies)

    def run(self, runner_inputs: Sequence[Any]) -> list[Any]:
        """Measure candidates; see PyRunner."""
        return [self._run(given) for given in runner_inputs]

    def _run(self, given: Any) -> Any:
        known = Path(given.artifact_path).with_name(WORKLOAD_FILE)
        self.local.f_alloc_argument = partial(allocate, known.read_text()) if known.exists() else None
        return self.local.run([given])[0]
