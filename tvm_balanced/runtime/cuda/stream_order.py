"""Serialize calls on one GPU: they share TVM's pool of buffers, which ignores streams.

A call returns when its kernels are launched, and its buffers are then back in the pool. The next
call on the same stream may reuse them, because it runs later. A call on another stream has to wait
for the first.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tvm_balanced.runtime.cuda.device import current_stream, is_cuda, torch_stream
from tvm_balanced.runtime.cuda.graph_capture import capturing

_launching = threading.RLock()  # one per process, like the pool: it also serializes modules that several threads call
_last: dict[int, Any] = {}  # from a GPU's index to the stream of its last call


@contextlib.contextmanager
def in_stream_order(device: Any) -> Iterator[None]:
    """Run a call on torch's current stream of `device`, after all calls launched before it on any stream.

    A call that is captured in a CUDA graph does not wait: it must not, and torch.cuda.graph has
    already waited for all others.
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
    """Let the current stream wait for the stream of the last call, which may be reading that call's result."""
    stream = torch_stream(device)
    if stream is None:  # only TVM's stream has been used
        return
    # calls also ran on the default stream before torch used the GPU
    last = _last.get(device.index) or sys.modules["torch"].cuda.default_stream(device.index)
    if last != stream:
        stream.wait_stream(last)
    _last[device.index] = stream
