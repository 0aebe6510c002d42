"""Running compiled modules on a GPU: where tensors lie, and on which stream calls run."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import tvm
import tvm_ffi


def place(tensors: Sequence[tuple[str, Any]], device: Any) -> list[tuple[str, Any]]:
    """Return named tensors copied to `device`; those that are there already, as they are."""
    return [(name, t if t.device == device else t.copyto(device)) for name, t in tensors]


@contextlib.contextmanager
def current_stream(device: Any) -> Iterator[None]:
    """Let calls run on torch's current stream of `device` where torch is loaded and uses CUDA, else on TVM's own."""
    torch = sys.modules.get("torch")
    if torch is None or device.dlpack_device_type() != tvm.cuda().dlpack_device_type() or not torch.cuda.is_initialized():
        yield
        return
    stream = torch.cuda.current_stream(device.index).cuda_stream
    with tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", device.index), stream):
        yield
