"""Read a .safetensors file as views of its mapping: nothing is in memory before somebody looks at it."""

import math
from pathlib import Path

import torch

from tvm_balanced.core.files import parse_json
from tvm_balanced.core.mapped_files import MappedFile

LENGTH = 8  # bytes of the header's length, at the start of the file
DTYPES = {
    **{"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64},
    **{"U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F32": torch.float32, "F64": torch.float64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
}


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, in the order of the file; they share its mapping, and may be written to.

    Raises
    ------
    SafetensorError, OSError
        Where the file is damaged or cannot be read.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(str(path), "pt"):  # checks the header: every tensor lies inside the file, and is as long as its shape
        pass
    with path.open("rb") as file:
        size = int.from_bytes(file.read(LENGTH), "little")
        header = parse_json(file.read(size))
    header.pop("__metadata__", None)
    if not header or any(said["dtype"] not in DTYPES for said in header.values()):
        return dict(load_file(str(path)))
    mapped = MappedFile(path)
    ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return {
        name: _tensor(mapped, LENGTH + size + said["data_offsets"][0], DTYPES[said["dtype"]], said["shape"])
        for name, said in ordered
    }


def _tensor(mapped: MappedFile, offset: int, dtype: torch.dtype, shape: list[int]) -> torch.Tensor:
    count = math.prod(shape)
    if not count:
        return torch.empty(shape, dtype=dtype)
    if offset % dtype.itemsize:
        raw = torch.frombuffer(mapped, dtype=torch.uint8, count=count * dtype.itemsize, offset=offset)
        return raw.clone().view(dtype).reshape(shape)
    return torch.frombuffer(mapped, dtype=dtype, count=count, offset=offset).reshape(shape)
