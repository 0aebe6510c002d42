"""Weights in pages of 2 MiB: those of 4 KiB cost a walk of the page tables every 64 cache lines, when weights come from memory.

One thread of Zen 4 under a hypervisor, cpu_avx512, cold, over small pages: 4096x4096 and 16384x8192 at M = 1 1.09 and 1.12x at
1:16, 1.06 and 1.02x at 2:16, 1.06 and 1.05x at 4:16; at M = 8 to 256 0.97 to 1.02x, which is noise.
"""

import ctypes
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tvm_balanced.core.caches import LARGE_BYTES
from tvm_balanced.runtime.tensors import address_of

PAGE = 2 << 20  # bytes, of x86
ALLOWED, NOW = 14, 25  # of madvise: MADV_HUGEPAGE, and MADV_COLLAPSE of Linux 6.1 and newer


def collapse(tensors: Iterable[Any]) -> int:
    """Move what whole huge pages of the tensors there are into such pages, in place, and return their number.

    Where the system has none, or none is left, nothing changes. A gigabyte takes 0.3 s.

    Parameters
    ----------
    tensors : iterable of tvm.runtime.Tensor
        On the CPU.
    """
    return sum(_collapse(address_of(t), t.numel() * t.dtype.itemsize) for t in tensors) if sys.platform == "linux" else 0


def in_huge_pages(tensors: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return named tensors with the large ones in huge pages: in place, or copies of those that cannot be, as pages of a file.

    A copy is a process's own, where processes share the pages of an artifact that they load: what a layer that does not stay in
    the caches gains is worth its memory, and smaller ones stay as they are.
    """
    result, refused = [], False
    for name, tensor in tensors:
        if not refused and tensor.numel() * tensor.dtype.itemsize >= LARGE_BYTES and not collapse([tensor]):
            copy = tensor.copyto(tensor.device)
            refused = not collapse([copy])
            tensor = tensor if refused else copy
        result.append((name, tensor))
    return result


def _collapse(address: int, nbytes: int) -> int:
    first, end = -(-address // PAGE) * PAGE, (address + nbytes) // PAGE * PAGE
    if first >= end:
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    allowed = madvise(first, end - first, ALLOWED) == 0
    return (end - first) // PAGE if allowed and madvise(first, end - first, NOW) == 0 else 0
