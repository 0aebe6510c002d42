"""A call as one CUDA graph: launched at once, where a call from Python waits for the launch of each kernel."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tvm_balanced.errors import InputError, TargetError
from tvm_balanced.runtime.binding import bind
from tvm_balanced.runtime.cuda.device import torch_stream
from tvm_balanced.runtime.tensors import is_torch

if TYPE_CHECKING:
    from tvm_balanced.runtime.function import Function


class CapturedCall:
    """An entry point captured in a CUDA graph, for inputs of one shape.

    It has inputs of its own, to which each call copies what it is given. All calls write to the same
    results: read one, or copy it, before the next call. One thread calls it at a time, on torch's
    current stream.

    Parameters
    ----------
    function : Function
        Of a module on a GPU, without donated inputs. The module is kept alive.
    values : sequence of torch tensors
        One for each of its inputs, on its GPU. The shapes are fixed by them.

    Raises
    ------
    TargetError
        If the module is not for a GPU, or torch does not use it.
    InputError
        If an input is donated, or is no torch tensor.
    """

    def __init__(self, function: "Function", values: Sequence[Any]) -> None:
        device = function.module.device
        if torch_stream(device) is None:
            raise TargetError("only a module on a GPU that torch uses is captured in a CUDA graph; call the module itself")
        if function.spec.donate:
            raise InputError(
                f"{function.name} has donated inputs, which a graph cannot write back; "
                "capture its calls on buffers of your own with torch.cuda.graph"
            )
        if not all(is_torch(value) for value in values):
            raise InputError("arrays cannot be copied while a CUDA graph is captured; give torch tensors on the GPU")
        torch = sys.modules["torch"]
        self.function, self.inputs = function, [value.detach().clone() for value in values]
        before, aside = torch_stream(device), torch.cuda.Stream(device.index)
        aside.wait_stream(before)
        with torch.cuda.stream(aside):  # what a first call loads and allocates is not to be part of the graph
            function.flat(*self.inputs)
        before.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = function.structured(self.inputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay the call with these inputs, which are given as to the module; return its result.

        Raises InputError if an input has another shape or dtype than the one that was captured.
        """
        given = bind(self.function.spec, args, kwargs)
        for spec, own, value in zip(self.function.inputs, self.inputs, given, strict=True):
            if not is_torch(value) or value.shape != own.shape or value.dtype != own.dtype:
                said = f"{tuple(getattr(value, 'shape', ()))} of {getattr(value, 'dtype', type(value).__name__)}"
                raise InputError(
                    f"input {spec.name} is {said}, and {tuple(own.shape)} of {own.dtype} was captured; capture a call for it, too"
                )
        for own, value in zip(self.inputs, given, strict=True):
            own.copy_(value)
        self.graph.replay()
        return self.result
