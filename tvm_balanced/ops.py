"""The two operators of a rewritten model, registered with Relax.

    balanced_dense(x (..., K), values (N, blocks, nnz), indices (N, blocks, nnz) uint8[, bias (N,)][, residual (..., N)])
    packed_dense(x (..., K), weight (N, K)[, bias (N,)][, residual (..., N)])

Both compute y (..., N) = activation(x @ weight^T + bias + residual). They carry the canonical weight, so that the IR can be
read, matched and printed; `LowerDenseOps` packs it for the kernel they name. Attributes: kernel, layer (its name in the
model), activation, has_residual (whether the last argument is one), by_rows, and for balanced_dense nnz, block and in_features
(K). Where several kernels compute a layer, each for a range of M, `by_rows` says so as `ByRows` writes it; else it is empty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Op

from tvm_balanced.core.pattern import BalancedPattern

BALANCED_DENSE = "relax.balanced_dense"
PACKED_DENSE = "relax.packed_dense"
WEIGHT_ARGS = {BALANCED_DENSE: 2, PACKED_DENSE: 1}  # arguments between x and the bias


@dataclass(frozen=True)
class ByRows:
    """From which M on a kernel computes a layer, and what it stores the weight in; None where that is dense."""

    first: int
    kernel: str
    pattern: BalancedPattern | None

    @staticmethod
    def write(parts: "list[ByRows]") -> str:
        """Return parts, in ascending order of M, as the attribute `by_rows`: "1 cpu_avx2 8:16, 4 cpu_dense"."""
        return ", ".join(" ".join([str(p.first), p.kernel, *([str(p.pattern)] if p.pattern else [])]) for p in parts)

    @staticmethod
    def read(text: str) -> "list[ByRows]":
        """Return what `write` wrote."""
        words = [part.split() for part in text.split(", ")]
        return [ByRows(int(w[0]), w[1], BalancedPattern.parse(w[2]) if len(w) > 2 else None) for w in words]


def balanced_dense(
    x: relax.Expr,
    values: relax.Expr,
    indices: relax.Expr,
    bias: relax.Expr | None = None,
    residual: relax.Expr | None = None,
    *,
    nnz: int,
    block: int,
    in_features: int,
    kernel: str = "",
    by_rows: str = "",
    layer: str = "",
    activation: str = "none",
    has_residual: bool | None = None,
) -> relax.Call:
    """Return a call of the balanced-sparse dense layer; shapes and dtypes as this file's docstring says."""
    bias, residual = _as_printed(bias, residual, has_residual)
    attrs = {
        "activation": activation,
        "block": block,
        "by_rows": by_rows,
        "in_features": in_features,
        "kernel": kernel,
        "layer": layer,
        "nnz": nnz,
        "has_residual": residual is not None,
    }
    args = [arg for arg in (x, values, indices, bias, residual) if arg is not None]
    return relax.Call(Op.get(BALANCED_DENSE), args, attrs)


def packed_dense(
    x: relax.Expr,
    weight: relax.Expr,
    bias: relax.Expr | None = None,
    residual: relax.Expr | None = None,
    *,
    kernel: str = "",
    by_rows: str = "",
    layer: str = "",
    activation: str = "none",
    has_residual: bool | None = None,
) -> relax.Call:
    """Return a call of a dense layer whose weight will be packed; shapes and dtypes as this file's docstring says."""
    bias, residual = _as_printed(bias, residual, has_residual)
    attrs = {
        "activation": activation,
        "by_rows": by_rows,
        "kernel": kernel,
        "layer": layer,
        "has_residual": residual is not None,
    }
    return relax.Call(Op.get(PACKED_DENSE), [arg for arg in (x, weight, bias, residual) if arg is not None], attrs)


def _as_printed(
    bias: relax.Expr | None, residual: relax.Expr | None, has_residual: bool | None
) -> tuple[relax.Expr | None, relax.Expr | None]:
    """Return (bias, residual) where a printed call, which names no arguments, has a residual in the bias's place."""
    return (None, bias) if has_residual and residual is None else (bias, residual)


def is_dense_op(expr: Any) -> bool:
    """Whether `expr` is a call of one of the two operators."""
    return isinstance(expr, relax.Call) and isinstance(expr.op, Op) and expr.op.name in WEIGHT_ARGS


def bias_of(call: relax.Call) -> relax.Expr | None:
    """Return the bias argument of a call of one of the two operators, None where it has none."""
    position = 1 + WEIGHT_ARGS[call.op.name]
    return call.args[position] if len(call.args) - bool(call.attrs["has_residual"]) > position else None


def residual_of(call: relax.Call) -> relax.Expr | None:
    """Return the residual argument of a call of one of the two operators, None where it has none."""
    return call.args[-1] if call.attrs["has_residual"] else None


def _infer(call: relax.Call, _builder: relax.BlockBuilder) -> relax.TensorType:
    x, weight = call.args[0].ty, call.args[1].ty
    k = call.attrs["in_features"] if call.op.name == BALANCED_DENSE else weight.shape[1]
    if int(x.shape[-1]) != int(k):
        raise ValueError(f"{call.op.name} has x with {x.shape[-1]} columns; its weight has {k}")
    bias = bias_of(call)
    if bias is not None and int(bias.ty.shape[0]) != int(weight.shape[0]):
        raise ValueError(f"{call.op.name} has a bias of {bias.ty.shape[0]}; its weight has {weight.shape[0]} rows")
    return relax.TensorType([*list(x.shape)[:-1], weight.shape[0]], x.dtype)


def register(legalize: Callable[[relax.BlockBuilder, relax.Call], relax.Expr]) -> None:
    """Register both operators with TVM; further calls do nothing.

    Parameters
    ----------
    legalize : callable
        How passes that legalize operators lower a call of one of the two.
    """
    if BALANCED_DENSE in Op.list_op_names():
        return
    for name, maker in ((BALANCED_DENSE, balanced_dense), (PACKED_DENSE, packed_dense)):
        short = name.removeprefix("relax.")
        tvm.get_global_func("ir.RegisterOp")(name, f"{short}, see tvm_balanced/ops.py")
        set_attr = tvm.ir.register_op_attr
        set_attr(name, "FInferType", _infer)
        set_attr(name, "FLegalize", legalize)
        set_attr(name, "FPurity", True)
        set_attr(name, "TScriptPrinterName", short)
        # lets printed Relax script be parsed again
        import tvm.relax.script.parser as parser

        setattr(parser, short, maker)
