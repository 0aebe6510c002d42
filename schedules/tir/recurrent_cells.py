"""Cells of recurrent layers as TensorIR: what a step makes of its gates and its state, element by element, in vectors.

With x the gates of the input and p those of the state, each of `units` columns a gate in torch's order:

    lstm        c = sigmoid(x_f + p_f) * c + sigmoid(x_i + p_i) * tanh(x_g + p_g);  h = sigmoid(x_o + p_o) * tanh(c)
    gru         n = tanh(x_n + sigmoid(x_r + p_r) * p_n);  h = n + sigmoid(x_z + p_z) * (h - n)
    rnn_tanh    h = tanh(x + p)
    rnn_relu    h = max(x + p, 0)

The gates may be in half precision. All else is float32, or float64: what rounds to half precision is a copy, because TVM rounds
to bfloat16 by an expression that has the value twice, and with it the variables that are bound in it.
"""

from collections.abc import Callable
from typing import Any

from tvm import tirx

from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir import activations
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM

LANES = 16  # of a vector: two registers of AVX2, one of AVX-512
GPU_THREADS = 256  # of a block
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
Columns = Any  # the columns of a vector, or one column
Gate = Callable[[int], Any]  # the number of a gate to its values
Store = Callable[[Any, Columns], list[Any]]  # (row, columns) to the statements that store there


def cell(kind: str, x: tirx.Buffer, p: tirx.Buffer, states: list[tirx.Buffer], at: Callable[..., Any], gpu: bool = False) -> Any:
    """Return the statement that computes a cell of `kind` for all rows of a batch.

    Parameters
    ----------
    kind : str
        One of GATES.
    x : buffer
        The gates of the input, for all steps: (T, B, G * H), or (B, T, G * H).
    p : buffer (B, G * H)
        The gates of the state, in the same order.
    states : list of buffers
        h (B, H), and for an LSTM c (B, H), float32 or float64; both are written.
    at : callable
        (row, columns) to the indices of them in x, at the step that is computed.
    gpu : bool
        Whether it is a kernel of a GPU.
    """
    rows, units = states[0].shape

    def store(row: Any, columns: Columns) -> list[Any]:
        def of_input(gate: int) -> Any:
            return _wide(x[at(row, columns + _like(gate * units, columns))])

        def of_state(gate: int) -> Any:
            return _wide(p[row, columns + _like(gate * units, columns)])

        return CELLS[kind](of_input, of_state, states, row, columns)

    return for_each(rows, units, states[0].dtype, store, gpu, PARALLEL_FROM)


def for_each(rows: Any, columns: Any, dtype: str, store: Store, gpu: bool, threads_from: int | None = None) -> Any:
    """Return loops over a matrix: in vectors along its columns, one by one in float64 and on a GPU.

    Rows are divided among a CPU's threads if the matrix is known to have `threads_from` elements.
    """
    row, number, count = tirx.Var("row", "int64"), tirx.Var("vector", "int64"), int(columns)
    if gpu:
        return _on_gpu(rows, count, store)
    lanes, parts = (1 if dtype == "float64" else LANES), []
    if count >= lanes:
        parts.append(_loop(number, int64(count // lanes), store(row, _columns(number * lanes, lanes))))
    if count % lanes:
        parts.extend(store(row, _columns(int64(count // lanes * lanes), count % lanes)))
    many = threads_from is not None and isinstance(rows, tirx.IntImm) and rows.value > 1 and rows.value * count >= threads_from
    return _loop(row, rows, parts, tirx.ForKind.PARALLEL if many else tirx.ForKind.SERIAL)


def _on_gpu(rows: Any, columns: int, store: Store) -> Any:
    """Return a kernel with a thread for each element."""
    block, thread = tirx.Var("block", "int64"), tirx.Var("thread", "int64")
    place = block * GPU_THREADS + thread
    body = tirx.IfThenElse(place < rows * columns, _sequence(store(place // columns, place % columns)), None)
    for var, extent, tag in (
        (thread, int64(GPU_THREADS), "threadIdx.x"),
        (block, -(-rows * columns // GPU_THREADS), "blockIdx.x"),
    ):
        axis = tirx.IterVar(None, var, tirx.IterVar.ThreadIndex, tag)
        body = tirx.For(var, int64(0), extent, tirx.ForKind.THREAD_BINDING, body, thread_binding=axis)
    return body


def copy(
    source: tirx.Buffer, target: tirx.Buffer, gpu: bool, at: Callable[..., Any] = lambda row, columns: (row, columns)
) -> Any:
    """Return the statement that copies a matrix into another, of any dtype, to the indices that `at` gives."""

    def store(row: Any, columns: Columns) -> list[Any]:
        value, lanes = source[row, columns], columns.ty.dtype.lanes
        dtype = target.dtype if lanes == 1 else f"{target.dtype}x{lanes}"
        same = source.dtype == target.dtype
        return [tirx.BufferStore(target, value if same else tirx.Cast(dtype, value), list(at(row, columns)))]

    rows, columns = source.shape
    return for_each(rows, columns, source.dtype, store, gpu)


def _lstm(x: Gate, p: Gate, states: list[tirx.Buffer], row: Any, at: Columns) -> list[Any]:
    def gate(number: int, function: str) -> Any:
        return _apply(function, x(number) + p(number))

    h, c = states
    update = gate(1, "sigmoid") * c[row, at] + gate(0, "sigmoid") * gate(2, "tanh")
    return [
        tirx.BufferStore(c, update, [row, at]),
        tirx.BufferStore(h, gate(3, "sigmoid") * _apply("tanh", c[row, at]), [row, at]),
    ]


def _gru(x: Gate, p: Gate, states: list[tirx.Buffer], row: Any, at: Columns) -> list[Any]:
    update, h = _apply("sigmoid", x(1) + p(1)), states[0]
    new = _apply("tanh", x(2) + _apply("sigmoid", x(0) + p(0)) * p(2))
    return [tirx.BufferStore(h, _bind(new, lambda n: n + update * (h[row, at] - n)), [row, at])]


def _rnn(function: str) -> Callable[..., list[Any]]:
    def rnn(x: Gate, p: Gate, states: list[tirx.Buffer], row: Any, at: Columns) -> list[Any]:
        return [tirx.BufferStore(states[0], _apply(function, x(0) + p(0)), [row, at])]

    return rnn


CELLS = {"lstm": _lstm, "gru": _gru, "rnn_tanh": _rnn("tanh"), "rnn_relu": _rnn("relu")}
FLOAT32 = {"sigmoid": activations.sigmoid, "tanh": activations.tanh, "relu": activations.relu}
FLOAT64 = {
    "sigmoid": lambda x: tirx.const(1.0, "float64") / (tirx.const(1.0, "float64") + tirx.exp(-x)),
    "tanh": tirx.tanh,
    "relu": lambda x: tirx.max(tirx.const(0.0, "float64"), x),
}


def _apply(function: str, x: Any) -> Any:
    """Apply a function to a value that is bound once: a polynomial reads its argument many times."""
    return _bind(x, (FLOAT64 if str(x.ty.dtype) == "float64" else FLOAT32)[function])


def _bind(value: Any, body: Callable[[Any], Any]) -> Any:
    variable = tirx.Var("v", value.ty)
    return tirx.Let(variable, value, body(variable))


def _wide(value: Any) -> Any:
    """Return a value in float32 at least. TVM would convert a bfloat16 that is bound by its bits, as if they were an integer."""
    dtype, lanes = str(value.ty.dtype).partition("x")[0], value.ty.dtype.lanes

    def vector(of: str) -> str:
        return of if lanes == 1 else f"{of}x{lanes}"

    if dtype == "bfloat16":
        bits = tirx.Cast(vector("uint32"), tirx.reinterpret(vector("uint16"), value))
        return tirx.reinterpret(vector("float32"), bits << _like_lanes(tirx.const(16, "uint32"), lanes))
    return tirx.Cast(vector("float32"), value) if dtype == "float16" else value


def _columns(first: Any, lanes: int) -> Columns:
    return first if lanes == 1 else tirx.Ramp(first, int64(1), lanes)


def _like(value: Any, columns: Columns) -> Any:
    return _like_lanes(value, columns.ty.dtype.lanes)


def _like_lanes(value: Any, lanes: int) -> Any:
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def _loop(variable: tirx.Var, extent: Any, body: list[Any], kind: Any = tirx.ForKind.SERIAL) -> Any:
    return tirx.For(variable, int64(0), extent, kind, _sequence(body))


def _sequence(statements: list[Any]) -> Any:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
