"""Converters of single operators for TVM's importer, where its own are wrong or lose what torch knows."""

from collections.abc import Callable
from typing import Any

import torch
from tvm import relax

Converter = Callable[[Any, Any], relax.Expr]  # (torch.fx.Node, the importer)


def converters() -> dict[str, Converter]:
    """Return our converters by the name of their operator."""
    return {
        "mm.default": matmul,
        "bmm.default": matmul,
        "matmul.default": matmul,
        "linear.default": linear,
        "slice.Tensor": slice_,
    }


# TVM's importer gives matmul and linear a float32 result whatever their operands are: no other dtype imports.
def matmul(node: Any, importer: Any) -> relax.Expr:
    """Convert a product of two tensors."""
    return importer.block_builder.emit(relax.op.matmul(importer.env[node.args[0]], importer.env[node.args[1]]))


def linear(node: Any, importer: Any) -> relax.Expr:
    """Convert a dense layer."""
    bias = importer.env[node.args[2]] if len(node.args) > 2 and node.args[2] is not None else None
    return importer.block_builder.emit(relax.op.linear(importer.env[node.args[0]], importer.env[node.args[1]], bias))


def slice_(node: Any, importer: Any) -> relax.Expr:
    """Convert a slice whose end is known only at the call, such as position_ids[:, :length].

    TVM takes the end for one that may lie past the tensor's: the length becomes min(length, 512), which equals nothing else, and
    from the next addition on shapes are unknown. Where the sizes that a call may have do not reach so far, it is said.
    """
    x, dim, start, end, step = [*node.args, *(None,) * 5][:5]
    if not _ends_inside(node, dim or 0, start or 0, end, step):
        return importer._slice(node)
    return importer.block_builder.emit(
        relax.op.strided_slice(importer.env[x], [dim or 0], [start or 0], [importer.env[end]], assume_inbound=True)
    )


def _ends_inside(node: Any, dim: int, start: Any, end: Any, step: Any) -> bool:
    """Whether a slice takes all places from `start` up to a symbolic `end`, which no call that is let in puts past the tensor."""
    last, size = getattr(end, "meta", {}).get("val"), node.args[0].meta["val"].shape[dim]
    if not (
        isinstance(start, int) and start >= 0 and step in (None, 1) and isinstance(size, int) and isinstance(last, torch.SymInt)
    ):
        return False
    symbol = last.node
    cut = node.meta["val"].shape[dim]
    most = symbol.shape_env.bound_sympy(symbol.expr).upper
    return isinstance(cut, torch.SymInt) and cut.node.expr == (last - start).node.expr and bool(most <= size)
