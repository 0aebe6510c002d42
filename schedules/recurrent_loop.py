"""One function of a recurrent layer in one direction: a loop over time around scheduled functions and a cell.

Whatever computes the products of a step, a kernel of ours or a function of TVM's, is taken into the loop as it is, with its
schedule. The function takes

    (gates, initial_h[, initial_c], *what the products read, y, h[, c], *scratch)

where h and c are the state, which every step reads and writes, and hold the last state afterwards. The scratch is what the
products write, and for a projected LSTM what the cell gives.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.core.dtypes import HALF_PRECISION
from tvm_balanced.schedules.base.expressions import int64, substitute
from tvm_balanced.schedules.tir import recurrent_cells
from tvm_balanced.schedules.tir.loops import without_threads

STATE = "state"  # the operand that is the state
# A step uses threads from so many weights on, times the rows of the state. An LSTM of 512 units at 2:16 has 147,456: a step takes
# 32 us in one thread and 159 us in two, because waking the other thread takes longer than it saves.
THREADS_FROM = 1 << 18


@dataclass(frozen=True)
class Call:
    """A call of a function in a step, with its result as the last parameter.

    Parameters
    ----------
    func : PrimFunc
        Scheduled.
    operands : tuple
        For each other parameter STATE, the place of an earlier call of the same product, or None for a tensor from outside
        the loop.
    """

    func: tirx.PrimFunc
    operands: tuple[str | int | None, ...]


Product = Sequence[Call]  # of which the last call gives the result


@dataclass(frozen=True)
class Recurrence:
    """A recurrent layer in one direction, as `ops.recurrence` has it.

    Parameters
    ----------
    cell : str
        One of recurrent_cells.GATES.
    length, batch : int or None
        Steps, and rows of the state; None if they are known only at the call.
    units, width : int
        Columns of what the cell gives, and of h; equal unless h is projected.
    dtype : str
    reverse, batch_first : bool
    """

    cell: str
    length: int | None
    batch: int | None
    units: int
    width: int
    dtype: str
    reverse: bool = False
    batch_first: bool = False


def prim_func(layer: Recurrence, products: Sequence[Product], gpu: bool = False) -> tirx.PrimFunc:
    """Return the function of a layer: the product of h, and that of the cell's result if the layer projects it.

    On a GPU the loop runs on the host and launches the kernels of every step.
    """
    return _Loop(layer, gpu).prim_func(products)


class _Loop:
    """The buffers of a loop."""

    def __init__(self, layer: Recurrence, gpu: bool) -> None:
        self.layer, self.gpu = layer, gpu
        self.batch, self.length = (
            tirx.Var(name, "int64") if size is None else int64(size)
            for name, size in (("batch", layer.batch), ("length", layer.length))
        )
        gates = recurrent_cells.GATES[layer.cell] * layer.units
        widths = {"h": layer.width, **({"c": layer.units} if layer.cell == "lstm" else {})}
        self.gates = self._over_time(gates, "gates")
        self.initial = [self._buffer((self.batch, int64(width)), f"initial_{name}") for name, width in widths.items()]
        self.y = self._over_time(layer.width, "y")
        self.states = [self._buffer((self.batch, int64(width)), name) for name, width in widths.items()]
        self.outside: list[tirx.Buffer] = []
        self.scratch: list[tirx.Buffer] = []
        self.time = tirx.Var("time", "int64")

    def prim_func(self, products: Sequence[Product]) -> tirx.PrimFunc:
        h, projected = self.states[0], len(products) > 1
        first, gates = self.product(products[0], h)
        out = self._scratch(self.layer.units, "hidden") if projected else h
        # what the cell keeps, in float32 at least: sums of many steps would be lost in half precision
        kept = [self._kept(buffer) for buffer in (out, *self.states[1:])]
        step = [
            *first,
            recurrent_cells.cell(self.layer.cell, self.gates, gates, kept, self.at, self.gpu),
            *self._copies(kept[:1], [out]),
        ]
        for product in products[1:]:
            statements, result = self.product(product, out)
            step += [*statements, recurrent_cells.copy(result, h, self.gpu)]
        step.append(recurrent_cells.copy(h, self.y, self.gpu, self.at))
        # a projected layer has an h of its own, and what its cell gives has no first value
        begun = dict(zip([*self.states[projected:], *kept[projected:]], self.initial[projected:] * 2, strict=True))
        start = self._copies([*self.initial[:projected], *begun.values()], [*self.states[:projected], *begun])
        number = tirx.Var("step", "int64")
        time = self.length - 1 - number if self.layer.reverse else number
        body = substitute(tirx.SeqStmt(step), [(self.time, time)])
        loop = tirx.For(number, int64(0), self.length, tirx.ForKind.SERIAL, body)
        root = s_tir.SBlock([], [], [], "root", tirx.SeqStmt([*start, loop, *self._copies(kept[1:], self.states[1:])]))
        params = [self.gates, *self.initial, *self.outside, self.y, *self.states, *self.scratch]
        whole = s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root)
        return tirx.PrimFunc(params, whole).with_attrs({"s_tir": True, "tirx.noalias": True, "tirx.is_scheduled": True})

    def product(self, calls: Product, state: tirx.Buffer) -> tuple[list[Any], tirx.Buffer]:
        """Return the statements of a product of `state`, and the buffer of its result."""
        results: list[tirx.Buffer] = []
        statements = []
        for call in calls:
            symbols = self._symbols(call, state, results)
            buffers = []
            for param, operand in itertools.zip_longest(call.func.params, call.operands):
                if operand == STATE:
                    buffers.append(state)
                elif isinstance(operand, int):
                    buffers.append(results[operand])
                else:
                    shape = [substitute(size, symbols) for size in param.shape]
                    buffers.append(self._buffer(shape, param.name.removesuffix("_"), param.dtype))
            *read, result = buffers
            self.outside += [buffer for buffer, operand in zip(read, call.operands, strict=True) if operand is None]
            self.scratch.append(result)
            results.append(result)
            statements.append(substitute(self._threaded(call).body, [*zip(call.func.params, buffers, strict=True), *symbols]))
        return statements, results[-1]

    def _threaded(self, call: Call) -> tirx.PrimFunc:
        """Return a function without its threads if a step has too little work for them."""
        outside = (param for param, operand in zip(call.func.params, call.operands, strict=False) if operand is None)
        numbers = sum(math.prod(map(int, param.shape)) for param in outside)
        return call.func if numbers * (self.layer.batch or 1) >= THREADS_FROM else without_threads(call.func)

    def _symbols(self, call: Call, state: tirx.Buffer, results: Sequence[tirx.Buffer]) -> list[tuple[tirx.Var, Any]]:
        """Return what the symbols of a function's shapes are here."""
        found = {}
        for param, operand in zip(call.func.params, call.operands, strict=False):
            if operand is not None:
                given = state if operand == STATE else results[int(operand)]
                for symbol, size in zip(param.shape, given.shape, strict=True):
                    if isinstance(symbol, tirx.Var):
                        found[symbol] = size
        return list(found.items())

    def _kept(self, buffer: tirx.Buffer) -> tirx.Buffer:
        """Return the buffer in which the cell keeps what a buffer of the layer's dtype holds: itself, or one in float32."""
        half = buffer.dtype in HALF_PRECISION
        return self._scratch(buffer.shape[1], f"{buffer.name}_float32", "float32") if half else buffer

    def _scratch(self, width: Any, name: str, dtype: str | None = None) -> tirx.Buffer:
        self.scratch.append(self._buffer((self.batch, int64(int(width))), name, dtype))
        return self.scratch[-1]

    def _copies(self, sources: Sequence[tirx.Buffer], targets: Sequence[tirx.Buffer]) -> list[Any]:
        """Return the statements that copy each buffer to another, but for those that are the same."""
        pairs = zip(sources, targets, strict=True)
        return [recurrent_cells.copy(source, target, self.gpu) for source, target in pairs if not source.same_as(target)]

    def at(self, row: Any, columns: Any) -> tuple[Any, ...]:
        """Return the indices of a row's columns in a buffer over time, at the step that is computed."""
        return (row, self.time, columns) if self.layer.batch_first else (self.time, row, columns)

    def _over_time(self, width: int, name: str) -> tirx.Buffer:
        outer = (self.batch, self.length) if self.layer.batch_first else (self.length, self.batch)
        return self._buffer((*outer, int64(width)), name)

    def _buffer(self, shape: Sequence[Any], name: str, dtype: str | None = None) -> tirx.Buffer:
        return tirx.decl_buffer(list(shape), dtype or self.layer.dtype, name)
