"""Decompress the weights of a compressed-tensors checkpoint, as llm-compressor writes them; their own library reads them no more.

    sparse-bitmask      X.shape, X.compressed (nonzeros row by row), X.bitmask (N, ceil(K / 8)) uint8, X.row_offsets (N)
    sparse-24-bitmask   X.shape, X.compressed (N, K / 2), X.bitmask
    pack-quantized      X.weight_packed (N, ceil(K / per word)) int32, X.weight_scale, X.weight_shape, X.weight_zero_point
    int-, naive- and float-quantized    X.weight (N, K) int8 or float8, X.weight_scale, X.weight_zero_point
    dense               nothing to do: zeros are zeros

A weight may be both: its nonzeros quantised first, and then compressed. Bits are counted from the lowest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tvm_balanced.core.encoding import Array
from tvm_balanced.errors import ModelError

WORD = 32  # bits of an element of X.weight_packed
UNREADABLE = ("marlin-24", "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mixed-precision")
# What the quantisation of activations, and of a KV cache, leaves beside a layer: float arithmetic needs none of it.
OF_ACTIVATIONS = tuple(
    f".{name}" for name in "input_scale input_zero_point output_scale output_zero_point k_scale v_scale q_scale".split()
)
Block = tuple[int, int]


def is_compressed(tensors: Mapping[str, Any]) -> bool:
    """Whether a state dict has names of a format of compressed-tensors."""
    return any(name.endswith((".weight_packed", ".bitmask", ".weight_scale")) for name in tensors)


def decompressed(path: Path, tensors: Mapping[str, Any], config: Mapping[str, Any], found: list[str]) -> dict[str, Any]:
    """Return a state dict with plain weights in place of compressed and quantised ones.

    Parameters
    ----------
    path : Path
        Of the checkpoint, for messages.
    tensors : mapping
        Its state dict.
    config : mapping
        Its config.json, or empty: its "quantization_config" tells formats and bits.
    found : list of str
        Is told what was recognised.

    Raises
    ------
    ModelError
        If the format is none of these, or the parts of a weight do not fit each other.
    """
    about = config.get("quantization_config") or config.get("compression_config") or {}
    about = about if isinstance(about, Mapping) else {}
    format_of = str(about.get("format", ""))
    if format_of in UNREADABLE:
        raise ModelError(
            f"{path} is compressed as {format_of}, which cannot be read here; save the model before its quantisation, with zeros "
            "in plain weights"
        )
    plain: dict[str, Any] = dict(tensors)
    _each(path, plain, ".bitmask", _from_bitmask, "decompressed {} weights from bitmasks", found)
    bits, block = _bits(about), _block(about)
    _each(
        path, plain, ".weight_packed", lambda parts: _from_packed(parts, bits), "unpacked {} weights of less than 8 bits", found
    )
    _each(
        path,
        plain,
        ".weight_scale",
        lambda parts: _from_scaled(parts, block),
        "multiplied {} quantised weights by their scales",
        found,
    )
    used = {name: tensor for name, tensor in plain.items() if not name.endswith(OF_ACTIVATIONS)}
    if len(used) < len(plain):
        found.append(f"left {len(plain) - len(used)} scales of activations aside: these are computed in float")
    return used


class _Parts:
    """The parts of one compressed weight; each that is asked for leaves the state dict."""

    def __init__(self, tensors: dict[str, Any], layer: str) -> None:
        self.tensors, self.layer = tensors, layer

    def take(self, name: str) -> Array | None:
        tensor = self.tensors.pop(f"{self.layer}.{name}", None)
        if tensor is None:
            return None
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} is {type(tensor).__name__}")
        # bfloat16 and float8 have no arrays
        array: Array = tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
        return array

    def need(self, name: str) -> Array:
        array = self.take(name)
        if array is None:
            raise ValueError(f"{name} is missing")
        return array

    def dtype_of(self, name: str) -> torch.dtype:
        tensor = self.tensors.get(f"{self.layer}.{name}")
        return tensor.dtype if isinstance(tensor, torch.Tensor) else torch.float32

    def shape(self, name: str) -> tuple[int, ...]:
        sizes = tuple(int(size) for size in self.need(name).reshape(-1))
        if not sizes or min(sizes) < 0:
            raise ValueError(f"{name} is {sizes}")
        return sizes


def _each(path: Path, plain: dict[str, Any], ending: str, convert: Any, said: str, found: list[str]) -> None:
    """Convert every weight that has a part of a name, in place."""
    layers = [name.removesuffix(ending) for name in plain if name.endswith(ending)]
    for layer in layers:
        try:
            weight = convert(_Parts(plain, layer))
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise ModelError(f"{path} has a damaged weight, {layer} ({error}); copy the checkpoint again") from None
        plain[layer if layer.endswith(".weight") else f"{layer}.weight"] = weight
    if layers:
        found.append(said.format(len(layers)))


def _from_bitmask(parts: _Parts) -> torch.Tensor:
    """A weight from its nonzeros, row by row, and a bit for each element."""
    dtype = parts.dtype_of("compressed")
    shape, values, mask = parts.shape("shape"), parts.need("compressed"), parts.need("bitmask")
    offsets = parts.take("row_offsets")
    columns = shape[-1]
    want = (*shape[:-1], -(-columns // 8))
    if mask.dtype != np.uint8 or mask.shape != want:
        raise ValueError(f"its bitmask is {mask.dtype}{list(mask.shape)}, and a weight of {list(shape)} has uint8{list(want)}")
    bits = np.unpackbits(mask, axis=-1, bitorder="little")
    if bits[..., columns:].any():
        raise ValueError(f"its bitmask has a bit past the last of {columns} columns")
    kept = bits[..., :columns].astype(bool)
    if int(kept.sum()) != values.size:
        raise ValueError(f"its bitmask has {int(kept.sum())} bits, and {values.size} values are there")
    counts = kept.reshape(-1, columns).sum(-1)
    if offsets is not None and not np.array_equal(offsets.reshape(-1), np.cumsum(counts) - counts):
        raise ValueError("its row_offsets do not fit its bitmask")
    dense = np.zeros(shape, values.dtype)
    dense[kept] = values.reshape(-1)
    return torch.from_numpy(dense).to(dtype)


def _from_packed(parts: _Parts, bits: list[int]) -> torch.Tensor:
    """An integer weight from words of 32 bits, with its zero points unpacked alike; its scale is applied afterwards."""
    packed, shape = parts.need("weight_packed"), parts.shape("weight_shape")
    if packed.dtype != np.int32 or packed.ndim != 2 or len(shape) != 2 or packed.shape[0] != shape[0]:
        raise ValueError(f"weight_packed is {packed.dtype}{list(packed.shape)}, and the weight {list(shape)}")
    each = next((b for b in bits if -(-shape[1] // (WORD // b)) == packed.shape[1]), None)
    if each is None:
        raise ValueError(f"weight_packed has {packed.shape[1]} words a row, too few or too many for {shape[1]} columns")
    scale = parts.tensors.get(f"{parts.layer}.weight_scale")
    points = parts.take("weight_zero_point")
    if points is not None and points.dtype == np.int32 and scale is not None and scale.dim() == 2:
        unpacked = _unpacked(points.T, each, shape[0]).T  # packed along the rows
        if unpacked.shape != tuple(scale.shape):
            raise ValueError(f"weight_zero_point has {list(unpacked.shape)}, and weight_scale {list(scale.shape)}")
        parts.tensors[f"{parts.layer}.weight_zero_point"] = torch.from_numpy(np.ascontiguousarray(unpacked))
    elif points is not None:
        parts.tensors[f"{parts.layer}.weight_zero_point"] = torch.from_numpy(points)
    return torch.from_numpy(_unpacked(packed, each, shape[1]))


def _unpacked(words: Array, bits: int, count: int) -> Array:
    """Integers of some bits from rows of words; they are stored with half of their range added."""
    shifts = np.arange(WORD // bits, dtype=np.uint32) * bits
    fields = np.ascontiguousarray(words).view(np.uint32)[..., None] >> shifts & ((1 << bits) - 1)
    flat = fields.reshape(len(words), -1)
    if flat.shape[1] < count:
        raise ValueError(f"{flat.shape[1]} integers are packed where {count} are needed")
    whole: Array = (flat[:, :count].astype(np.int16) - (1 << bits - 1)).astype(np.int8)
    return whole


def _from_scaled(parts: _Parts, block: Block) -> torch.Tensor:
    """(weight - zero point) * scale: one scale for all, for a row, for a group of columns, or for a block of both."""
    dtype = parts.dtype_of("weight_scale")
    weight, scale = parts.need("weight").astype(np.float32), parts.need("weight_scale")
    points, groups = parts.take("weight_zero_point"), parts.take("weight_g_idx")
    parts.take("weight_shape")
    if groups is not None and (groups < 0).all():  # written where columns are in order
        groups = None
    spread = _spread("weight_scale", scale, weight.shape, groups, block)
    zero = 0.0 if points is None else _spread("weight_zero_point", points.astype(np.float32), weight.shape, groups, block)
    return torch.from_numpy((weight - zero) * spread).to(dtype if dtype.is_floating_point else torch.float32)


def _spread(name: str, scale: Array, shape: tuple[int, ...], groups: Array | None, block: Block) -> Array:
    if scale.size == 1:
        return scale.reshape(())
    wrong = ValueError(f"{name} has {list(scale.shape)}, and the weight {list(shape)}")
    scale = scale[:, None] if scale.ndim == 1 else scale
    if scale.ndim != 2 or len(shape) != 2:
        raise wrong
    if groups is not None:
        if groups.shape != shape[1:] or groups.min() < 0 or groups.max() >= scale.shape[1]:
            raise ValueError(f"weight_g_idx names groups beyond the {scale.shape[1]} that have scales")
        scale = scale[:, groups]
    for axis in (0, 1):
        if scale.shape[axis] in (1, shape[axis]):
            continue
        each = block[axis]
        if not each or -(-shape[axis] // each) != scale.shape[axis]:
            each = shape[axis] // scale.shape[axis]
        if not each or -(-shape[axis] // each) != scale.shape[axis]:
            raise wrong
        scale = np.repeat(scale, each, axis).take(np.arange(shape[axis]), axis)
    return scale


def _bits(about: Mapping[str, Any]) -> list[int]:
    """The widths that a config says its weights have, before those that are usual."""
    return [*(w["num_bits"] for w in _weights(about) if w.get("num_bits") in range(1, 9)), 4, 8]


def _block(about: Mapping[str, Any]) -> Block:
    """Rows and columns that share a scale, where a config says so: the last ones may be fewer."""
    said = next((w["block_structure"] for w in _weights(about) if isinstance(w.get("block_structure"), list)), [0, 0])
    return (said[0], said[1]) if len(said) == 2 and all(isinstance(size, int) and size > 0 for size in said) else (0, 0)


def _weights(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a config says of the weights of each group of layers."""
    groups = about.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, Mapping) else []
    weights = [group.get("weights") for group in groups if isinstance(group, Mapping)]
    return [said for said in weights if isinstance(said, Mapping)]
