"""Function: one entry point of a compiled module. It takes tensors and returns tensors."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tvm

from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.structure import Tree
from tvm_balanced.core.validation import check_count
from tvm_balanced.errors import ArtifactError, InputError, TargetError, last_line
from tvm_balanced.runtime.binding import bind
from tvm_balanced.runtime.cuda.captured_call import CapturedCall
from tvm_balanced.runtime.cuda.device import wait
from tvm_balanced.runtime.cuda.graph_capture import capturing, keeping
from tvm_balanced.runtime.cuda.stream_order import in_stream_order
from tvm_balanced.runtime.donation import apart, buffers_of, copies, store
from tvm_balanced.runtime.metadata import EntryPointSpec
from tvm_balanced.runtime.tensors import empty_results, from_tvm, is_torch, to_tvm
from tvm_balanced.runtime.threads import run_with_threads, use_threads

if TYPE_CHECKING:
    from tvm_balanced.runtime.compiled_module import CompiledModule
    from tvm_balanced.timing.profile import Profile


OF_ARGUMENTS = ("ErrorContext(", "when calling:")  # with which TVM says what an argument must be


@dataclass(frozen=True)
class WithWeights:
    """A function of a virtual machine, together with the weights that it takes after its inputs."""

    function: Callable[..., Any]
    weights: list[Any]

    def __call__(self, *inputs: Any) -> Any:
        """Call the function with its inputs and weights."""
        return self.function(*inputs, *self.weights)


@dataclass(frozen=True)
class Function:
    """One entry point of a compiled module, for instance `module["decode"]`. Calls work as in
    `CompiledModule.__call__`.

    Parameters
    ----------
    module : CompiledModule
    name : str
    """

    module: "CompiledModule"
    name: str

    def __repr__(self) -> str:
        return f"<Function {self.name}: {self.spec.signature}>"

    @property
    def spec(self) -> EntryPointSpec:
        """Its inputs, outputs and donated inputs."""
        return self.module.facts.entry_points[self.name]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of a call."""
        return self.spec.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs of a call."""
        return self.spec.outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the entry point, as `CompiledModule.__call__` does."""
        values, graphs = bind(self.spec, args, kwargs), self.module.graphs
        return self.structured(values) if graphs is None else graphs.run(self, values)

    def flat(self, *inputs: Any) -> tuple[Any, ...]:
        """Run the entry point on tensors or arrays, one for each of `inputs`, and return one for each of `outputs`."""
        result = self._call(list(inputs), None)
        return result if isinstance(result, tuple) else (result,)

    def structured(self, inputs: Sequence[Any]) -> Any:
        """Run the entry point on tensors, one for each of `inputs`, and return what a call returns."""
        return self._call(list(inputs), self.spec.result)

    def capture(self, *args: Any, **kwargs: Any) -> CapturedCall:
        """Capture a call in a CUDA graph, see `CompiledModule.capture`."""
        return CapturedCall(self, bind(self.spec, args, kwargs))

    def _call(self, values: list[Any], result: Tree | None) -> Any:
        spec, device = self.spec, self.module.device
        as_torch, captured = any(is_torch(value) for value in values), capturing(device)
        if captured and not all(is_torch(value) for value in values):
            raise InputError("arrays cannot be copied while a CUDA graph is captured; give torch tensors on the GPU")
        tensors, buffers = self._tensors_of(values), buffers_of(spec, values)
        results = empty_results(spec.inputs, spec.outputs, values)
        if results is None:
            if buffers and device == tvm.cpu():
                tensors = apart(spec, tensors)
            results = self._run(tensors, buffers, captured)
            if not as_torch:
                wait(device)  # arrays are read at once
        return from_tvm(results, as_torch, result, buffers)

    def _run(self, tensors: Sequence[Any], buffers: dict[int, Any], captured: bool) -> list[Any]:
        """Call compiled code, write to donated buffers, and return the outputs."""
        module = self.module
        kept = keeping(module.machine, module.captured) if captured else contextlib.nullcontext()
        with module.lock, in_stream_order(module.device), kept:
            try:
                result = run_with_threads(module.threads, module.compiled[self.name], *tensors)
            except (RuntimeError, TypeError, ValueError) as error:
                if module.origin is None or not any(said in str(error) for said in OF_ARGUMENTS):
                    raise
                raise ArtifactError(
                    f"the code of {module.origin.directory} does not take what its manifest lists ({last_line(error)}); "
                    "the manifest was altered: copy the artifact again, or compile the model again"
                ) from error
            outputs = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
            results = store(outputs, buffers, tensors, self.spec.donated_places)
            if captured and buffers:
                module.captured.append(results)  # some may be copies, which the graph writes to as well
            return results

    def profile(self, *args: Any, rounds: int = 20, **kwargs: Any) -> "Profile":
        """Time every layer of a call, see `timing.profile.profile`. Inputs and errors are as for a
        call; no buffer changes.
        """
        from tvm_balanced.timing.profile import profile

        check_count("rounds", rounds)
        module = self.module
        if capturing(module.device):
            raise InputError("a call cannot be profiled while a CUDA graph is captured; profile it before or after")
        tensors = copies(self.spec, self._tensors_of(bind(self.spec, args, kwargs)))
        with module.lock, in_stream_order(module.device):
            use_threads(module.threads)
            return profile(self, [*tensors, *module.compiled[self.name].weights], rounds)

    def _tensors_of(self, values: Sequence[Any]) -> list[Any]:
        if not self.module.compiled:
            raise TargetError(
                f"this module was compiled for {self.module.facts.target}, which this machine cannot run; "
                "save it and load it there"
            )
        return to_tvm(self.inputs, values, self.spec.ranges, self.module.device)
