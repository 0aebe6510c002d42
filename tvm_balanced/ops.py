"""The operators of a rewritten model, registered with Relax: for dense layers, convolutions, recurrent layers
and bags of an embedding.

    balanced_dense(x (..., K), values (N, blocks, nnz), indices (N, blocks, nnz) uint8[, bias (N,)][, residual (..., N)])
    packed_dense(x (..., K), weight (N, K)[, bias (N,)][, residual (..., N)])
    balanced_conv(x (batch, channels, *size), values (N, blocks, nnz), indices (N, blocks, nnz) uint8[, bias (N,)][, residual])
    packed_conv(x (batch, channels, *size), weight (N, K)[, bias (N,)][, residual])

The first two compute y (..., N) = activation(x @ weight^T + bias + residual). The other two are convolutions: their results are
images (batch, N, *outputs), and each pixel of a result is such a product with the part of x that it reads. A residual has the
shape of the result.

They carry the canonical weight, so that the IR can be read, matched and printed; `LowerDenseOps` packs it for the kernels they
name. If the kernels of a layer store several patterns, the weight is dense (packed), and each kernel encodes it. So is every
weight in the pipeline, which encodes a layer only when it packs it: its constant has no values, and stands for a weight that
stays where the model has it. Attributes:
layer (its name in the model), index (the place of its plan among the model's), buckets (`layer_plan.buckets_to_attr`),
activation, has_residual (whether the last argument is one), nnz, block and in_features (K) where the weight is balanced, and
for a convolution conv (`Convolution.to_attr`).

A recurrent layer is a loop over time, written as its first step:

    state = recurrent_state(initial (B, K), gates)
    y, h[, c] = recurrence(gates (T, B, G * H), initial_h (B, P)[, initial_c (B, H)], *products)

The gates are what the input adds to the G gates of a cell in every step: a dense layer over all steps at once. The products are
what a step computes of its state by dense layers, `matmul(recurrent_state(initial_h, gates), weight_hh^T) + bias_hh`, and for an
LSTM with a projection `matmul(recurrent_state(initial_c, gates), weight_hr^T)`, of what its cell gives. They are ordinary dense
layers, so that every pass knows them; `LowerRecurrence` makes one loop over T of them and the cell. Only `recurrence` may read
what is made of a `recurrent_state`. Its results are y (T, B, P), the state after every step, and the last state. Attributes: cell
("lstm", "gru", "rnn_tanh" or "rnn_relu"), reverse (whether time runs backwards), batch_first (gates and y are (B, T, ...)).

Rows of a table, of which each bag takes those from its offset to the next one:

    embedding_bag(table (rows, D), places (P,), offsets (B,)[, weights (P,)])

Its result (B, D) is their sum, mean or maximum, and 0 for a bag of nothing. Attributes: mode ("sum", "mean" or "max"), padding
(the place that is passed over, -1 if there is none), ends (whether the last offset only ends the last bag: B - 1 rows).

A linear recurrence over time, state = a[:, :, t] * state + b[:, :, t], as in state space models:

    states = linear_scan(a (B, D, T, N), b (B, D, T, N), start (B, D, N))
    y, last = linear_scan(a, b, start, c (B, T, N))

Its result are all states (B, D, T, N). If c reads them out, it is y (B, D, T), the sum of state * c over N, and the last state
(B, D, N).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.ir import Op

from tvm_balanced.core.convolution import Convolution

BALANCED_DENSE = "relax.balanced_dense"
PACKED_DENSE = "relax.packed_dense"
BALANCED_CONV = "relax.balanced_conv"
PACKED_CONV = "relax.packed_conv"
RECURRENT_STATE = "relax.recurrent_state"
RECURRENCE = "relax.recurrence"
EMBEDDING_BAG = "relax.embedding_bag"
LINEAR_SCAN = "relax.linear_scan"
WEIGHT_ARGS = {BALANCED_DENSE: 2, PACKED_DENSE: 1, BALANCED_CONV: 2, PACKED_CONV: 1}  # arguments between x and the bias


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
    buckets: Sequence[Mapping[str, Any]],
    layer: str = "",
    index: int = 0,
    activation: str = "none",
    has_residual: bool | None = None,
) -> relax.Call:
    """Return a call of the balanced-sparse dense layer; shapes and dtypes as this file's docstring says."""
    bias, residual = _as_printed(bias, residual, has_residual)
    attrs = {
        "activation": activation,
        "block": block,
        "buckets": buckets,
        "in_features": in_features,
        "index": index,
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
    buckets: Sequence[Mapping[str, Any]],
    layer: str = "",
    index: int = 0,
    activation: str = "none",
    has_residual: bool | None = None,
) -> relax.Call:
    """Return a call of a dense layer whose weight will be packed; shapes and dtypes as this file's docstring says."""
    bias, residual = _as_printed(bias, residual, has_residual)
    attrs = {
        "activation": activation,
        "buckets": buckets,
        "index": index,
        "layer": layer,
        "has_residual": residual is not None,
    }
    return relax.Call(Op.get(PACKED_DENSE), [arg for arg in (x, weight, bias, residual) if arg is not None], attrs)


def balanced_conv(
    x: relax.Expr,
    values: relax.Expr,
    indices: relax.Expr,
    bias: relax.Expr | None = None,
    residual: relax.Expr | None = None,
    *,
    conv: Mapping[str, Any],
    **attrs: Any,
) -> relax.Call:
    """Return a call of the balanced-sparse convolution; `attrs` as for `balanced_dense`."""
    call = balanced_dense(x, values, indices, bias, residual, **attrs)
    return relax.Call(Op.get(BALANCED_CONV), list(call.args), {**dict(call.attrs.items()), "conv": conv})


def packed_conv(
    x: relax.Expr,
    weight: relax.Expr,
    bias: relax.Expr | None = None,
    residual: relax.Expr | None = None,
    *,
    conv: Mapping[str, Any],
    **attrs: Any,
) -> relax.Call:
    """Return a call of a convolution whose weight will be packed; `attrs` as for `packed_dense`."""
    call = packed_dense(x, weight, bias, residual, **attrs)
    return relax.Call(Op.get(PACKED_CONV), list(call.args), {**dict(call.attrs.items()), "conv": conv})


def recurrent_state(initial: relax.Expr, gates: relax.Expr) -> relax.Call:
    """Return the state (B, K) that a step begins with; it is that of the recurrence with these gates."""
    return relax.Call(Op.get(RECURRENT_STATE), [initial, gates])


def recurrence(
    gates: relax.Expr, *operands: relax.Expr, cell: str, reverse: bool = False, batch_first: bool = False
) -> relax.Call:
    """Return a call of a recurrent layer in one direction; shapes and dtypes as this file's docstring says."""
    attrs = {"batch_first": batch_first, "cell": cell, "reverse": reverse}
    return relax.Call(Op.get(RECURRENCE), [gates, *operands], attrs)


def embedding_bag(
    table: relax.Expr,
    places: relax.Expr,
    offsets: relax.Expr,
    weights: relax.Expr | None = None,
    *,
    mode: str,
    padding: int = -1,
    ends: bool = False,
) -> relax.Call:
    """Return a call of an embedding bag; shapes and dtypes as this file's docstring says."""
    operands = [table, places, offsets, *([] if weights is None else [weights])]
    return relax.Call(Op.get(EMBEDDING_BAG), operands, {"ends": ends, "mode": mode, "padding": padding})


def linear_scan(a: relax.Expr, b: relax.Expr, start: relax.Expr, c: relax.Expr | None = None) -> relax.Call:
    """Return a call of a linear recurrence over time; shapes as this file's docstring says."""
    return relax.Call(Op.get(LINEAR_SCAN), [a, b, start, *([] if c is None else [c])])


def is_call(expr: Any, *names: str) -> bool:
    """Whether `expr` is a call of an operator with one of these names."""
    return isinstance(expr, relax.Call) and isinstance(expr.op, Op) and expr.op.name in names


def _as_printed(
    bias: relax.Expr | None, residual: relax.Expr | None, has_residual: bool | None
) -> tuple[relax.Expr | None, relax.Expr | None]:
    """Return (bias, residual) where a printed call, which names no arguments, has a residual in the bias's place."""
    return (None, bias) if has_residual and residual is None else (bias, residual)


def is_dense_op(expr: Any) -> bool:
    """Whether `expr` is a call of one of the operators: a dense layer or a convolution."""
    return is_call(expr, *WEIGHT_ARGS)


def bias_of(call: relax.Call) -> relax.Expr | None:
    """Return the bias argument of a call of one of the operators, None where it has none."""
    position = 1 + WEIGHT_ARGS[call.op.name]
    return call.args[position] if len(call.args) - bool(call.attrs["has_residual"]) > position else None


def residual_of(call: relax.Call) -> relax.Expr | None:
    """Return the residual argument of a call of one of the operators, None where it has none."""
    return call.args[-1] if call.attrs["has_residual"] else None


def conv_of(call: relax.Call) -> Convolution | None:
    """Return how a call of one of the operators reads its images, None where it is a dense layer."""
    return Convolution.from_attr(call.attrs["conv"]) if call.op.name in (BALANCED_CONV, PACKED_CONV) else None


def _infer(call: relax.Call, _builder: relax.BlockBuilder) -> relax.TensorType:
    x, weight = call.args[0].ty, call.args[1].ty
    k = int(call.attrs["in_features"] if WEIGHT_ARGS[call.op.name] == 2 else weight.shape[1])
    conv = conv_of(call)
    if conv is None and int(x.shape[-1]) != k:
        raise ValueError(f"{call.op.name} has x with {x.shape[-1]} columns; its weight has {k}")
    if conv is not None and conv.depth * conv.taps != k:
        raise ValueError(f"{call.op.name} reads {conv.depth} channels at {conv.taps} taps; its weight has {k} columns")
    bias = bias_of(call)
    if bias is not None and int(bias.ty.shape[0]) != int(weight.shape[0]):
        raise ValueError(f"{call.op.name} has a bias of {bias.ty.shape[0]}; its weight has {weight.shape[0]} rows")
    if conv is None:
        return relax.TensorType([*list(x.shape)[:-1], weight.shape[0]], x.dtype)
    outputs = [tirx.IntImm("int64", size) for size in conv.outputs[5 - len(x.shape) :]]
    return relax.TensorType([x.shape[0], weight.shape[0], *outputs], x.dtype)


def _infer_state(call: relax.Call, _builder: relax.BlockBuilder) -> relax.TensorType:
    return call.args[0].ty


def _infer_recurrence(call: relax.Call, _builder: relax.BlockBuilder) -> relax.TupleType:
    gates, h, *others = (arg.ty for arg in call.args)
    states = [h, others[0]] if call.attrs["cell"] == "lstm" else [h]
    return relax.TupleType([relax.TensorType([*list(gates.shape)[:2], h.shape[1]], gates.dtype), *states])


def _infer_bag(call: relax.Call, _builder: relax.BlockBuilder) -> relax.TensorType:
    table, offsets = call.args[0].ty, call.args[2].ty
    bags = offsets.shape[0] - 1 if call.attrs["ends"] else offsets.shape[0]
    return relax.TensorType([bags, table.shape[1]], table.dtype)


def _infer_scan(call: relax.Call, _builder: relax.BlockBuilder) -> relax.Type:
    a, start = call.args[0].ty, call.args[2].ty
    if len(call.args) == 3:
        return a
    return relax.TupleType([relax.TensorType(list(a.shape)[:3], a.dtype), start])


def register(legalize: Callable[[relax.BlockBuilder, relax.Call], relax.Expr]) -> None:
    """Register the operators with TVM; further calls do nothing.

    Parameters
    ----------
    legalize : callable
        How passes that legalize operators lower a call of one of those with a weight.
    """
    if BALANCED_DENSE in Op.list_op_names():
        return
    infer = dict.fromkeys(WEIGHT_ARGS, _infer) | {RECURRENT_STATE: _infer_state, RECURRENCE: _infer_recurrence}
    infer |= {EMBEDDING_BAG: _infer_bag, LINEAR_SCAN: _infer_scan}
    makers = (balanced_dense, packed_dense, balanced_conv, packed_conv, recurrent_state, recurrence, embedding_bag, linear_scan)
    for maker in makers:
        short = maker.__name__
        name = f"relax.{short}"
        tvm.get_global_func("ir.RegisterOp")(name, f"{short}, see tvm_balanced/ops.py")
        set_attr = tvm.ir.register_op_attr
        set_attr(name, "FInferType", infer[name])
        if name in WEIGHT_ARGS:
            set_attr(name, "FLegalize", legalize)
        set_attr(name, "FPurity", True)
        set_attr(name, "TScriptPrinterName", short)
        # lets printed Relax script be parsed again
        import tvm.relax.script.parser as parser

        setattr(parser, short, maker)
