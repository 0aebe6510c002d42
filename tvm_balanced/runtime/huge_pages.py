"""Put weights in huge pages of 2 MiB. With pages of 4 KiB, loading weights from memory walks the
page tables every 64 cache lines.

Huge pages are up to 1.12x as fast at M = 1; for more rows the difference is noise: see
docs/measurements/runtime.md.
"""

import ctypes
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tvm_balanced.core.caches import LARGE_BYTES
from tvm_balanced.runtime.tensors import address_of

PAGE = 2 << 20  # bytes, on x86
ALLOWED, NOW = 14, 25  # for madvise: MADV_HUGEPAGE, and MADV_COLLAPSE of Linux 6.1 and newer


def collapse(tensors: Iterable[Any]) -> int:
    """Back every fully covered 2 MiB range of these tensors with a huge page, in place. Return the number of pages.

    If the system has no huge pages, or none left, nothing changes. A gigabyte takes 0.3 s.

    Parameters
    ----------
    tensors : iterable of tvm.runtime.Tensor
        Tensors on the CPU.
    """
    return sum(_collapse(address_of(t), t.numel() * t.dtype.itemsize) for t in tensors) if sys.platform == "linux" else 0


def in_huge_pages(tensors: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return named tensors with the large ones in huge pages: in place, or copied if that is
    impossible, as for pages of a file.

    A copy belongs to one process, while processes share the pages of an artifact that they load.
    The memory is worth it for a layer that does not stay in the caches; smaller layers stay as they
    are.
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
