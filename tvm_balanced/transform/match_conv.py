"""Recognise a convolution whose weight is constant."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import relax, tirx

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.weight_matrix import from_weight_matrix, weight_matrix
from tvm_balanced.ops import is_call
from tvm_balanced.transform.match_dense import DenseMatch, Lookup, constant_value, is_constant

# Dimensions of the image, and layouts of x and the weight.
FORWARD = {
    "relax.nn.conv1d": (1, "NCW", "OIW"),
    "relax.nn.conv2d": (2, "NCHW", "OIHW"),
    "relax.nn.conv3d": (3, "NCDHW", "OIDHW"),
}
TRANSPOSED = {
    "relax.nn.conv1d_transpose": (1, "NCW", "IOW"),
    "relax.nn.conv2d_transpose": (2, "NCHW", "IOHW"),
    "relax.nn.conv3d_transpose": (3, "NCDHW", "IODHW"),
}


def match_conv(call: relax.Expr, lookup: Lookup) -> DenseMatch | None:
    """Return the convolution that `call` is, None where it is something else, or its image has a size that is known only at the
    call.

    A transposed convolution is one of the image with zeros between its elements, by the weight turned around.
    """
    if not is_call(call, *FORWARD, *TRANSPOSED) or is_constant(call.args[0], lookup):
        return None
    name = call.op.name
    rank, layout, weights = (FORWARD | TRANSPOSED)[name]
    attrs = call.attrs
    if (str(attrs.data_layout), str(attrs.kernel_layout), str(attrs.out_layout or layout)) != (layout, weights, layout):
        return None
    x, (batch, channels, *size) = call.args[0], call.args[0].ty.shape
    right = constant_value(call.args[1], lookup)
    if right is None or not all(isinstance(d, tirx.IntImm) and int(d) > 0 for d in (channels, *size)):
        return None
    weight, key = right
    if (isinstance(batch, tirx.IntImm) and int(batch) == 0) or not weight.size:
        return None
    groups = int(attrs.groups)
    low, high = _padding(attrs, rank)
    stride, dilation = _three(attrs.strides, rank), _three(attrs.dilation, rank)
    spread = (1, 1, 1)
    if name in TRANSPOSED:
        weight, key = _turned(weight, groups), ("turned", groups, key)
        reach = [d * (taps - 1) for d, taps in zip(dilation, _three(weight.shape[2:], rank), strict=True)]
        more = _three(attrs.output_padding, rank, 0)
        low = [r - part for r, part in zip(reach, low, strict=True)]
        high = [r - part + extra for r, part, extra in zip(reach, high, more, strict=True)]
        spread, stride = stride, (1, 1, 1)
    if min(*low, *high) < 0:
        return None
    conv = Convolution(
        int(channels),
        _three(size, rank),
        _three(weight.shape[2:], rank),
        stride,
        dilation,
        (low[0], low[1], low[2]),
        (high[0], high[1], high[2]),
        groups,
        spread,
    )
    m = int(batch) * conv.pixels if isinstance(batch, tirx.IntImm) else None
    if math.prod(max(0, part) for part in conv.outputs) == 0:
        return None
    return DenseMatch(x, weight_matrix(weight), ("conv", key), m, conv)


def reordered(match: DenseMatch, order: str) -> DenseMatch:
    """Return a convolution with the columns of its weight's matrix in another order."""
    conv = match.conv
    assert conv is not None
    if conv.order == order:
        return match
    weight = from_weight_matrix(match.weight, (len(match.weight), conv.depth, conv.taps), conv.order)
    return DenseMatch(match.x, weight_matrix(weight, order), (order, match.key), match.m, replace(conv, order=order))


def _three(sizes: Any, rank: int, missing: int = 1) -> tuple[int, int, int]:
    """Return the sizes of `rank` axes as those of three, the first ones `missing`."""
    d, h, w = (*[missing] * (3 - rank), *(int(size) for size in sizes))
    return d, h, w


def _padding(attrs: Any, rank: int) -> tuple[list[int], list[int]]:
    """Return the zeros before and after each of three axes."""
    given = [int(part) for part in attrs.padding]
    given = given * (2 * rank) if len(given) == 1 else given * 2 if len(given) == rank else given
    return list(_three(given[:rank], rank, 0)), list(_three(given[rank:], rank, 0))


def _turned(weight: Array, groups: int) -> Array:
    """Return the weight (in, out of a group, *kernel) of a transposed convolution as (out, in of a group, *kernel) backwards."""
    channels, out, *kernel = weight.shape
    parts = weight.reshape(groups, channels // groups, out, *kernel).swapaxes(1, 2)
    whole = parts.reshape(groups * out, channels // groups, *kernel)
    return np.flip(whole, tuple(range(2, 2 + len(kernel))))
