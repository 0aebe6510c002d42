"""Write values to their places in a tensor where it lies: what scatter_elements, index_put and slice_scatter do, without a copy.

A place below 0 counts from the end, as in TVM. One out of range is left out.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.schedules.base.expressions import int64, variables
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM

MOST_LANES = 256  # of a row that is written as one vector, which LLVM cuts into registers
At = Callable[[Sequence[tirx.Var]], Sequence[Any]]  # from the indices of a value to its place


def prim_func(data: tirx.Buffer, places: Sequence[tirx.Buffer], values: tirx.Buffer, at: At) -> tirx.PrimFunc:
    """Return a function of (data, *places, values) that writes each value to its place in data, on a CPU.

    Parameters
    ----------
    data : buffer
    places : buffers of integers
        What `at` reads.
    values : buffer
        Of the dtype of data, one dimension or more.
    at : callable
        Returns the index of a value itself for the dimensions that values and data have in common.
    """
    loops = [tirx.Var(f"i{axis}", "int64") for axis in range(len(values.shape))]
    target = list(at(loops))
    common = [axis < len(loops) and place.same_as(loops[axis]) for axis, place in enumerate(target)]
    checks = []
    for axis, size in enumerate(data.shape):
        if not common[axis]:
            place = tirx.Cast("int64", target[axis])
            target[axis] = tirx.Select(place < 0, place + size, place)
            checks.append(tirx.And(target[axis] >= 0, target[axis] < size))
    body: Any = tirx.BufferStore(data, values[tuple(loops)], target)
    by_element = any(var.same_as(loops[-1]) for check in checks for var in variables(check))
    rows = common[-1] and len(data.shape) == len(loops) > 1 and not by_element  # of the last dimension, each with one place
    if rows:
        body = tirx.For(loops[-1], int64(0), values.shape[-1], _row_kind(values.shape[-1]), body)
    if checks:
        body = tirx.IfThenElse(reduce(tirx.And, checks), body, None)
    for axis in reversed(range(len(loops) - rows)):
        kind = tirx.ForKind.PARALLEL if axis == 0 and rows and common[0] and _is_large(values) else tirx.ForKind.SERIAL
        body = tirx.For(loops[axis], int64(0), values.shape[axis], kind, body)
    root = s_tir.SBlockRealize([], tirx.IntImm("bool", 1), s_tir.SBlock([], [], [], "root", body))
    attrs = {"s_tir": True, "tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8}
    return tirx.PrimFunc([data, *places, values], root).with_attrs(attrs)


def _row_kind(length: Any) -> Any:
    whole = isinstance(length, tirx.IntImm) and length.value <= MOST_LANES
    return tirx.ForKind.VECTORIZED if whole else tirx.ForKind.SERIAL


def _is_large(values: tirx.Buffer) -> bool:
    sizes = [size.value if isinstance(size, tirx.IntImm) else 1 for size in values.shape]
    return sizes[0] > 1 and reduce(int.__mul__, sizes) >= PARALLEL_FROM
