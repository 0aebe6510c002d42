"""Convolutions by cuDNN, through the torch of this process (`torch_library`)."""

import json
import math
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.runtime.cuda.torch_library import borrowed, in_place, usable

_without: set[tuple[str, str, int]] = set()  # convolutions for which cuDNN has no function with an epilogue


def conv(
    kind: str,
    dtype: str,
    activation: str,
    geometry: str,
    batch: int,
    n: int,
    y: Any,
    x: Any,
    weight: Any,
    bias: Any,
    residual: Any,
) -> int:
    """Compute images y (batch, N, *outputs) = activation(convolution of x (batch, channels, *size) + bias (N) + residual).

    float32 is computed in float32, also where torch would take TF32. ReLU in half precision is in cuDNN's epilogue,
    with bias and residual; what else there is, is applied in place.

    Parameters
    ----------
    kind, dtype, activation : str
        The kind of the target, the dtype of all arrays, and what is applied at the end.
    geometry : str
        `Convolution.to_attr` as JSON; no transposed one.
    batch, n : int
    y, x, weight, bias, residual : addresses
        The weight is (N, channels of a group, *kernel). The residual, of y's shape, may be None.

    Returns
    -------
    int
        1 if y was written, 0 if not: without torch, or without cuDNN on a GPU.
    """
    if not usable(kind):
        return 0
    torch = sys.modules["torch"]
    cudnn = has_cudnn(torch, kind)
    if kind == "cuda" and not cudnn:
        return 0
    one, tensor = _Layer.of(geometry), borrowed(torch, kind)
    cudnn = cudnn and not one.depthwise

    def contiguous(address: Any, *shape: int) -> Any:
        return tensor(address, dtype, shape, [math.prod(shape[place:]) for place in range(1, len(shape) + 1)])

    with torch.no_grad():
        out, added = contiguous(y, batch, n, *one.outputs), contiguous(bias, n)
        image = contiguous(x, batch, one.conv.channels, *one.size)
        if any(one.uneven):
            image = torch.nn.functional.pad(image, one.uneven)
        rest = None if residual is None else contiguous(residual, batch, n, *one.outputs)
        operands = image, contiguous(weight, n, one.conv.depth, *one.kernel)
        key = (geometry, dtype, batch)
        if cudnn and activation == "relu" and dtype != "float32" and key not in _without:
            try:
                out.copy_(_with_relu(torch, operands, added, rest, one))
            except RuntimeError:  # cuDNN fuses some shapes only
                _without.add(key)
            else:
                return 1
        _plain(torch, cudnn, operands, one, out)
        out.add_(added.view(n, *(1 for _ in one.outputs)))
        if rest is not None:
            out.add_(rest)
        in_place(torch)[activation](out)
    return 1


@dataclass(frozen=True)
class _Layer:
    """A convolution over two or three axes, as torch has it: zeros on both sides are as many, `uneven` are in front of that."""

    conv: Convolution
    size: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: list[int]
    dilation: list[int]
    padding: list[int]
    uneven: tuple[int, ...]  # as torch.nn.functional.pad takes them, from the last axis on

    @property
    def depthwise(self) -> bool:
        """Whether torch has kernels of its own for it, which it prefers to cuDNN's."""
        return self.conv.groups == self.conv.channels > 1

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(geometry: str) -> "_Layer":
        """Return what `Convolution.to_attr` wrote as JSON."""
        conv = Convolution.from_attr(json.loads(geometry))
        first = 1 if conv.size[0] == conv.kernel[0] == conv.outputs[0] == 1 else 0
        padding = [min(ends) for ends in zip(conv.before[first:], conv.after[first:], strict=True)]
        ends = zip(conv.before[first:], conv.after[first:], padding, strict=True)
        uneven = [part for low, high, both in reversed(list(ends)) for part in (low - both, high - both)]
        shapes = conv.size[first:], conv.outputs[first:], conv.kernel[first:]
        return _Layer(conv, *shapes, list(conv.stride[first:]), list(conv.dilation[first:]), padding, tuple(uneven))


def has_cudnn(torch: Any, kind: str) -> bool:
    """Whether torch computes convolutions on a target of this kind by cuDNN."""
    return kind == "cuda" and bool(torch.backends.cudnn.enabled and torch.backends.cudnn.is_available())


def _plain(torch: Any, cudnn: bool, operands: tuple[Any, Any], one: _Layer, out: Any) -> None:
    """Write the convolution alone."""
    aten, wanted = torch.ops.aten, torch.backends.cudnn
    if cudnn:
        said = (wanted.benchmark, wanted.deterministic, False)  # the last: no TF32
        aten.cudnn_convolution.out(*operands, one.padding, one.stride, one.dilation, one.conv.groups, *said, out=out)
        return
    none = [0] * len(one.padding)
    out.copy_(aten.convolution(*operands, None, one.stride, one.padding, one.dilation, False, none, one.conv.groups))


def _with_relu(torch: Any, operands: tuple[Any, Any], bias: Any, residual: Any, one: _Layer) -> Any:
    """Return the convolution with bias, residual and ReLU in one function of cuDNN."""
    aten, geometry = torch.ops.aten, (one.stride, one.padding, one.dilation, one.conv.groups)
    if residual is None:
        return aten.cudnn_convolution_relu(*operands, bias, *geometry)
    return aten.cudnn_convolution_add_relu(*operands, residual, 1.0, bias, *geometry)
