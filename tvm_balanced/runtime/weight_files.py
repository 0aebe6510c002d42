"""Files of an artifact, read and checked in one go: what was checked is what is used."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.files import open_regular
from tvm_balanced.errors import ArtifactError
from tvm_balanced.runtime.tensors import ALIGNMENT, aligned, empty_aligned

LONGEST_HEADER = 4096  # bytes of a .npy file before its data; np.save writes 128 for up to 32 dimensions


def checked_bytes(path: Path, checksum: str | None) -> bytes:
    """Return what a file of an artifact holds.

    Raises
    ------
    ArtifactError
        Where it has another SHA-256 than `checksum`, if there is one.
    OSError
        Where it is missing or not a regular file.
    """
    with open_regular(path) as opened:
        content = opened.read()
    _check(path, content, checksum)
    return content


def read_weight(path: Path, row: Mapping[str, Any], checksum: str | None) -> Any:
    """Return a copy of a weight in this process's memory, 64-byte aligned.

    Parameters
    ----------
    path : Path
    row : mapping
        Its name, file, dtype and shape, as the manifest lists them.
    checksum : str, optional

    Returns
    -------
    tvm.runtime.Tensor

    Raises
    ------
    ArtifactError
        Where the file has another checksum.
    OSError, ValueError
        Where it is missing, or is not the .npy file that `row` describes.
    """
    with open_regular(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        space = np.empty(size + ALIGNMENT, np.uint8)
        content = space[-space.ctypes.data % ALIGNMENT :][:size]
        if file.readinto(content.data) != size:
            raise OSError(f"{row['file']} was cut off while it was read")
    _check(path, content, checksum)
    start = _start_of_data(io.BytesIO(content[:LONGEST_HEADER].tobytes()), row, size)
    array: Array = np.ndarray(row["shape"], _stored(row["dtype"]), content, start)
    return _tensor(aligned(array), row["dtype"])


def map_weight(path: Path, row: Mapping[str, Any], checksum: str | None) -> Any:
    """Return a weight whose pages are those of its file, as long as nobody writes to them; otherwise as `read_weight`."""
    with open_regular(path) as file:
        if checksum is not None and hashlib.file_digest(file, "sha256").hexdigest() != checksum:
            raise _altered(path)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = _start_of_data(file, row, size)
        if not size - start:  # nothing can be mapped
            return _tensor(empty_aligned(row["shape"], _stored(row["dtype"])), row["dtype"])
        # copy on write, because DLPack takes no read-only memory; nothing is written
        array: Array = np.memmap(file, _stored(row["dtype"]), "c", start, tuple(row["shape"]))
    return _tensor(np.asarray(array) if start % ALIGNMENT == 0 else aligned(array), row["dtype"])


def _start_of_data(file: io.BufferedReader | io.BytesIO, row: Mapping[str, Any], size: int) -> int:
    """Return where the data of a .npy file of `size` bytes starts; raises ValueError where it is not what `row` says."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file, max_header_size=LONGEST_HEADER)
    except Exception as error:  # a damaged header is parsed as Python text, and fails in as many ways
        raise ValueError(f"{row['file']} has a damaged header") from error
    if list(shape) != row["shape"] or dtype != _stored(row["dtype"]) or (fortran and len(shape) > 1):
        order = " by columns" if fortran else ""
        raise ValueError(f"{row['file']} holds {dtype}{list(shape)}{order}; the manifest says {row['dtype']}{row['shape']}")
    start = file.tell()
    if size - start != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise ValueError(f"{row['file']} has {size - start} bytes of data, which do not fill {dtype}{list(shape)}")
    return start


def _stored(dtype: str) -> "np.dtype[Any]":
    """Return the dtype that a weight has in its file: NumPy has no bfloat16, of which the bits are stored."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def _tensor(array: Array, dtype: str) -> Any:
    tensor = tvm.runtime.from_dlpack(array)
    return tensor._create_view(tensor.shape, dtype) if dtype == "bfloat16" else tensor


def _check(path: Path, content: Any, checksum: str | None) -> None:
    if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
        raise _altered(path)


def _altered(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} was altered (its checksum differs); copy the artifact again, or compile the model again")
