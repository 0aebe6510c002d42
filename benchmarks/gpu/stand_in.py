"""A stand-in for a GPU: kernels run through OpenCL on the CPU (PoCL) and are timed by the wall clock.

Its times mean nothing. It allows rehearsing and testing the whole run-book without a GPU.
"""

from collections.abc import Callable, Sequence

import ml_dtypes
import torch
from tvm import tirx

from benchmarks.gpu.device import EVERYTHING, Call, Device, Function, Timer, wall_clock
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.encoding import Array
from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.schedules import Kernel, Roofline, Workload
from tvm_balanced.selection import rooflines
from tvm_balanced.testing import opencl
from tvm_balanced.timing.paired import Implementation
from tvm_balanced.tuning.runners.base import Runner
from tvm_balanced.tuning.runners.local import LocalRunner


class StandIn(Device):
    """PoCL instead of a GPU; it has no float16."""

    name = "stand-in (PoCL)"
    torch = "cpu"
    dtypes = ("float32", "bfloat16")
    cache_bytes, rounds = 1, 1  # on a CPU a call takes long
    stand_in = True

    def __init__(self) -> None:
        if not opencl.available():
            raise EnvironmentFaultError("PoCL was not found; install pyopencl and PoCL (Debian: pocl-opencl-icd)")
        self.target = opencl.target()

    @property
    def machine(self) -> Roofline:
        return rooflines.machine(cuda_target("h200"))

    def schedule(self, kernel: Kernel, func: tirx.PrimFunc, workload: Workload) -> tirx.PrimFunc:
        """Schedule all M in tiles of one size, because `opencl.run` takes functions of one kernel."""
        return kernel.schedule_tiles(func, workload, self.target)

    def compile(self, func: tirx.PrimFunc) -> Function:
        program = opencl.Program(func)
        if not _symbolic(func):
            program.compile({})  # fails here, like a compiler

        def bind(tensors: Sequence[torch.Tensor]) -> Call:
            arrays = [_array(tensor) for tensor in tensors]

            def call() -> None:
                arrays[-1][...] = program(arrays)

            return call

        return bind

    def timer(self, rival: Implementation, calls: int, capture: bool = True) -> Timer:
        return Timer("wall", lambda: wall_clock(rival, calls))

    def runner(self) -> Runner:
        return PoclRunner(self.target, 1, rotate=EVERYTHING)


class PoclRunner(LocalRunner):
    """Measures candidates through OpenCL."""

    def _cache_bytes(self) -> int:
        return 4096  # as many bytes as rotating a tiny weight takes

    def dense_seconds(self, workload: Workload) -> None:
        return None  # as on a GPU, where a cell is compared with it anyway

    def _put(self, array: Array) -> Array:
        return array.copy()

    def _read(self, array: Array) -> Array:
        return array

    def _build(self, func: tirx.PrimFunc) -> Callable[..., None]:
        program = opencl.Program(func)
        program.compile({})  # fails here, like a compiler

        def main(*arrays: Array) -> None:
            arrays[-1][...] = program(arrays)

        return main


def _symbolic(func: tirx.PrimFunc) -> bool:
    return any(not isinstance(extent, tirx.IntImm) for param in func.params for extent in param.ty.shape)


def _array(tensor: torch.Tensor) -> Array:
    """Return a tensor's memory as an array."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
