"""Statements of functions that are written as they are scheduled: buffers, loops, vectors of sixteen float32."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.schedules.base.expressions import int64, substitute

LANES = 16


def buffer(shape: Sequence[int], name: str, scope: str = "global", dtype: str = "float32") -> tirx.Buffer:
    """Return a buffer with 64-bit shapes."""
    return tirx.decl_buffer([int64(size) for size in shape], dtype, name, scope=scope)


def realize(block: s_tir.SBlock) -> s_tir.SBlockRealize:
    """Return a block without axes, as a statement."""
    return s_tir.SBlockRealize([], tirx.IntImm("bool", 1), block)


def store(target: tirx.Buffer, value: Any, *place: Any) -> tirx.BufferStore:
    """Return a store of a value at a place."""
    return tirx.BufferStore(target, value, list(place))


def sequence(statements: Sequence[Any]) -> Any:
    """Return statements one after the other."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def loop(variable: tirx.Var, start: int, end: Any, *body: Any) -> tirx.For:
    """Return a loop from a number to another."""
    moved = substitute(sequence(body), [(variable, variable + start)] if start else [])
    extent = int64(end - start) if isinstance(end, int) else end - start
    return tirx.For(variable, int64(0), extent, tirx.ForKind.SERIAL, moved)


def vector(first: Any) -> tirx.Ramp:
    """Return the places of sixteen elements."""
    return tirx.Ramp(first, int64(1), LANES)


def constant(value: float) -> tirx.FloatImm:
    """Return a float32 constant."""
    return tirx.const(value, "float32")


def broadcast(value: float) -> tirx.Broadcast:
    """Return sixteen equal float32 constants."""
    return tirx.Broadcast(constant(value), LANES)


def summed(terms: Sequence[Any]) -> Any:
    """Return the sum of expressions."""
    return reduce(lambda a, b: a + b, terms)


def combined(source: tirx.Buffer, combine: Callable[[Any, Any], Any]) -> Any:
    """Return sixteen elements of a buffer combined, one after the other."""
    return reduce(combine, [source[int64(lane)] for lane in range(LANES)])


def all_lanes(value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Return all lanes of a vector of sixteen combined, pairs first, in each lane of a vector."""
    lets, width = [], LANES // 2
    while width:
        name = tirx.Var(f"lanes_{width}", value.ty)
        lets.append((name, value))
        order = [tirx.IntImm("int32", lane ^ width) for lane in range(LANES)]
        value, width = combine(name, tirx.Shuffle([name], order)), width // 2
    for name, bound in reversed(lets):
        value = tirx.Let(name, bound, value)
    return value


def first_lane(value: Any) -> Any:
    """Return the first lane of a vector."""
    return tirx.Shuffle([value], [tirx.IntImm("int32", 0)])
