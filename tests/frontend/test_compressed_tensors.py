"""Checkpoints of compressed-tensors, made here after its description, by code that shares nothing with the reader."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.compressed_tensors import UNREADABLE
from tvm_balanced.frontend.state_dict import load_weights
from tvm_balanced.schedules.layouts.rounded_weight import round_weight

SHAPES = [(8, 16), (6, 13)]  # the second is no multiple of anything


def pruned(shape, dtype=torch.float32):
    """A weight of which two of each four stay, and all of a last block that is shorter."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for block in weight.split(4, 1):
        if block.shape[1] == 4:
            block.scatter_(1, block.abs().argsort(1)[:, :2], 0.0)
    return weight.to(dtype)


def bits_of(mask):
    rows = []
    for row in mask.tolist():
        places = [0] * (-(-len(row) // 8))
        for place, kept in enumerate(row):
            places[place // 8] |= int(kept) << place % 8
        rows.append(places)
    return torch.tensor(rows, dtype=torch.uint8)


def bitmask(weight):
    counts = [int(n) for n in (weight != 0).sum(1)]
    return {
        "fc.shape": torch.tensor(list(weight.shape)),
        "fc.compressed": weight[weight != 0],
        "fc.bitmask": bits_of(weight != 0),
        "fc.row_offsets": torch.tensor([sum(counts[:row]) for row in range(len(counts))]),
    }


def packed(integers, bits):
    """Words of integers along the last dimension, each with half of the range added, the first in the lowest bits."""
    rows = []
    for row in integers.tolist():
        words = []
        for start in range(0, len(row), 32 // bits):
            word = sum((value + 2 ** (bits - 1)) << bits * place for place, value in enumerate(row[start : start + 32 // bits]))
            words.append(word - 2**32 if word >= 2**31 else word)
        rows.append(words)
    return torch.tensor(rows, dtype=torch.int32)


def quantised(weight, bits, groups):
    """Integers, and a scale for each group of columns: symmetric, rounded to the nearest."""
    parts = weight.split(weight.shape[1] // groups, 1)
    scale = torch.stack([part.abs().amax(1) / (2 ** (bits - 1) - 1) for part in parts], 1)
    wide = torch.cat([s[:, None].expand_as(part) for s, part in zip(scale.unbind(1), parts, strict=True)], 1)
    return (weight / wide).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).to(torch.int8), scale, wide


def module(shape):
    holder = nn.Module()
    holder.fc = nn.Linear(shape[1], shape[0], bias=False)
    return holder


def loaded(folder, tensors, shape, about=None):
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    if about:
        (folder / "config.json").write_text(json.dumps({"quantization_config": about}))
    holder = module(shape)
    said = load_weights(holder, folder)
    return holder.fc.weight.detach(), said


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sparse_bitmask(tmp_path, shape, dtype):
    weight = pruned(shape, dtype)
    got, said = loaded(tmp_path / "c", bitmask(weight), shape)
    assert torch.equal(got, weight.float())
    assert said[0] == "decompressed 1 weights from bitmasks"


def test_sparse_24_bitmask(tmp_path):
    weight = pruned((8, 16))
    tensors = bitmask(weight)
    del tensors["fc.row_offsets"]
    tensors |= {"fc.compressed": weight[weight != 0].reshape(8, 8), "fc.shape": torch.tensor([[8], [16]])}
    assert torch.equal(loaded(tmp_path / "c", tensors, (8, 16))[0], weight)


def test_dense_with_zeros_is_taken_as_it_is(tmp_path):
    about = {"format": "dense", "sparsity_config": {"format": "dense", "sparsity_structure": "2:4"}}
    got, said = loaded(tmp_path / "c", {"fc.weight": pruned((8, 16))}, (8, 16), about)
    assert torch.equal(got, pruned((8, 16)))
    assert said == ()


@pytest.mark.parametrize("bits", [4, 8, 3])
@pytest.mark.parametrize("groups", [1, 4])
def test_pack_quantized(tmp_path, bits, groups):
    integers, scale, wide = quantised(pruned((8, 16)), bits, groups)
    tensors = {
        "fc.weight_packed": packed(integers, bits),
        "fc.weight_scale": scale,
        "fc.weight_shape": torch.tensor([8, 16]),
        "fc.input_scale": torch.ones(1),
    }
    about = {"format": "pack-quantized", "config_groups": {"group_0": {"weights": {"num_bits": bits}}}}
    got, said = loaded(tmp_path / "c", tensors, (8, 16), about)
    assert torch.equal(got, integers * wide)
    assert (got == 0).sum() >= 64
    assert any("1 scales of activations aside" in phrase for phrase in said)


def test_zero_points_are_packed_along_the_rows(tmp_path):
    integers = torch.randint(-8, 8, (6, 16), dtype=torch.int8)
    points = torch.randint(-8, 8, (6, 2), dtype=torch.int8)
    scale = torch.rand(6, 2) + 0.5
    tensors = {
        "fc.weight_packed": packed(integers, 4),
        "fc.weight_scale": scale,
        "fc.weight_zero_point": packed(points.T, 4).T,
        "fc.weight_shape": torch.tensor([6, 16]),
    }
    want = (integers.float() - points.repeat_interleave(8, 1)) * scale.repeat_interleave(8, 1)
    assert torch.equal(loaded(tmp_path / "c", tensors, (6, 16))[0], want)


def test_columns_in_the_order_of_their_activations(tmp_path):
    integers, groups = torch.randint(-8, 8, (4, 8), dtype=torch.int8), torch.tensor([1, 0, 1, 1, 0, 0, 1, 0], dtype=torch.int32)
    scale = torch.rand(4, 2) + 0.5
    tensors = {"fc.weight": integers, "fc.weight_scale": scale, "fc.weight_g_idx": groups}
    assert torch.equal(loaded(tmp_path / "c", tensors, (4, 8))[0], integers * scale[:, groups.long()])


@pytest.mark.grid
@pytest.mark.parametrize("scale", [torch.tensor(0.5), torch.rand(8, 1), torch.rand(8, 4), torch.rand(2, 4)])
def test_int8_with_a_scale_for_all_a_row_a_group_or_a_block(tmp_path, scale):
    integers = torch.randint(-128, 128, (8, 16), dtype=torch.int8)
    wide = scale
    if scale.dim() == 2:
        wide = scale.repeat_interleave(8 // scale.shape[0], 0).repeat_interleave(16 // scale.shape[1], 1)
    got, _ = loaded(tmp_path / "c", {"fc.weight": integers, "fc.weight_scale": scale}, (8, 16))
    assert torch.equal(got, integers * wide)


@pytest.mark.parametrize("scale", [torch.tensor(0.37), torch.rand(8, 1) + 0.01])
def test_int8_is_not_rounded_again_for_a_kernel_of_8_bits(tmp_path, scale):
    integers = torch.randint(-100, 101, (8, 16), dtype=torch.int8)  # the scales of the checkpoint leave room above
    integers[:, :2] = torch.tensor([37, 8])
    got, _ = loaded(tmp_path / "c", {"fc.weight": integers, "fc.weight_scale": scale}, (8, 16))
    numbers, scales, _ = round_weight(got.numpy())
    assert torch.equal(torch.from_numpy(numbers), integers)
    torch.testing.assert_close(torch.from_numpy(scales), scale.reshape(-1).expand(8))


@pytest.mark.parametrize("compressed", [False, True])
def test_float8_is_multiplied_by_its_scale(tmp_path, compressed):
    weight, scale = pruned((8, 16)).to(torch.float8_e4m3fn), torch.rand(8, 1) + 0.5
    kept = weight.float() != 0
    parts = bitmask(weight.float()) | {"fc.compressed": weight.float()[kept].to(torch.float8_e4m3fn)}
    tensors = parts if compressed else {"fc.weight": weight}
    about = {"format": "float-quantized"}
    got, said = loaded(tmp_path / "c", tensors | {"fc.weight_scale": scale}, (8, 16), about)
    assert torch.equal(got, weight.float() * scale)
    assert len(said) == 1 + compressed


def test_blocks_that_the_config_tells_may_be_cut_off_at_the_end(tmp_path):
    integers, scale = torch.randint(-128, 128, (8, 16), dtype=torch.int8), torch.rand(3, 2)
    about = {"format": "int-quantized", "config_groups": {"a": {"weights": {"num_bits": 8, "block_structure": [3, 10]}}}}
    got, _ = loaded(tmp_path / "c", {"fc.weight": integers, "fc.weight_scale": scale}, (8, 16), about)
    assert torch.equal(got, integers * scale.repeat_interleave(3, 0)[:8].repeat_interleave(10, 1)[:, :16])


def test_nonzeros_may_be_quantised_and_then_compressed(tmp_path):
    integers, scale, wide = quantised(pruned((8, 16)), 8, 1)
    got, said = loaded(tmp_path / "c", bitmask(integers) | {"fc.weight_scale": scale}, (8, 16))
    assert torch.equal(got, integers * wide)
    assert len(said) == 2


def change(name, value):
    return lambda tensors: tensors.update({name: value(tensors[name])})


BITMASK_DAMAGE = {
    "a bit past the end": (change("fc.bitmask", lambda b: b | 128), "a bit past the last of 13 columns"),
    "a bit too many": (change("fc.bitmask", lambda b: b | 1), "bits, and"),
    "a value too few": (change("fc.compressed", lambda v: v[:-1]), "values are there"),
    "another shape": (change("fc.shape", lambda s: s * 2), "its bitmask is uint8"),
    "a negative shape": (change("fc.shape", lambda s: -s), "shape is"),
    "offsets past the end": (change("fc.row_offsets", lambda o: o + 99), "row_offsets do not fit"),
    "another dtype": (change("fc.bitmask", lambda b: b.to(torch.int32)), "its bitmask is int32"),
    "no values": (lambda tensors: tensors.pop("fc.compressed"), "compressed is missing"),
}


@pytest.mark.parametrize("case", BITMASK_DAMAGE)
def test_a_damaged_bitmask_gets_one_sentence(tmp_path, case):
    damage, message = BITMASK_DAMAGE[case]
    tensors = bitmask(pruned((6, 13)))
    damage(tensors)
    refused(tmp_path, tensors, message)


PACKED_DAMAGE = {
    "words too few": (change("fc.weight_packed", lambda w: w[:, :1]), "1 words a row, too few or too many for 16 columns"),
    "another dtype": (change("fc.weight_packed", lambda w: w.long()), "weight_packed is int64"),
    "scales of another shape": (change("fc.weight_scale", lambda s: s[:3]), "weight_scale has"),
    "no scale": (lambda tensors: tensors.pop("fc.weight_scale"), "int8, where Module has float32"),
    "no shape": (lambda tensors: tensors.pop("fc.weight_shape"), "weight_shape is missing"),
    "a group past the end": (
        lambda tensors: tensors.update({"fc.weight_g_idx": torch.full((16,), 7, dtype=torch.int32)}),
        "names groups beyond the 4",
    ),
}


@pytest.mark.parametrize("case", PACKED_DAMAGE)
def test_damaged_packed_weights_get_one_sentence(tmp_path, case):
    damage, message = PACKED_DAMAGE[case]
    integers, scale, _ = quantised(pruned((8, 16)), 4, 4)
    tensors = {"fc.weight_packed": packed(integers, 4), "fc.weight_scale": scale, "fc.weight_shape": torch.tensor([8, 16])}
    damage(tensors)
    refused(tmp_path, tensors, message, (8, 16))


def refused(folder, tensors, message, shape=(6, 13), about=None):
    with pytest.raises(ModelError, match=message) as error:
        loaded(folder / "c", tensors, shape, about)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", UNREADABLE)
def test_formats_that_are_not_read_are_named(tmp_path, name):
    tensors = {"fc.weight_packed": torch.ones(1, 1, dtype=torch.int32)}
    refused(tmp_path, tensors, f"compressed as {name}, which cannot be read here; save the model before", about={"format": name})
