"""All calls of a module as CUDA graphs: what `cuda_graph` of a module does."""

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tvm_balanced.runtime.cuda.captured_call import CapturedCall
from tvm_balanced.runtime.cuda.device import torch_stream
from tvm_balanced.runtime.cuda.graph_capture import capturing
from tvm_balanced.runtime.tensors import is_torch

if TYPE_CHECKING:
    from tvm_balanced.runtime.function import Function

# Memory of a graph stays taken as long as its module lives, so shapes that change from call to call must not go on for ever.
MOST = 16
log = logging.getLogger(__name__)
Key = tuple[Any, ...]


class GraphCalls:
    """The graphs of one module: one for each entry point, and shapes and dtypes of its inputs, and buffer that is donated.

    What no graph is made of is called as without them, and a sentence in the log says why, once.
    """

    def __init__(self) -> None:
        self.captured: dict[Key, CapturedCall] = {}
        self.said: set[str] = set()
        self.lock = threading.Lock()

    def run(self, function: "Function", values: Sequence[Any]) -> Any:
        """Return what a call of an entry point returns, in memory of its own; inputs and errors as for a call.

        Parameters
        ----------
        function : Function
        values : sequence of torch tensors, arrays or tvm.runtime.Tensor
            One for each of its inputs.
        """
        with self.lock:
            call = self._call(function, values)
            if call is not None:
                call.replay(values)
                return call.copies()
        return function.structured(values)

    def _call(self, function: "Function", values: Sequence[Any]) -> CapturedCall | None:
        if capturing(function.module.device):  # by torch.cuda.graph, of whose graph the call becomes a part
            return None
        key, why = self._key_or_reason(function, values)
        if key is None:
            if why not in self.said:
                self.said.add(why)
                log.warning("called without a CUDA graph: %s", why)
            return None
        if key not in self.captured:
            self.captured[key] = CapturedCall(function, values)
        return self.captured[key]

    def _key_or_reason(self, function: "Function", values: Sequence[Any]) -> tuple[Key | None, str]:
        if torch_stream(function.module.device) is None or not all(is_torch(value) for value in values):
            return None, "arrays and tensors of TVM cannot be copied in a CUDA graph; give torch tensors on the GPU"
        if any(0 in value.shape for value in values):
            return None, "a call without elements has nothing to launch"
        key = _key(function, values)
        if key not in self.captured and len(self.captured) == MOST:
            return None, (
                f"{MOST} CUDA graphs have been captured for inputs of other shapes, and their memory stays taken; "
                "use few shapes, and the same donated buffers"
            )
        return key, ""


def _key(function: "Function", values: Sequence[Any]) -> Key:
    donated = function.spec.donated_places
    shapes = [(tuple(value.shape), value.dtype, value.device) for value in values]
    return function.name, *shapes, *((values[place].data_ptr(), values[place].stride()) for place in donated)
