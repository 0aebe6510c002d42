"""MetaSchedule's own builder and runner for our kernels, so that `tune_relax` measures them: docs/tvm.md has a program.

What its worker processes call stands in modules that load little: they begin anew for each batch.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.compiler.build import build_candidate
from tvm_balanced.schedules import Workload
from tvm_balanced.testing.operands import allocate
from tvm_balanced.tuning.search.tune_context import load_intrinsics

load_intrinsics()
PyBuilder: Any = ms.builder.PyBuilder
PyRunner: Any = ms.runner.PyRunner
WORKLOAD_FILE = "workload.json"  # beside a built candidate


@derived_object
class KernelBuilder(PyBuilder):
    """MetaSchedule's LocalBuilder, that also notes which workload a candidate computes.

    Parameters
    ----------
    workers : int
        Processes that build at once.
    timeout : float
        Seconds for one candidate.
    """

    def __init__(self, workers: int = 1, timeout: float = 60.0) -> None:
        super().__init__()
        self.local = ms.builder.LocalBuilder(max_workers=workers, timeout_sec=timeout, f_build=build_candidate)

    def build(self, build_inputs: Sequence[Any]) -> list[Any]:
        """Build candidates; see PyBuilder."""
        results: list[Any] = self.local.build(build_inputs)
        for given, built in zip(build_inputs, results, strict=True):
            workload = Workload.of(given.mod["main"])
            if built.artifact_path is not None and workload is not None:
                Path(built.artifact_path).with_name(WORKLOAD_FILE).write_text(json.dumps(workload.to_attr()))
        return results


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
