"""Operators of ONNX that TVM's importer does not know, and the name of the one that it stumbles over."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from tvm import relax, tirx
from tvm.ir import GenericConst, is_prim_expr
from tvm.relax.frontend.onnx import onnx_frontend

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.core.encoding import Array
from tvm_balanced.ops import recurrence, recurrent_state
from tvm_balanced.runtime.tensors import view

_OVERRIDING = threading.RLock()
Convert = Callable[..., Any]


@contextmanager
def our_operators() -> Iterator[list[str]]:
    """Within it, TVM's importer knows our operators, too; yields the names of those that are being converted, innermost last."""
    converting: list[str] = []
    with _OVERRIDING:
        original = onnx_frontend._get_convert_map

        def all_of_them() -> dict[str, Any]:
            known = original()
            return {name: _Named(name, known.get(name), converting) for name in {*known, *CELLS}}

        onnx_frontend._get_convert_map = all_of_them
        try:
            yield converting
        finally:
            onnx_frontend._get_convert_map = original


class _Named:
    """A converter of TVM's, or one of ours in its place, that says its name while it runs."""

    def __init__(self, name: str, converter: Any, converting: list[str]) -> None:
        self.name, self.converter, self.converting = name, converter, converting

    def get_converter(self, opset: int) -> Convert:
        """Return what converts a node, as TVM asks for it."""
        own = CELLS.get(self.name)
        convert: Convert = self.converter.get_converter(opset) if own is None else own
        if self.name == "Range":
            convert = partial(_range, convert)

        def run(*args: Any) -> Any:
            self.converting.append(self.name)
            result = convert(*args)
            self.converting.pop()
            return result

        return run


def _range(plain: Convert, bb: relax.BlockBuilder, inputs: Sequence[Any], attrs: Mapping[str, Any], params: Any) -> relax.Expr:
    """Convert 0, 1, ... up to a size: as many as that says. TVM's converter gives them a length of its own, equal to no other."""
    start, limit, step = inputs
    if is_prim_expr(limit) and limit.ty.dtype == "int64" and (_number(start), _number(step)) == (0, 1):
        return relax.op.arange(0, limit, 1, "int64")
    return plain(bb, inputs, attrs, params)


def _number(value: Any) -> int | None:
    """Return a stored integer; None for anything else."""
    if isinstance(value, tirx.IntImm):
        return int(value)
    if isinstance(value, GenericConst) and str(value.ty.dtype.dtype) == "int64" and view(value.value).size == 1:
        return int(view(value.value).reshape(()))
    return None


# cell: how the rows of a weight lie in ONNX, by the places that the gates have in `recurrence`
ORDERS = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
DEFAULTS = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn_tanh": ("Tanh",), "rnn_relu": ("Relu",)}


def _lstm(bb: relax.BlockBuilder, inputs: Any, attrs: Mapping[str, Any], _params: Any) -> relax.Expr:
    return _recurrent(bb, "lstm", inputs, attrs)


def _gru(bb: relax.BlockBuilder, inputs: Any, attrs: Mapping[str, Any], _params: Any) -> relax.Expr:
    if not attrs.get("linear_before_reset"):
        raise NotImplementedError("it resets before its product; export it with linear_before_reset")
    return _recurrent(bb, "gru", inputs, attrs)


def _rnn(bb: relax.BlockBuilder, inputs: Any, attrs: Mapping[str, Any], _params: Any) -> relax.Expr:
    relu = _texts(attrs.get("activations", ()))[:1] == ["Relu"]
    return _recurrent(bb, "rnn_relu" if relu else "rnn_tanh", inputs, attrs)


CELLS: dict[str, Convert] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _recurrent(bb: relax.BlockBuilder, cell: str, inputs: Any, attrs: Mapping[str, Any]) -> relax.Expr:
    """Convert a layer, in one direction or both: y (T, D, B, H) and the last states (D, B, H)."""
    direction = _texts([attrs.get("direction", b"forward")])[0]
    both = direction == "bidirectional"
    usual = list(DEFAULTS[cell]) * (2 if both else 1)
    if _texts(attrs.get("activations", usual)) != usual or attrs.get("layout") or attrs.get("clip") or attrs.get("input_forget"):
        raise NotImplementedError("it has activations, a layout or a clip of its own; export torch's layer as it is")
    x, w, r, b, lengths, *rest = (inputs[place] for place in range(8))
    if lengths is not None or rest[2] is not None:
        raise NotImplementedError("it has lengths of sequences, or peepholes; export it without")
    emit, states = bb.emit, 2 if cell == "lstm" else 1
    hidden = int(attrs["hidden_size"])
    results = []
    for place, reverse in enumerate((False, True) if both else (direction == "reverse",)):
        biases = np.split(_array(b)[place], 2) if b is not None else [None, None]
        of_input, of_input_bias, of_state, of_state_bias = (
            None if part is None else relax.const(np.ascontiguousarray(_ordered(part, cell, hidden)))
            for part in (_array(w)[place], biases[0], _array(r)[place], biases[1])
        )
        gates = emit(relax.op.linear(x, of_input, of_input_bias))
        initial = [_state(emit, x, state, place, hidden) for state in rest[:states]]
        product = emit(relax.op.linear(emit(recurrent_state(initial[0], gates)), of_state, of_state_bias))
        result = emit(recurrence(gates, *initial, product, cell=cell, reverse=reverse))
        results.append([emit(relax.TupleGetItem(result, part)) for part in range(1 + states)])
    y, *last = ([parts[part] for parts in results] for part in range(1 + states))
    stacked = [emit(relax.op.stack(y, axis=1)), *(emit(relax.op.stack(state, axis=0)) for state in last)]
    return relax.Tuple(stacked)


def _ordered(rows: Array, cell: str, hidden: int) -> Array:
    """Return the rows of a weight or a bias in the order of the gates of `recurrence`."""
    return rows.reshape(-1, hidden, *rows.shape[1:])[list(ORDERS[cell])].reshape(rows.shape)


def _state(emit: Any, x: relax.Expr, state: relax.Expr | None, place: int, hidden: int) -> relax.Expr:
    """Return the first state (B, H) of a direction: zeros where the model gives none."""
    if state is None:
        return emit(relax.op.zeros((x.ty.shape[1], hidden), str(x.ty.dtype.dtype)))
    return emit(relax.op.squeeze(emit(relax.op.strided_slice(state, [0], [place], [place + 1])), [0]))


def _array(constant: relax.Expr) -> Array:
    if not isinstance(constant, GenericConst):
        raise NotImplementedError("its weights are computed in every call; store them")
    return view(constant.value)


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
