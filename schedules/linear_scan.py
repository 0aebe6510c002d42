"""A linear recurrence over time, as in state space models (Mamba), on a CPU: one pass over its operands, the state in registers.

    for each batch and channel                                  in parallel
      for each time
        state = a[batch, channel, time] * state + b[batch, channel, time]         of N elements
        states[batch, channel, time] = state                    or, if c reads it out,
        y[batch, channel, time] = sum over N of state * c[batch, time]

Channels are divided among threads, and so are the columns of `states` where there are few of them. Columns are vectors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM

MOST_LANES = 64  # columns in registers: four vectors of AVX-512
GPU_THREADS = 64  # of a block


@dataclass(frozen=True)
class LinearScan:
    """What a function computes.

    Parameters
    ----------
    batch, channels, length : int or expression
        States side by side, and steps.
    columns : int
        Elements of a state.
    reads : bool
        Whether c reads the states out; if not, all of them are the result.
    dtype : str
        float32 or float64.
    """

    batch: Any
    channels: Any
    length: Any
    columns: int
    reads: bool
    dtype: str


def prim_func(of: LinearScan, gpu: bool = False) -> tirx.PrimFunc:
    """Return the function of (a (B, D, T, N), b (B, D, T, N), start (B, D, N), states (B, D, T, N)), or where c reads the states
    out, of (a, b, start, c (B, T, N), y (B, D, T), last (B, D, N)).
    """
    return _Function(of).prim_func(gpu)


class _Function:
    """The buffers of a function, and the statements on them."""

    def __init__(self, of: LinearScan) -> None:
        self.of, outer, n = of, (of.batch, of.channels), of.columns
        self.a, self.b = (_buffer((*outer, of.length, n), name, of.dtype) for name in "ab")
        self.start = _buffer((*outer, n), "start", of.dtype)
        self.out = _buffer((*outer, of.length, *([] if of.reads else [n])), "y" if of.reads else "states", of.dtype)
        self.c = _buffer((of.batch, of.length, n), "c", of.dtype) if of.reads else None
        self.last = _buffer((*outer, n), "last", of.dtype) if of.reads else None
        self.time = tirx.Var("time", "int64")

    def prim_func(self, gpu: bool) -> tirx.PrimFunc:
        body = self.on_gpu() if gpu else self.on_cpu()
        root = _realize(s_tir.SBlock([], [], [], "root", body))
        params = [one for one in (self.a, self.b, self.start, self.c, self.out, self.last) if one is not None]
        attrs = {"s_tir": True, "tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8}
        return tirx.PrimFunc(params, root).with_attrs(attrs)

    def on_cpu(self) -> Any:
        """Return the loops: over channels if states are read out, else over these and parts of the columns."""
        of, task = self.of, tirx.Var("task", "int64")
        width = of.columns if of.reads else min(of.columns, MOST_LANES)
        parts = -(-of.columns // width)
        number, first = task, int64(0)
        if parts > 1:  # the last part begins so that it ends with the columns: some are computed twice, alike
            number, first = task // parts, tirx.min(task % parts * width, int64(of.columns - width))
        kept = _buffer((width,), "state", of.dtype, "local")
        scratch = [kept, *([_buffer((width,), "products", of.dtype, "local")] if of.reads else [])]
        block = _realize(s_tir.SBlock([], [], [], "row", self.over_time(self.row(number), first, width, scratch), None, scratch))
        sizes = (of.batch, of.channels, of.length)
        known = all(isinstance(size, (int, tirx.IntImm)) for size in sizes)
        large = not known or math.prod(map(int, sizes)) * of.columns >= PARALLEL_FROM
        tasks = self.a.shape[0] * self.a.shape[1] * parts
        return tirx.For(task, int64(0), tasks, tirx.ForKind.PARALLEL if large else tirx.ForKind.SERIAL, block)

    def row(self, number: Any) -> tuple[Any, Any]:
        """Return the batch and the channel of a state."""
        return number // self.a.shape[1], number % self.a.shape[1]

    def over_time(self, row: tuple[Any, Any], first: Any, width: int, scratch: Sequence[tirx.Buffer]) -> Any:
        """Return the statements for some columns of a row."""
        state, spans = scratch[0], _spans(width)
        begin = [
            _store(state, self.start[(*row, _columns(first + at, lanes))], _columns(int64(at), lanes)) for at, lanes in spans
        ]
        step, ends = [], []
        for at, lanes in spans:
            here, there = _columns(int64(at), lanes), _columns(first + at, lanes)
            value = self.a[(*row, self.time, there)] * state[here] + self.b[(*row, self.time, there)]
            step.append(_store(state, value, here))
            if self.c is None:
                step.append(_store(self.out, state[here], *row, self.time, there))
            else:
                step.append(_store(scratch[1], state[here] * self.c[row[0], self.time, there], here))
                ends.append(_store(self.last, state[here], *row, there))
        if self.c is not None:
            step.append(_store(self.out, _sum(scratch[1], 0, width), *row, self.time))
        loop = tirx.For(self.time, int64(0), self.a.shape[2], tirx.ForKind.SERIAL, _sequence(step))
        return _sequence([*begin, loop, *ends])

    def on_gpu(self) -> Any:
        """Return a kernel with a thread for each channel if states are read out, else for each column of one."""
        of, thread, block, column = self.of, *(tirx.Var(name, "int64") for name in ("thread", "block", "column"))
        place = block * GPU_THREADS + thread
        width = of.columns if of.reads else 1
        count = self.a.shape[0] * self.a.shape[1] * (of.columns // width)
        number, first = (place, int64(0)) if of.reads else (place // of.columns, place % of.columns)
        row = self.row(number)
        state = _buffer((width,), "state", of.dtype, "local")
        total = _buffer((1,), "total", of.dtype, "local")

        def each(*body: Any) -> Any:
            return tirx.For(column, int64(0), int64(width), tirx.ForKind.SERIAL, _sequence(list(body)))

        at = first + column
        value = self.a[(*row, self.time, at)] * state[column] + self.b[(*row, self.time, at)]
        if self.c is None:
            step = [each(_store(state, value, column), _store(self.out, state[column], *row, self.time, at))]
            ends = []
        else:
            read = state[column] * self.c[row[0], self.time, at]
            step = [
                _store(total, tirx.const(0.0, of.dtype), int64(0)),
                each(_store(state, value, column), _store(total, total[int64(0)] + read, int64(0))),
                _store(self.out, total[int64(0)], *row, self.time),
            ]
            ends = [each(_store(self.last, state[column], *row, at))]
        loop = tirx.For(self.time, int64(0), self.a.shape[2], tirx.ForKind.SERIAL, _sequence(step))
        work = _sequence([each(_store(state, self.start[(*row, at)], column)), loop, *ends])
        inner = _realize(s_tir.SBlock([], [], [], "row", tirx.IfThenElse(place < count, work, None), None, [state, total]))
        for var, extent, tag in ((thread, int64(GPU_THREADS), "threadIdx.x"), (block, -(-count // GPU_THREADS), "blockIdx.x")):
            axis = tirx.IterVar(None, var, tirx.IterVar.ThreadIndex, tag)
            inner = tirx.For(var, int64(0), extent, tirx.ForKind.THREAD_BINDING, inner, thread_binding=axis)
        return inner


def _spans(width: int) -> list[tuple[int, int]]:
    """Return vectors that cover some columns, as (first, lanes)."""
    return [(at, min(MOST_LANES, width - at)) for at in range(0, width, MOST_LANES)]


def _sum(buffer: tirx.Buffer, first: int, width: int) -> Any:
    """Return the sum of some elements: halves are added as vectors as long as they are equal."""
    parts = []
    while width:
        lanes = 1 << min(width.bit_length() - 1, MOST_LANES.bit_length() - 1)
        parts.append(_halved(buffer, first, lanes))
        first, width = first + lanes, width - lanes
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _halved(buffer: tirx.Buffer, first: int, lanes: int) -> Any:
    """Return the sum of 2^n elements, as sums of vectors of four, and then of numbers."""
    if lanes < 8:
        return _pairs([buffer[int64(first + at)] for at in range(lanes)])
    vectors = [buffer[_columns(int64(first + at), 4)] for at in range(0, lanes, 4)]
    four = tirx.Var("four", vectors[0].ty)
    numbers = [tirx.Shuffle([four], [tirx.IntImm("int32", at)]) for at in range(4)]
    return tirx.Let(four, _pairs(vectors), _pairs(numbers))


def _pairs(terms: list[Any]) -> Any:
    """Return a sum by pairs."""
    while len(terms) > 1:
        terms = [terms[at] + terms[at + 1] if at + 1 < len(terms) else terms[at] for at in range(0, len(terms), 2)]
    return terms[0]


def _buffer(shape: tuple[Any, ...], name: str, dtype: str, scope: str = "global") -> tirx.Buffer:
    return tirx.decl_buffer([int64(size) if isinstance(size, int) else size for size in shape], dtype, name, scope=scope)


def _realize(block: Any) -> Any:
    return s_tir.SBlockRealize([], tirx.IntImm("bool", 1), block)


def _store(buffer: tirx.Buffer, value: Any, *place: Any) -> Any:
    return tirx.BufferStore(buffer, value, list(place))


def _columns(first: Any, lanes: int) -> Any:
    return first if lanes == 1 else tirx.Ramp(first, int64(1), lanes)


def _sequence(statements: list[Any]) -> Any:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
