"""Calls captured in a CUDA graph: the memory that they write to belongs to the graph, and no later
call may reuse it.
"""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

from tvm_balanced.runtime.cuda.device import torch_stream

ALLOCATES = "vm.builtin.alloc_storage"  # the virtual machine allocates device memory only with this
RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


def capturing(device: Any) -> bool:
    """Whether torch is capturing calls on `device` in a CUDA graph, in this thread."""
    return torch_stream(device) is not None and bool(sys.modules["torch"].cuda.is_current_stream_capturing())


@contextlib.contextmanager
def keeping(machine: Any, kept: list[Any]) -> Iterator[None]:
    """Append all memory that calls of a virtual machine allocate to `kept`, so that it does not return to TVM's pool.

    Parameters
    ----------
    machine : tvm.relax.VirtualMachine
    kept : list
        Storages; the pool gets them back when the list is dropped.
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
    """Let this thread allocate during a capture, which CUDA forbids by default; torch does the same
    for its own memory.
    """
    driver, mode = _driver(), ctypes.c_int(RELAXED)
    driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))  # stores the previous mode in `mode`
    try:
        yield
    finally:
        driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")
