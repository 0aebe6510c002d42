"""Pages of a mapped file: in memory while they are looked at, and whatever was written stays."""

import gc
from pathlib import Path

import numpy as np
import pytest

from tvm_balanced.core.mapped_files import PAGE, MappedFile, is_mapped, mapped_bytes, release, release_range

PAGES = 64


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(np.arange(PAGES * PAGE // 4, dtype=np.int32).tobytes())
    return np.frombuffer(MappedFile(path), np.int32)


def in_memory(array):
    """How many pages of an array are in memory."""
    with Path("/proc/self/pagemap").open("rb", buffering=0) as table:
        table.seek(array.ctypes.data // PAGE * 8)
        entries = np.frombuffer(table.read(array.nbytes // PAGE * 8), np.uint64)
    return int((entries >> np.uint64(63)).sum())


def test_pages_are_given_back_and_read_again(mapped):
    total = mapped.sum(dtype=np.int64)
    assert in_memory(mapped) == PAGES
    half = mapped.reshape(2, -1)
    release(half[0])
    assert in_memory(half[0]) == 0
    assert in_memory(half[1]) == PAGES // 2
    release(mapped.reshape(PAGES, -1).T)  # its bytes are the same
    assert in_memory(mapped) == 0
    assert mapped.sum(dtype=np.int64) == total


def test_only_whole_pages_within_the_array_go(mapped):
    mapped.sum()
    release(mapped[1 : 2 * PAGE // 4 + 1])
    assert in_memory(mapped) == PAGES - 1


def test_what_was_written_stays(mapped):
    mapped[5] = -7
    mapped.sum()
    release(mapped)
    assert in_memory(mapped) == PAGES
    assert mapped[5] == -7


def test_other_memory_is_left_alone(mapped):
    own = np.ones(PAGES * PAGE, np.uint8)
    release(own)
    release(own[:0])
    assert own.all()
    assert not is_mapped(own.ctypes.data)
    mapped.sum()
    release_range(mapped.ctypes.data, 1 << 40)  # not past the end of the file
    assert in_memory(mapped) == 0


def test_a_file_is_known_as_long_as_it_is_mapped(tmp_path):
    path = tmp_path / "other"
    path.write_bytes(bytes(3 * PAGE))
    array = np.frombuffer(MappedFile(path), np.uint8)
    address = array.ctypes.data
    assert mapped_bytes([address + PAGE, address, id(path)]) == 3 * PAGE  # once
    assert mapped_bytes([]) == mapped_bytes([address + 3 * PAGE]) == 0
    assert [is_mapped(address + place) for place in (0, 3 * PAGE - 1, 3 * PAGE)] == [True, True, False]
    del array
    gc.collect()
    assert mapped_bytes([address]) == 0
    assert not is_mapped(address)
