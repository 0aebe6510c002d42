"""Files that are mapped to memory, and pages of theirs that are given back once they were read.

A checkpoint may be larger than memory. Its tensors are views of a mapping: a page is read from the file when somebody looks at
it, and `release` drops it again, so that what stays in memory is what is looked at now. Nothing is lost: a page that somebody
wrote to is a copy of this process's own, and is kept.
"""

import ctypes
import mmap
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np

from tvm_balanced.core.encoding import Array

PAGE = mmap.PAGESIZE
DONT_NEED = 4  # for madvise
ENTRY = 8  # bytes of a page in the table of pages
PRESENT, SWAPPED, OF_A_FILE = 1 << 63, 1 << 62, 1 << 61
PAGES = "/proc/self/pagemap"

# (start, end) of those that are mapped now; replaced as a whole, for other threads
_files: tuple[tuple[int, int], ...] = ()


class MappedFile(mmap.mmap):
    """A file in memory, copied page by page where it is written to; known to `release` as long as it is mapped.

    Parameters
    ----------
    path : Path
        Of a file that is not empty.
    """

    bounds: tuple[int, int] | None = None

    def __new__(cls, path: Path) -> "MappedFile":
        global _files
        with path.open("rb") as file:
            mapped = super().__new__(cls, file.fileno(), 0, access=mmap.ACCESS_COPY)
        start = np.frombuffer(mapped, np.uint8).ctypes.data
        mapped.bounds = start, start + len(mapped)
        _files = (*_files, mapped.bounds)
        return mapped

    def __del__(self) -> None:
        global _files
        _files = tuple(bounds for bounds in _files if bounds != self.bounds)


def is_mapped(address: int) -> bool:
    """Whether an address lies in a file that is mapped."""
    return _end(address) is not None


def _end(address: int) -> int | None:
    """Return where the mapped file ends that an address lies in."""
    return next((end for start, end in _files if start <= address < end), None)


def mapped_bytes(addresses: Collection[int]) -> int:
    """Return the size of the mapped files that some of these addresses lie in."""
    return sum(end - start for start, end in _files if any(start <= address < end for address in addresses))


def release(array: Array) -> None:
    """Give back the pages of an array that lies in a mapped file; nothing happens to any other, nor where one was written to."""
    if _files and array.size:
        low, high = np.lib.array_utils.byte_bounds(array)
        release_range(low, high - low)


def release_range(address: int, nbytes: int) -> None:
    """Give back the pages of so many bytes from an address on, as `release`."""
    end = _end(address)
    if end is None or sys.platform != "linux":
        return
    first, last = -(-address // PAGE), min(address + nbytes, end) // PAGE
    if first < last and _is_clean(first, last):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        madvise(first * PAGE, (last - first) * PAGE, DONT_NEED)


def _is_clean(first: int, last: int) -> bool:
    """Whether all of some pages are as the file has them; False where the system does not say."""
    try:
        with open(PAGES, "rb", buffering=0) as table:  # noqa: PTH123 (unbuffered)
            table.seek(first * ENTRY)
            entries = np.frombuffer(table.read((last - first) * ENTRY), np.uint64)
    except OSError:
        return False
    own = (entries & np.uint64(PRESENT) != 0) & (entries & np.uint64(OF_A_FILE) == 0)
    return len(entries) == last - first and not (own | (entries & np.uint64(SWAPPED) != 0)).any()
