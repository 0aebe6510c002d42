"""A call as one CUDA graph: launched at once, where a call from Python waits for the launch of each kernel."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tvm_balanced.errors import InputError, TargetError
from tvm_balanced.runtime.binding import bind
from tvm_balanced.runtime.cuda.device import torch_stream
from tvm_balanced.runtime.cuda.stream_order import in_stream_order
from tvm_balanced.runtime.tensors import from_tvm, is_torch

if TYPE_CHECKING:
    from tvm_balanced.runtime.function import Function


class CapturedCall:
    """An entry point captured in a CUDA graph, for inputs of one shape.

    It has inputs of its own, to which each call copies what it is given. All calls write to the same
    results: read one, or copy it, before the next call. Of a donated input there is no copy: the
    graph reads and writes the buffer that was captured, and its content is as before the capture
    until the first call. One thread calls it at a time, on torch's current stream.

    Parameters
    ----------
    function : Function
        Of a module on a GPU, which is kept alive.
    values : sequence of torch tensors
        One for each of its inputs, on its GPU. The shapes are fixed by them.

    Raises
    ------
    TargetError
        If the module is not for a GPU, or torch does not use it.
    InputError
        If an input is no torch tensor.
    """

    def __init__(self, function: "Function", values: Sequence[Any]) -> None:
        device, spec = function.module.device, function.spec
        if torch_stream(device) is None:
            raise TargetError("only a module on a GPU that torch uses is captured in a CUDA graph; call the module itself")
        if not all(is_torch(value) for value in values):
            raise InputError("arrays cannot be copied while a CUDA graph is captured; give torch tensors on the GPU")
        torch = sys.modules["torch"]
        self.function = function
        given = enumerate(values)
        self.inputs = [value if place in spec.donated_places else value.detach().clone() for place, value in given]
        before, aside = torch_stream(device), torch.cuda.Stream(device.index)
        aside.wait_stream(before)
        with (
            torch.cuda.stream(aside),
            torch.inference_mode(),
        ):  # what a first call loads and allocates is not to be part of the graph
            states = {place: self.inputs[place].clone() for place in spec.donated_places}
            function.flat(*self.inputs)
            for place, state in states.items():
                self.inputs[place].copy_(state)
        before.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = function.flat(*self.inputs)
        self.result = self._nested(self.outputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay the call with these inputs, which are given as to the module; return its result.

        Raises InputError if an input has another shape or dtype than the one that was captured, or a
        donated one is another buffer.
        """
        self.replay(bind(self.function.spec, args, kwargs))
        return self.result

    def replay(self, given: Sequence[Any]) -> None:
        """Replay the call with these inputs, one for each of the entry point's; raises as a call does."""
        donated = self.function.spec.donated_places
        for place, (spec, own, value) in enumerate(zip(self.function.inputs, self.inputs, given, strict=True)):
            if not is_torch(value) or value.shape != own.shape or value.dtype != own.dtype:
                said = f"{tuple(getattr(value, 'shape', ()))} of {getattr(value, 'dtype', type(value).__name__)}"
                raise InputError(
                    f"input {spec.name} is {said}, and {tuple(own.shape)} of {own.dtype} was captured; capture a call for it, too"
                )
            if place in donated and (value.data_ptr(), value.stride()) != (own.data_ptr(), own.stride()):
                raise InputError(
                    f"input {spec.name} is donated, and is another buffer than the one that the graph writes to; give that one, "
                    "or capture a call for this one, too"
                )
        with in_stream_order(self.function.module.device), sys.modules["torch"].inference_mode():
            for place, (own, value) in enumerate(zip(self.inputs, given, strict=True)):
                if place not in donated:
                    own.copy_(value)
            self.graph.replay()

    def copies(self) -> Any:
        """Return the result of the last call in memory of its own; of a donated input it is that buffer."""
        kept = set(self.function.spec.donated_places.values())
        with in_stream_order(self.function.module.device), sys.modules["torch"].no_grad():
            return self._nested([y if place in kept else y.clone() for place, y in enumerate(self.outputs)])

    def _nested(self, outputs: Sequence[Any]) -> Any:
        return from_tvm(outputs, True, self.function.spec.result, dict(enumerate(outputs)))
