"""The runner that measures candidates on this machine's first GPU."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.compiler.build import build
from tvm_balanced.core.encoding import Array
from tvm_balanced.errors import TuningError, last_line
from tvm_balanced.runtime.cuda import toolchain
from tvm_balanced.runtime.cuda.device import current_gpu, current_stream
from tvm_balanced.runtime.host import cores
from tvm_balanced.runtime.tensors import on_host
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base import cuda_config, gpu_specs, target_info
from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.timing.gpu_timer import Timer, gpu_timer, synced_timer
from tvm_balanced.timing.paired import Implementation, Seconds
from tvm_balanced.timing.rotating import Rotation
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.runners.base import Built, Candidate, build_together
from tvm_balanced.tuning.runners.local import LocalRunner
from tvm_balanced.tuning.search.tune_context import tune_context

REPEATS = 5  # of a candidate's calls, which are some milliseconds of work; the median counts


class GpuRunner(LocalRunner):
    """Compile candidates on all cores at once, and time them one by one.

    Parameters
    ----------
    target : tvm.target.Target
        Target of this machine's GPU.
    rotate : int
        Bytes of weights to rotate; as for LocalRunner, with the GPU's second-level cache.
    """

    parallel = 2

    def __init__(self, target: tvm.target.Target, rotate: int = 0) -> None:
        super().__init__(target, 1, rotate)
        self.device = current_gpu()
        toolchain.choose(target, at_once=True)

    def fits(self, workload: Workload, decisions: Decisions) -> bool:
        return within_limits(self.spaces[workload], decisions, self.target)

    def build_all(self, candidates: Sequence[Candidate]) -> Iterator[Built]:
        return build_together(self._build, candidates, cores())

    def run_all(self, workload: Workload, built: Sequence[Built]) -> Iterator[Measured]:
        for one, measured in zip(built, super().run_all(workload, built), strict=True):
            yield measured
            if measured.error is not None:
                self._require_device(one.decisions)

    def _require_device(self, decisions: Decisions) -> None:
        """Raise TuningError if the GPU rejects all further work of this process, for instance after
        an access out of bounds.
        """
        try:
            self._synchronize()
        except Exception as error:
            raise TuningError(
                f"the GPU answers no more after candidate {decisions} ({last_line(error)}); call tune again with --resume"
            ) from None

    def _cache_bytes(self) -> int:
        return gpu_specs.gpu_of(self.target).l2_bytes

    def _put(self, array: Array) -> Any:
        return tvm.runtime.tensor(array, self.device)

    def _read(self, tensor: Any) -> Array:
        return on_host(tensor)

    def _build(self, func: tirx.PrimFunc) -> Callable[..., None]:
        with self.target, toolchain.without_spills(), tvm.transform.PassContext(config=cuda_config.PASS_CONFIG):
            main = build(func.with_attr("global_symbol", "main"), self.target)["main"]

        def on_stream(*arguments: Any) -> None:
            with current_stream(self.device):
                main(*arguments)

        return on_stream

    def _time(self, main: Any, copies: Rotation) -> float:
        timer = self._timer(_rotating(main, copies), len(copies))
        return float(np.median([timer.once() for _ in range(REPEATS)]))

    def _rival(self, main: Any, copies: Rotation, offset: int, calls: int) -> Implementation:
        timer = self._timer(_rotating(main, copies, offset), max(calls, len(copies)))
        return lambda _: Seconds(timer.once())

    def _timer(self, rival: Implementation, calls: int) -> Timer:
        torch = sys.modules.get("torch")  # has CUDA graphs; it is loaded if the model is PyTorch's
        if torch is not None and torch.cuda.is_available():
            return gpu_timer(rival, calls)
        return synced_timer(rival, calls, self._synchronize)

    def _synchronize(self) -> None:
        self.device.sync()


def _rotating(main: Any, copies: Rotation, offset: int = 0) -> Implementation:
    def run(call: int) -> None:
        main(*copies[(call + offset) % len(copies)])

    return run


def within_limits(space: Space, decisions: Decisions, target: tvm.target.Target) -> bool:
    """Whether a schedule stays within the threads, shared memory and vectors that a GPU gives a thread block.

    This is MetaSchedule's check with the limits of `target_info.limits`; it takes about 20 ms.
    """
    check = ms.postproc.VerifyGPUCode()
    schedule = space.schedule(decisions)
    check._initialize_with_tune_context(tune_context(schedule.mod, target_info.limits(target)))
    return bool(check.apply(schedule))
