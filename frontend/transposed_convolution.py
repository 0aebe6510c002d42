"""Transposed convolutions with a stride, as a convolution with an output channel for each phase of the stride.

With o = stride * q + phase, a transposed convolution is y[o] = sum of x[q - j] * w[phase + stride * j] over j: for each phase an
ordinary convolution of all x with a part of the taps. One that is computed on an image with zeros between its pixels multiplies
stride times as much along each axis. The phases become channels of one convolution, and then neighbours in the image.

A pruned weight stays as it is: its pattern is one of all taps of a channel.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch._decomp import get_decompositions
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from tvm_balanced.frontend.operator_name import operator_name

PRUNED = 0.4  # share of zeros from which on a weight counts as pruned
# Multiply-adds of an image from which on it is split: a smaller one takes less than 0.1 ms either way. With stride 2 over two
# dimensions a split one multiplies a quarter as much.
LEAST = 1 << 20


def split_phases(program: ExportedProgram) -> None:
    """Replace the transposed convolutions with a stride of a decomposed program, if their weights are dense."""
    signature = program.graph_signature
    weights = signature.inputs_to_parameters | signature.inputs_to_buffers
    found = False
    for node in list(program.graph.nodes):
        if operator_name(node) != "convolution" or not node.args[6] or node.args[1].name not in weights:
            continue
        tensor = program.state_dict.get(weights[node.args[1].name])
        sizes = node.args[0].meta["val"].shape[2:]
        if tensor is None or not all(isinstance(size, int) for size in sizes) or tensor.numel() * math.prod(sizes) < LEAST:
            continue
        if (tensor == 0).float().mean() < PRUNED:
            found = _replace(program.graph, node) or found
    if found:
        program.graph.eliminate_dead_code()
        program.graph_module.recompile()


def _replace(graph: fx.Graph, node: fx.Node) -> bool:
    """Put what computes the phases in the place of a convolution; whether that can be done."""
    tensors = [arg for arg in node.args if isinstance(arg, fx.Node)]
    rest = node.args[3:]

    def phased(*operands: torch.Tensor) -> Any:
        x, weight, *bias = operands
        return phased_convolution(x, weight, bias[0] if bias else None, *rest)  # type: ignore[arg-type]

    values = [tensor.meta["val"] for tensor in tensors]
    if phased(*values) is NotImplemented:
        return False
    table: Any = get_decompositions([torch.ops.aten._unsafe_view])
    body = make_fx(phased, table)(*values).graph
    known: dict[fx.Node, fx.Node] = dict(zip(body.find_nodes(op="placeholder"), tensors, strict=True))
    with graph.inserting_before(node):
        for each in body.nodes:
            if each.op == "call_function":
                known[each] = graph.node_copy(each, known.__getitem__)
                known[each].meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
    (output,) = body.find_nodes(op="output")
    result = known[output.args[0]]
    result.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(result)
    graph.erase_node(node)
    return True


def phased_convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    """aten.convolution, if it is transposed with a stride, over one or two dimensions of known sizes; else NotImplemented."""
    dims = weight.dim() - 2
    stride, padding, dilation, more = ([*one] * (dims // len(one)) for one in (stride, padding, dilation, output_padding))
    sizes, taps = x.shape[2:], weight.shape[2:]
    known = all(isinstance(size, int) for size in sizes)
    if not transposed or groups > 1 or dims not in (1, 2) or max(stride) == 1 or max(dilation) > 1 or not known:
        return NotImplemented
    each = [-(-k // s) for k, s in zip(taps, stride, strict=True)]  # taps of a phase
    if any(k + after > s * j + before for k, after, s, j, before in zip(taps, more, stride, each, padding, strict=True)):
        return NotImplemented  # pixels that no tap reaches
    depth, channels = weight.shape[:2]
    behind = [s * j - k for s, j, k in zip(stride, each, taps, strict=True)]
    phased = functional.pad(weight, [*itertools.chain(*((0, one) for one in reversed(behind)))])
    phased = phased.reshape(depth, channels, *itertools.chain(*zip(each, stride, strict=True)))
    axes = range(dims)
    phased = phased.permute(1, *(3 + 2 * axis for axis in axes), 0, *(2 + 2 * axis for axis in axes))
    phased = phased.reshape(-1, depth, *each).flip([2 + axis for axis in axes])
    convolve = (functional.conv1d, functional.conv2d)[dims - 1]
    y = convolve(x, phased, None, 1, [j - 1 for j in each])
    whole = [size + j - 1 for size, j in zip(sizes, each, strict=True)]
    y = y.reshape(x.shape[0], channels, *stride, *whole)
    y = y.permute(0, 1, *itertools.chain(*((2 + dims + axis, 2 + axis) for axis in axes)))
    y = y.reshape(x.shape[0], channels, *(q * s for q, s in zip(whole, stride, strict=True)))
    for axis in axes:
        length = (sizes[axis] - 1) * stride[axis] - 2 * padding[axis] + taps[axis] + more[axis]
        y = y.narrow(2 + axis, padding[axis], length)
    return y if bias is None else y + bias.reshape(1, -1, *[1] * dims)
