"""Calls on one GPU take turns, for they share TVM's pool of buffers, which knows no streams.

A call returns when its kernels are launched, and its buffers are then in the pool at once. The next call on the same stream may
have them, for it runs later; one on another stream has to wait for the first.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tvm_balanced.runtime.cuda.device import current_stream, is_cuda, torch_stream
from tvm_balanced.runtime.cuda.graph_capture import capturing

_launching = threading.RLock()  # of the process, as the pool is: modules that several threads call take turns as well
_last: dict[int, Any] = {}  # index of a GPU to the stream of the last call


@contextlib.contextmanager
def in_stream_order(device: Any) -> Iterator[None]:
    """Let a call run on torch's current stream of `device` after those that were launched before, on whatever stream.

    A call that is captured in a CUDA graph waits for none: it may not, and torch.cuda.graph has waited for all of them.
    """
    if not is_cuda(device):
        yield
        return
    with _launching:
        if not capturing(device):
            _wait_for_last(device)
        with current_stream(device):
            yield


def _wait_for_last(device: Any) -> None:
    """Let the current stream wait for all that is on the last call's, which may be reading that call's result."""
    stream = torch_stream(device)
    if stream is None:  # no stream but TVM's has been used
        return
    # the default stream is also what calls ran on before torch used the GPU
    last = _last.get(device.index) or sys.modules["torch"].cuda.default_stream(device.index)
    if last != stream:
        stream.wait_stream(last)
    _last[device.index] = stream
