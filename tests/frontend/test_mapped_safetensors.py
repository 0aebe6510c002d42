import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tvm_balanced.core.mapped_files import is_mapped
from tvm_balanced.frontend.mapped_safetensors import DTYPES, read_safetensors


def test_every_dtype_is_read_as_safetensors_reads_it(tmp_path):
    torch.manual_seed(0)
    state = {str(dtype): (torch.rand(3, 5) * 4).to(dtype) for dtype in DTYPES.values()}
    state |= {"empty": torch.ones(0, 4), "number": torch.tensor(2.5)}
    save_file(state, tmp_path / "w.safetensors", {"format": "pt"})
    read = read_safetensors(tmp_path / "w.safetensors")
    assert set(read) == set(state)
    for name, want in state.items():
        got = read[name]
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert torch.equal(got.reshape(-1).view(torch.uint8), want.reshape(-1).view(torch.uint8))
    assert is_mapped(read["torch.float32"].data_ptr())
    read["torch.float32"].zero_()  # the file stays as it is
    assert torch.equal(read_safetensors(tmp_path / "w.safetensors")["torch.float32"], state["torch.float32"])


def test_offsets_that_are_no_multiple_of_an_element_and_other_dtypes(tmp_path):
    places = {"a": ("U8", [1], [0, 1]), "b": ("F32", [2], [1, 9])}
    fields = ("dtype", "shape", "data_offsets")
    header = json.dumps({name: dict(zip(fields, place, strict=True)) for name, place in places.items()})
    values = np.array([1.5, -2], np.float32)
    (tmp_path / "odd.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\7" + values.tobytes())
    read = read_safetensors(tmp_path / "odd.safetensors")
    assert read["a"].tolist() == [7]
    assert read["b"].tolist() == [1.5, -2]
    save_file({"scale": torch.ones(4).to(torch.float8_e8m0fnu)}, tmp_path / "scales.safetensors")
    assert read_safetensors(tmp_path / "scales.safetensors")["scale"].dtype == torch.float8_e8m0fnu


@pytest.mark.parametrize("cut", [4, 60, -1])
def test_a_truncated_file_is_refused(tmp_path, cut):
    from safetensors import SafetensorError

    save_file({"a": torch.ones(8)}, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[:cut])
    with pytest.raises(SafetensorError):
        read_safetensors(tmp_path / "w.safetensors")
