"""CompiledModule: returned by compile and load. It takes tensors and returns tensors."""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tvm
from tvm import relax

from tvm_balanced.core.report import Report
from tvm_balanced.core.validation import check_count
from tvm_balanced.errors import InputError, TargetError
from tvm_balanced.runtime.cuda.device import current_gpu, place, wait
from tvm_balanced.runtime.cuda.graph_capture import capturing, keeping
from tvm_balanced.runtime.cuda.stream_order import in_stream_order
from tvm_balanced.runtime.huge_pages import in_huge_pages
from tvm_balanced.runtime.tensors import bind, empty_results, from_tvm, is_torch, to_tvm

if TYPE_CHECKING:
    from tvm_balanced.timing.profile import Profile
from tvm_balanced.runtime.metadata import ModuleMetadata
from tvm_balanced.runtime.threads import use_threads


class CompiledModule:
    """A compiled model. Call it with the model's inputs, in order or by name.

    On a GPU it stays on the device that was torch's current one when it was compiled or loaded, or
    on the first device if torch had used none.

    Parameters
    ----------
    executable : tvm.relax.VMExecutable or tvm.runtime.Module
    weights : sequence of (name, tvm.runtime.Tensor)
        Parameters of the library's function, in order; on the CPU, 64-byte aligned.
    facts : ModuleMetadata
    runnable : bool
        Whether this machine can run the code. A module for another machine can be saved, but not
        called.
    origin : Path, optional
        The artifact that it was loaded from.
    """

    def __init__(
        self,
        executable: Any,
        weights: Sequence[tuple[str, Any]],
        facts: ModuleMetadata,
        runnable: bool = True,
        origin: Path | None = None,
    ) -> None:
        self.executable, self.facts, self.origin = executable, facts, origin
        self.device = current_gpu() if facts.on_gpu else tvm.cpu()
        self.weights = place(weights, self.device) if runnable else list(weights)
        if runnable and not facts.on_gpu:
            self.weights = in_huge_pages(self.weights)
        self._machine = relax.VirtualMachine(executable, self.device) if runnable else None
        self._function = self._machine["main"] if self._machine else None
        self._weight_tensors = [tensor for _, tensor in self.weights]
        self._captured: list[Any] = []  # memory of calls in CUDA graphs; they may be replayed as long as the module lives
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.facts.inputs, self.facts.outputs))
        total, sparse = self.report.total, self.report.sparse_layers
        layers = f"{sparse} sparse, {total - sparse} dense layers"
        return f"<CompiledModule: {inputs} -> {outputs}; {layers}; {self.facts.target_key}, threads={self.threads}>"

    @property
    def report(self) -> Report:
        """The decision for every dense layer, with its reason."""
        return self.facts.report

    @property
    def threads(self) -> int:
        """Number of threads that a call uses; may be set."""
        return self.facts.threads

    @threads.setter
    def threads(self, count: int) -> None:
        check_count("threads", count)
        self.facts = replace(self.facts, threads=count)

    def with_error(self, max_error: float) -> "CompiledModule":
        """Record the largest absolute difference to the original model, and return self."""
        self.facts = replace(self.facts, max_error=max_error)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Torch tensors in give torch tensors out, NumPy arrays give arrays. On the CPU, contiguous
        and 64-byte aligned memory is shared; other tensors are copied once. On a GPU, torch tensors
        must already be on the device, and the call runs on torch's current stream after all earlier
        calls. NumPy arrays are copied there and back; they are complete when the call returns.
        Several threads may call; their calls run one after another.

        A call may be captured in a CUDA graph, for instance with torch.cuda.graph. The memory that
        it writes to then belongs to the graph as long as this module lives. While the graph is
        replayed, the module must live and its inputs must stay where they are.

        Non-finite activations: a result is finite only if a dense layer with the pruned weights
        removed would be finite. Pruned weights are skipped, so a NaN from a dense 0 * inf may be
        missing. Unused slots hold a weight of 0, so an infinity beside kept weights may give NaN
        instead of the infinity of dense arithmetic.

        Parameters
        ----------
        *args, **kwargs
            The inputs of `facts.inputs`, with the shapes and dtypes listed there, on the module's
            device.

        Returns
        -------
        The model's result: a tensor, or a tuple, list, dict, or class that torch.export knows, with the
        same nesting. NumPy arrays in give one array, or a flat tuple in the order of `facts.outputs`,
        whose names tell where each was.

        Raises
        ------
        InputError
            If an input is missing, unknown, or has the wrong type, shape, dtype or device, or a
            size out of range.
        TargetError
            If the module was compiled for another machine.
        """
        values = bind(self.facts.inputs, args, kwargs)
        as_torch, captured = any(is_torch(value) for value in values), capturing(self.device)
        if captured and not all(is_torch(value) for value in values):
            raise InputError("arrays cannot be copied while a CUDA graph is captured; give torch tensors on the GPU")
        tensors = self._tensors_of(values)
        empty = empty_results(self.facts.inputs, self.facts.outputs, values)
        if empty is not None:
            return from_tvm(empty, as_torch, self.facts.structure)
        with (
            self._lock,
            in_stream_order(self.device),
            keeping(self._machine, self._captured) if captured else contextlib.nullcontext(),
        ):
            use_threads(self.facts.threads)
            assert self._function is not None
            result = self._function(*tensors, *self._weight_tensors)
        outputs = [result] if isinstance(result, tvm.runtime.Tensor) else result
        if not as_torch:
            wait(self.device)  # arrays are read at once
        return from_tvm(outputs, as_torch, self.facts.structure)

    def profile(self, *args: Any, rounds: int = 20, **kwargs: Any) -> "Profile":
        """Time every layer of a call, see `profile.profile`; inputs and errors as for a call."""
        from tvm_balanced.timing.profile import profile

        check_count("rounds", rounds)
        if capturing(self.device):
            raise InputError("a call cannot be profiled while a CUDA graph is captured; profile it before or after")
        tensors = self._tensors_of(bind(self.facts.inputs, args, kwargs))
        with self._lock, in_stream_order(self.device):
            use_threads(self.facts.threads)
            return profile(self, [*tensors, *self._weight_tensors], rounds)

    def save(self, path: str | Path, cc: str | None = None) -> None:
        """Write the module as an artifact, see `artifact.save`."""
        from tvm_balanced.runtime import artifact

        artifact.save(self, path, cc)

    def _tensors_of(self, values: Sequence[Any]) -> list[Any]:
        if self._function is None:
            raise TargetError(
                f"this module was compiled for {self.facts.target}, which this machine cannot run; save it and load it there"
            )
        return to_tvm(self.facts.inputs, values, self.facts.ranges, self.device)
