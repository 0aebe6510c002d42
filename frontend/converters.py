"""Converters of single operators for TVM's importer, to replace its own that are wrong or lose what torch knows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tvm import relax

Converter = Callable[[Any, Any], relax.Expr]  # (torch.fx.Node, the importer)
CONVOLUTIONS = {1: relax.op.nn.conv1d, 2: relax.op.nn.conv2d}  # by the number of dimensions that they slide over


def converters() -> dict[str, Converter]:
    """Return our converters by the names of their operators."""
    return {
        "mm.default": matmul,
        "bmm.default": matmul,
        "matmul.default": matmul,
        "linear.default": linear,
        "addmm.default": addmm,
        "convolution.default": convolution,
        "amax.default": partial(extremum, relax.op.max),
        "amin.default": partial(extremum, relax.op.min),
        "any.default": any_,
        "cumsum.default": cumsum,
        "eq.Tensor": partial(compare, relax.op.equal),
        "ne.Tensor": partial(compare, relax.op.not_equal),
        "slice.Tensor": slice_,
    }


# TVM's importer gives products and convolutions a float32 result for any operands, so no other dtype imports.
def matmul(node: Any, importer: Any) -> relax.Expr:
    """Convert a product of two tensors."""
    return importer.block_builder.emit(relax.op.matmul(importer.env[node.args[0]], importer.env[node.args[1]]))


def linear(node: Any, importer: Any) -> relax.Expr:
    """Convert a dense layer."""
    bias = importer.env[node.args[2]] if len(node.args) > 2 and node.args[2] is not None else None
    return importer.block_builder.emit(relax.op.linear(importer.env[node.args[0]], importer.env[node.args[1]], bias))


def addmm(node: Any, importer: Any) -> relax.Expr:
    """Convert beta * bias + alpha * x @ y."""
    bias, x, y = (importer.env[arg] for arg in node.args[:3])
    emit, dtype = importer.block_builder.emit, x.ty.dtype
    product = emit(relax.op.matmul(x, y))
    alpha, beta = node.kwargs.get("alpha", 1), node.kwargs.get("beta", 1)
    if alpha != 1:
        product = emit(relax.op.multiply(product, relax.const(alpha, dtype)))
    if beta == 0:  # torch then ignores the bias, even NaN in it
        return product
    return emit(relax.op.add(product, bias if beta == 1 else emit(relax.op.multiply(bias, relax.const(beta, dtype)))))


def convolution(node: Any, importer: Any) -> relax.Expr:
    """Convert a convolution over one or two dimensions. Half precision is summed, and gets its bias, in float32."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
    x, weight, emit = importer.env[x], importer.env[weight], importer.block_builder.emit
    dims, dtype = len(weight.ty.shape) - 2, str(x.ty.dtype.dtype)
    if transposed or dims not in CONVOLUTIONS:
        return importer._convolution(node)
    wide = "float32" if dtype in ("float16", "bfloat16") else dtype
    y = emit(CONVOLUTIONS[dims](x, weight, stride, padding, dilation, groups, out_dtype=wide))
    if bias is not None:
        added = emit(relax.op.astype(importer.env[bias], wide))
        y = emit(relax.op.add(y, emit(relax.op.reshape(added, [1, -1, *[1] * dims]))))
    return y if wide == dtype else emit(relax.op.astype(y, dtype))


def extremum(operator: Callable[..., relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert the largest or smallest value along some axes (all if none is given), as in pooling over tokens.

    As with TVM's other maxima, the result for nothing but -inf is the smallest finite value, and
    NaN may be missed.
    """
    x, *options = node.args
    axes = list(options[0]) if options else []
    keepdims = options[1] if len(options) > 1 else False
    return _extremum(operator, importer.env[x], importer.block_builder.emit, axis=axes or None, keepdims=keepdims)


def _extremum(operator: Callable[..., relax.Expr], x: relax.Expr, emit: Callable[..., relax.Expr], **options: Any) -> relax.Expr:
    """Reduce x. Booleans are reduced as bytes, whose limits TVM knows."""
    if str(x.ty.dtype.dtype) != "bool":
        return emit(operator(x, **options))
    return emit(relax.op.astype(emit(operator(emit(relax.op.astype(x, "int8")), **options)), "bool"))


def any_(node: Any, importer: Any) -> relax.Expr:
    """Convert whether any element is nonzero. TVM's importer does not support this, and T5 in half
    precision needs it.
    """
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    found = x if str(x.ty.dtype.dtype) == "bool" else emit(relax.op.not_equal(x, relax.const(0, x.ty.dtype)))
    return _extremum(relax.op.max, found, emit)


def cumsum(node: Any, importer: Any) -> relax.Expr:
    """Convert a running sum in torch's dtype of the result, which is int64 for booleans; TVM would
    add them as booleans.

    Masks of causal language models use it to count where sequences begin.
    """
    x, dim = importer.env[node.args[0]], node.args[1]
    dtype = str(node.meta["val"].dtype).removeprefix("torch.")
    return importer.block_builder.emit(relax.op.cumsum(importer.block_builder.emit(relax.op.astype(x, dtype)), dim))


def compare(operator: Callable[[Any, Any], relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert == or != of two tensors. Booleans are compared as bytes, because LLVM rejects TVM's vectors of them."""
    emit = importer.block_builder.emit
    x, y = (importer.env[arg] if arg in importer.env else relax.const(arg) for arg in node.args)
    if all(str(side.ty.dtype.dtype) == "bool" for side in (x, y)):
        x, y = (emit(relax.op.astype(side, "int8")) for side in (x, y))
    return emit(operator(x, y))


def slice_(node: Any, importer: Any) -> relax.Expr:
    """Convert a slice whose end is known only at the call, such as position_ids[:, :length].

    TVM assumes that the end may lie past the tensor's: the length becomes min(length, 512), which
    equals nothing else, and from the next addition on shapes are unknown. If the allowed sizes
    never reach so far, this converter tells TVM.
    """
    x, dim, start, end, step = [*node.args, *(None,) * 5][:5]
    if not _ends_inside(node, dim or 0, start or 0, end, step):
        return importer._slice(node)
    return importer.block_builder.emit(
        relax.op.strided_slice(importer.env[x], [dim or 0], [start or 0], [importer.env[end]], assume_inbound=True)
    )


def _ends_inside(node: Any, dim: int, start: Any, end: Any, step: Any) -> bool:
    """Whether a slice takes everything from `start` up to a symbolic `end` that no allowed call
    puts past the tensor.
    """
    last, size = getattr(end, "meta", {}).get("val"), node.args[0].meta["val"].shape[dim]
    if not (
        isinstance(start, int) and start >= 0 and step in (None, 1) and isinstance(size, int) and isinstance(last, torch.SymInt)
    ):
        return False
    symbol = last.node
    cut = node.meta["val"].shape[dim]
    most = symbol.shape_env.bound_sympy(symbol.expr).upper
    return isinstance(cut, torch.SymInt) and cut.node.expr == (last - start).node.expr and bool(most <= size)
