"""CompiledModule: what compile returns and load gives back. Tensors in, tensors out."""

import contextlib
import ctypes
import functools
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tvm
from tvm import relax

from tvm_balanced.encoding import Array
from tvm_balanced.errors import InputError, TargetError
from tvm_balanced.gpu.device import current_stream, place
from tvm_balanced.imported import TensorSpec
from tvm_balanced.report import Report
from tvm_balanced.transform.match_dense import view

if TYPE_CHECKING:
    from tvm_balanced.profile import Profile

ALIGNMENT = 64  # bytes; compiled code uses aligned vector loads and crashes on less, without a check of its own


@dataclass(frozen=True)
class Facts:
    """All that is known about a compiled module besides its code and weights.

    Parameters
    ----------
    inputs, outputs : tuples of TensorSpec
    report : Report
    target : str
        TVM's target as JSON.
    features : tuple of str
        Instruction sets that the code may use, by LLVM's names.
    threads : int
        Threads of a call.
    source : str
        Where the model came from.
    versions : dict
        Package to version, when it was compiled.
    max_error : float or None
        Largest absolute difference to the original model on the example inputs; None where it was not run.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    report: Report
    target: str
    features: tuple[str, ...]
    threads: int
    source: str
    versions: Mapping[str, str]
    max_error: float | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the code runs on a GPU."""
        return bool(json.loads(self.target)["kind"] == "cuda")


class CompiledModule:
    """A compiled model. Call it with the model's inputs, in order or by name.

    Parameters
    ----------
    executable : tvm.relax.VMExecutable or tvm.runtime.Module
    weights : sequence of (name, tvm.runtime.Tensor)
        Parameters of the library's function, in order; on the CPU, 64-byte aligned.
    facts : Facts
    runnable : bool
        Whether this machine can run the code; a module for another machine can be saved, not called.
    origin : Path, optional
        The artifact that it was loaded from.
    """

    def __init__(
        self,
        executable: Any,
        weights: Sequence[tuple[str, Any]],
        facts: Facts,
        runnable: bool = True,
        origin: Path | None = None,
    ) -> None:
        self.executable, self.facts, self.origin = executable, facts, origin
        self.device = tvm.cuda(0) if facts.on_gpu else tvm.cpu()
        self.weights = place(weights, self.device) if runnable else list(weights)
        self._function = relax.VirtualMachine(executable, self.device)["main"] if runnable else None
        self._weight_tensors = [tensor for _, tensor in self.weights]
        self._lock = threading.Lock()

    @property
    def report(self) -> Report:
        """What was done with every dense layer, and why."""
        return self.facts.report

    @property
    def threads(self) -> int:
        """Threads that a call uses; may be set."""
        return self.facts.threads

    @threads.setter
    def threads(self, count: int) -> None:
        check_threads(count)
        self.facts = replace(self.facts, threads=count)

    def with_error(self, max_error: float) -> "CompiledModule":
        """Record the largest absolute difference to the original model, and return self."""
        self.facts = replace(self.facts, max_error=max_error)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Torch tensors in give torch tensors out, NumPy arrays give arrays. On the CPU, memory is shared where it is contiguous
        and 64-byte aligned, and copied once where it is not. On a GPU, torch tensors must be there already, and the call runs on
        torch's current stream; NumPy arrays are copied there and back. Several threads may call; they take turns.

        Non-finite activations: a result is finite only where dense arithmetic without the pruned weights is. Pruned weights
        are skipped, so that dense arithmetic's 0 * inf = NaN may be missing; unused slots hold a weight of 0, so that an
        infinity beside kept weights may give NaN where dense arithmetic gives an infinity.

        Parameters
        ----------
        *args, **kwargs
            The inputs of `facts.inputs`, shapes and dtypes as listed there, on the CPU.

        Returns
        -------
        The output, or a tuple where the model has several.

        Raises
        ------
        InputError
            Where an input is missing, unknown, or has the wrong type, shape, dtype or device.
        TargetError
            Where the module was compiled for another machine.
        """
        values = self._bind(args, kwargs)
        tensors = self._tensors_of(values)
        with self._lock, current_stream(self.device):
            use_threads(self.facts.threads)
            assert self._function is not None
            result = self._function(*tensors, *self._weight_tensors)
        as_torch = any(_is_torch(value) for value in values)
        outputs = tuple(_from_tvm(t, as_torch) for t in ([result] if isinstance(result, tvm.runtime.Tensor) else result))
        return outputs[0] if len(outputs) == 1 else outputs

    def profile(self, *args: Any, rounds: int = 20, **kwargs: Any) -> "Profile":
        """Time every layer of a call, see `profile.profile`; inputs and errors as for a call."""
        from tvm_balanced.profile import profile

        if rounds < 1:
            raise InputError(f"rounds was {rounds}; give 1 or more")
        tensors = self._tensors_of(self._bind(args, kwargs))
        with self._lock:
            use_threads(self.facts.threads)
            return profile(self, [*tensors, *self._weight_tensors], rounds)

    def save(self, path: str | Path, cc: str | None = None) -> None:
        """Write the module as an artifact, see `artifact.save`."""
        from tvm_balanced import artifact

        artifact.save(self, path, cc)

    def _tensors_of(self, values: Sequence[Any]) -> list[Any]:
        if self._function is None:
            raise TargetError(
                f"this module was compiled for {self.facts.target}, which this machine cannot run; save it and load it there"
            )
        sizes: dict[str, int] = {}
        return [_to_tvm(spec, value, sizes, self.device) for spec, value in zip(self.facts.inputs, values, strict=True)]

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        names = [spec.name for spec in self.facts.inputs]
        listed = ", ".join(str(spec) for spec in self.facts.inputs)
        if len(args) > len(names):
            raise InputError(f"{len(args)} inputs were given; the model takes {len(names)}: {listed}")
        given = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in given:
                raise InputError(
                    f'input "{name}" {"was given twice" if name in given else "is unknown"}; the model takes {listed}'
                )
            given[name] = value
        missing = [name for name in names if name not in given]
        if missing:
            raise InputError(f"input {missing[0]} is missing; the model takes {listed}")
        return [given[name] for name in names]


def check_threads(count: int) -> None:
    """Raise InputError unless `count` is a number of threads."""
    if count < 1:
        raise InputError(f"threads was set to {count}; give 1 or more")


_pool = threading.local()
# Of TVM's affinity modes. Worker i stays on the i-th core of a list, and the calling thread gets the whole list.
ONE_CORE_PER_THREAD, BY_SPEED = -2, 1


def use_threads(count: int) -> None:
    """Let the calling thread's parallel loops use `count` threads from now on; TVM keeps a pool for each calling thread.

    To be called before each call of compiled code: where the caller shares a core with one of its workers, it steps aside. The
    caller's affinity stays as it was. A pool's workers stay on the cores that were allowed when the count was last changed.
    """
    if count != getattr(_pool, "count", 0):
        _configure(count)
    if _pool.workers:
        _step_aside(_pool.workers)


def _configure(count: int) -> None:
    configure = tvm.get_global_func("runtime.config_threadpool")
    _pool.count, _pool.workers = count, set()
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        configure(BY_SPEED, count)
        return
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed)
    if count <= len(cores):
        # all cores, though the pool will use the first: its first call fixes how many workers it can ever have
        configure(ONE_CORE_PER_THREAD, count, [str(core) for core in cores])
        _pool.workers = set(cores[1:count])
    else:
        configure(BY_SPEED, count)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, allowed)  # TVM moves the caller as well


def _step_aside(workers: set[int]) -> None:
    """Move the calling thread to a core that is none of its workers'.

    Both wait by yielding, so that the kernel sees no reason to part them. A layer of 768x768, 2:16, M = 64 between calls of
    PyTorch: 131 us on two threads that share a core, 122 us on one, 86 us on two that do not.
    """
    if _libc().sched_getcpu() not in workers:
        return
    allowed = os.sched_getaffinity(0)
    free = allowed - workers
    if free:
        with contextlib.suppress(OSError):  # a sandbox may forbid it: then it is slow, as it was
            os.sched_setaffinity(0, free)
            os.sched_setaffinity(0, allowed)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def aligned(array: Array) -> Array:
    """Return `array` itself where it is contiguous, 64-byte aligned and writable, else a copy that is."""
    if array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % ALIGNMENT == 0:
        return array
    raw = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    copy: Array = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")  # a torch tensor can only be given where torch is loaded
    return torch is not None and isinstance(value, torch.Tensor)


def _to_tvm(spec: TensorSpec, value: Any, sizes: dict[str, int], device: Any) -> Any:
    if _is_torch(value):
        _check_device(spec, value.device, device)
        _check(spec, tuple(value.shape), str(value.dtype).removeprefix("torch."), sizes)
        value = value.detach().to_dense() if value.layout != sys.modules["torch"].strided else value.detach()
        value = value.resolve_conj().resolve_neg().contiguous()
        if value.data_ptr() % ALIGNMENT:
            value = value.clone()
        return tvm.runtime.from_dlpack(value)
    if isinstance(value, tvm.runtime.Tensor):
        _check(spec, tuple(int(d) for d in value.shape), str(value.dtype), sizes)
        return value
    if not isinstance(value, np.ndarray):
        raise InputError(f"input {spec.name} is {type(value).__name__}; give a torch tensor or a NumPy array")
    _check(spec, value.shape, str(value.dtype), sizes)
    given = as_tvm(aligned(value))
    return given if device == tvm.cpu() else given.copyto(device)


def _check_device(spec: TensorSpec, given: Any, device: Any) -> None:
    if device == tvm.cpu() and given.type != "cpu":
        raise InputError(f"input {spec.name} is on {given}; this module runs on the CPU: pass {spec.name}.cpu()")
    if device != tvm.cpu() and (given.type != "cuda" or (given.index or 0) != device.index):
        raise InputError(
            f"input {spec.name} is on {given}; this module runs on cuda:{device.index}: "
            f'pass {spec.name}.to("cuda:{device.index}")'
        )


def as_tvm(array: Array) -> Any:
    """Return an aligned array as a TVM tensor, which shares its memory where NumPy can export its dtype."""
    if array.dtype.kind not in "biuf":  # bfloat16
        return tvm.runtime.tensor(array)
    return tvm.runtime.from_dlpack(array)


def _check(spec: TensorSpec, shape: tuple[int, ...], dtype: str, sizes: dict[str, int]) -> None:
    if dtype != spec.dtype:
        raise InputError(f"input {spec.name} is {dtype}; the model was compiled for {spec}: convert it first")
    fits = len(shape) == len(spec.shape) and all(
        sizes.setdefault(want, got) == got if isinstance(want, str) else want == got
        for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(f"input {spec.name} has shape {shape}; the model was compiled for {spec}")


def _from_tvm(tensor: Any, as_torch: bool) -> Any:
    if as_torch:
        return sys.modules["torch"].from_dlpack(tensor)
    return view(tensor) if tensor.device == tvm.cpu() else tensor.numpy()
