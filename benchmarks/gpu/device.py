"""What the run-book needs from a machine: compile a kernel, run it, and time it. The rest is the same on every machine."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
import tvm
from torch import nn
from tvm import tirx

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import cuda_target, host_gpu
from tvm_balanced.core.caches import last_level_cache
from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.runtime.cuda import toolchain
from tvm_balanced.runtime.cuda.device import current_stream
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import SPARSE_KERNELS, Kernel, Roofline, SparseKernel, Workload
from tvm_balanced.schedules.base import cuda_config
from tvm_balanced.schedules.kernels.cuda_two_of_four import CUDA_TWO_OF_FOUR
from tvm_balanced.selection.rooflines import roofline_of
from tvm_balanced.timing.gpu_timer import Timer, gpu_timer
from tvm_balanced.timing.paired import Implementation
from tvm_balanced.tuning.runners.base import Runner
from tvm_balanced.tuning.runners.gpu import GpuRunner
from tvm_balanced.tuning.runners.local import LocalRunner

Call = Callable[[], None]
Function = Callable[[Sequence[torch.Tensor]], Call]  # binds a kernel to its arguments; the last is the output


EVERYTHING = 1 << 40  # bytes of weights to rotate: more than any cache holds


class Device(ABC):
    """A machine with its target.

    Attributes
    ----------
    name : str
        Name in the rows.
    torch : str
        Torch's name of the device; tensors of baselines and kernels are on it.
    target : tvm.target.Target
        Kernels are scheduled for it.
    dtypes : tuple of str
        Dtypes in which its kernels are measured.
    cache_bytes : int
        Its last cache before memory.
    rounds : int
        Rounds in which baselines alternate.
    stand_in : bool
        Whether it only replaces a GPU, on tiny shapes.
    compiles_for : str
        The target of whole models.
    """

    name: str
    torch: str
    target: tvm.target.Target
    dtypes: tuple[str, ...]
    cache_bytes: int
    rounds: int = 31
    stand_in: bool = False
    compiles_for: str = "cpu"

    @abstractmethod
    def compile(self, func: tirx.PrimFunc) -> Function:
        """Compile a scheduled function."""

    @abstractmethod
    def timer(self, rival: Implementation, calls: int, capture: bool = True) -> Timer:
        """Prepare to time `calls` consecutive calls of a baseline, numbered from 0; in a CUDA graph if `capture`."""

    @property
    def machine(self) -> Roofline:
        """Peak rates for the kernels' cost models."""
        return roofline_of(self.target)

    @property
    def key(self) -> str:
        """The name of its folder of tuning logs."""
        return target_key(self.target)

    @abstractmethod
    def runner(self) -> Runner:
        """Return the runner for the candidates of a search, with weights that no cache keeps."""

    def schedule(self, kernel: Kernel, func: tirx.PrimFunc, workload: Workload) -> tirx.PrimFunc:
        """Schedule a kernel with its defaults."""
        return kernel.schedule(func, workload, self.target)

    def kernels(self, dtype: str) -> list[SparseKernel]:
        """Return the sparse kernels that a model may get here and that do not round weights; not a library's, a rival."""
        own = (kernel for kernel in self._here(dtype) if kernel is not CUDA_TWO_OF_FOUR and not kernel.by_name)
        return [kernel for kernel in own if kernel.tolerance is None]

    def rounding_kernels(self, dtype: str) -> list[SparseKernel]:
        """Return the sparse kernels that run here and round weights."""
        return [kernel for kernel in self._here(dtype) if kernel.tolerance is not None]

    def _here(self, dtype: str) -> list[SparseKernel]:
        known = (kernel for kernel in SPARSE_KERNELS if dtype in kernel.dtypes)
        return [kernel for kernel in known if kernel.refuses(self.target, 256, 256, dtype) is None]

    def compiled_by_torch(self, model: nn.Module) -> dict[str, Any]:
        """Return a model compiled by torch.compile, by that name; nothing where that would take minutes."""
        return {}

    def synchronize(self) -> None:  # noqa: B027
        """Wait until all work is done; raises its errors."""


class Cuda(Device):
    """The first NVIDIA GPU of this machine, on torch's current stream."""

    torch = "cuda"
    dtypes = ("float32", "float16", "bfloat16")
    compiles_for = "cuda"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise EnvironmentFaultError("no NVIDIA GPU was found; give --stand-in to rehearse on the CPU")
        self.target, self.device = host_gpu(), tvm.cuda(0)
        properties = torch.cuda.get_device_properties(0)
        self.name, self.cache_bytes = properties.name, int(properties.L2_cache_size)
        toolchain.choose(self.target)

    def runner(self) -> Runner:
        return CellRunner(self.target, EVERYTHING)

    def compile(self, func: tirx.PrimFunc) -> Function:
        main = self._compile(func)

        def bind(tensors: Sequence[torch.Tensor]) -> Call:
            given = [tvm.runtime.from_dlpack(tensor) for tensor in tensors]

            def call() -> None:
                with current_stream(self.device):
                    main(*given)

            return call

        return bind

    def _compile(self, func: tirx.PrimFunc) -> Any:
        with self.target, tvm.transform.PassContext(config=cuda_config.PASS_CONFIG):
            return build(func.with_attr("global_symbol", "main"), self.target)["main"]

    def timer(self, rival: Implementation, calls: int, capture: bool = True) -> Timer:
        return gpu_timer(rival, calls, capture)

    def compiled_by_torch(self, model: nn.Module) -> dict[str, Any]:
        return {"torch.compile": torch.compile(model)}

    def synchronize(self) -> None:
        torch.cuda.synchronize()


class CellRunner(GpuRunner):
    """Leaves out the dense kernel: a cell is compared with it anyway."""

    def dense_seconds(self, workload: Workload) -> None:
        return None


class Absent(Device):
    """An H200 that is not present, for planning."""

    name, torch, dtypes, cache_bytes = "NVIDIA H200", "cpu", ("float32", "float16", "bfloat16"), 60 << 20

    def __init__(self) -> None:
        self.target = cuda_target("h200")

    def compile(self, func: tirx.PrimFunc) -> Function:
        raise EnvironmentFaultError("this GPU is planned for and is not there; run on a machine with one, or give --stand-in")

    def timer(self, rival: Implementation, calls: int, capture: bool = True) -> Timer:
        raise EnvironmentFaultError("this GPU is planned for and is not there; run on a machine with one, or give --stand-in")

    def runner(self) -> Runner:
        raise EnvironmentFaultError("this GPU is planned for and is not there; run on a machine with one, or give --stand-in")


class Cpu(Device):
    """The CPU with its kernels, on one thread."""

    torch = "cpu"
    dtypes = ("float32",)

    def __init__(self) -> None:
        from tvm_balanced.runtime.environment import describe

        torch.set_num_threads(1)
        self.target, self.name, self.cache_bytes = host_target(), describe()["cpu"], last_level_cache()

    @property
    def machine(self) -> Roofline:
        return roofline_of(self.target, 1)

    def compile(self, func: tirx.PrimFunc) -> Function:
        main = build(func.with_attr("global_symbol", "main"), self.target)["main"]

        def bind(tensors: Sequence[torch.Tensor]) -> Call:
            given = [tvm.runtime.from_dlpack(tensor) for tensor in tensors]

            def call() -> None:
                use_threads(1)
                main(*given)

            return call

        return bind

    def timer(self, rival: Implementation, calls: int, capture: bool = True) -> Timer:
        rival(0)
        return Timer("wall", lambda: wall_clock(rival, calls))

    def runner(self) -> Runner:
        return LocalRunner(self.target, 1, EVERYTHING)


def wall_clock(rival: Implementation, calls: int) -> float:
    """Return the seconds of one of `calls` calls."""
    start = time.perf_counter()
    for call in range(calls):
        rival(call)
    return (time.perf_counter() - start) / calls
