"""Calls that are captured in a CUDA graph: what they write to belongs to the graph, and no later call may get it."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

from tvm_balanced.runtime.cuda.device import torch_stream

ALLOCATES = "vm.builtin.alloc_storage"  # the virtual machine's only source of memory on the device
RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


def capturing(device: Any) -> bool:
    """Whether calls on `device` are being captured in a CUDA graph by torch, in this thread."""
    return torch_stream(device) is not None and bool(sys.modules["torch"].cuda.is_current_stream_capturing())


@contextlib.contextmanager
def keeping(machine: Any, kept: list[Any]) -> Iterator[None]:
    """Append all memory that calls of a virtual machine take to `kept`, so that it does not return to TVM's pool.

    Parameters
    ----------
    machine : tvm.relax.VirtualMachine
    kept : list
        Storages; who holds it decides when the pool has them back.
    """

    def keep(_function: Any, symbol: str, before: bool, result: Any, *_values: Any) -> int:
        if symbol == ALLOCATES and not before:
            kept.append(result)
        return 0

    machine.set_instrument(keep)
    try:
        with _allocating():
            yield
    finally:
        machine.set_instrument(None)


@contextlib.contextmanager
def _allocating() -> Iterator[None]:
    """Let this thread allocate while it captures, which CUDA refuses by default; torch does the same for its own memory."""
    driver, mode = _driver(), ctypes.c_int(RELAXED)
    driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))  # leaves the mode there was in `mode`
    try:
        yield
    finally:
        driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")
