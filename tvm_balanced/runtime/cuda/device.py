"""Run compiled modules on a GPU: the device of tensors, and the stream of calls."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import tvm
import tvm_ffi

CUDA = tvm.cuda().dlpack_device_type()


def is_cuda(device: Any) -> bool:
    """Whether a TVM device is an NVIDIA GPU."""
    return bool(device.dlpack_device_type() == CUDA)


def current_gpu() -> Any:
    """Return torch's current GPU as a TVM device, or the first GPU if torch is not loaded or has used none."""
    torch = sys.modules.get("torch")
    return tvm.cuda(torch.cuda.current_device() if torch is not None and torch.cuda.is_initialized() else 0)


def gpu_arch() -> str:
    """Return the architecture of `current_gpu` by nvcc's name: "sm_90"."""
    return f"sm_{current_gpu().compute_version.replace('.', '')}"


def place(tensors: Sequence[tuple[str, Any]], device: Any) -> list[tuple[str, Any]]:
    """Return named tensors copied to `device`; the copies are complete. Tensors that are there
    already are returned as they are.
    """
    placed = [(name, t if t.device == device else t.copyto(device)) for name, t in tensors]
    device.sync()  # TVM copies on its own stream, and torch's do not wait for it
    return placed


def torch_stream(device: Any) -> Any:
    """Return torch's current stream of `device`; None if that is no GPU, or torch is not loaded or uses no CUDA."""
    torch = sys.modules.get("torch")
    if not is_cuda(device) or torch is None or not torch.cuda.is_initialized():
        return None
    return torch.cuda.current_stream(device.index)


@contextlib.contextmanager
def current_stream(device: Any) -> Iterator[None]:
    """Run calls on torch's current stream of `device` if torch is loaded and uses CUDA, else on TVM's own.

    TVM makes `device` the current one of the thread and does not reset it; this restores torch's.
    """
    stream = torch_stream(device)
    if stream is None:
        yield
        return
    on_device = sys.modules["torch"].cuda.device(device.index)
    with on_device, tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", device.index), stream.cuda_stream):
        yield


def wait(device: Any) -> None:
    """Wait until the calls of this thread have ended. `device.sync` alone waits only for TVM's own stream."""
    stream = torch_stream(device)
    if stream is not None:
        stream.synchronize()
    device.sync()
