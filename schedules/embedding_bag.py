"""Sums, means or maxima of the rows of a table, a bag of them for each row of the result, on a CPU: rows are read where they lie.

    for each bag                                              in parallel
      for each part of the columns                            in registers
        for each of its places
          add the row of the table, or keep the larger values
        write the sum, the mean or the maximum

A bag begins at its offset and ends where the next one begins. A place outside of the table makes its bag NaN, and one that is the
padding is passed over. A bag of nothing gives 0.
"""

import math
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.core.dtypes import HALF_PRECISION
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM

MOST_LANES = 256  # columns in registers: sixteen vectors of AVX-512
SUM, MEAN, MAX = "sum", "mean", "max"


@dataclass(frozen=True)
class EmbeddingBag:
    """What a function computes.

    Parameters
    ----------
    table : tuple
        Rows and columns; the columns are a number.
    places, offsets : int or expression
        How many there are.
    mode : str
        SUM, MEAN or MAX.
    padding : int
        The place that is passed over; none if below 0.
    ends : bool
        Whether the last offset is the end of the last bag, and not the beginning of one.
    weighted : bool
        Whether each place has a weight, by which its row is multiplied.
    dtype, place_dtype : str
        Of the table, weights and result; of places and offsets.
    """

    table: tuple[Any, int]
    places: Any
    offsets: Any
    mode: str
    padding: int
    ends: bool
    weighted: bool
    dtype: str
    place_dtype: str

    @property
    def bags(self) -> Any:
        """Rows of the result."""
        return self.offsets - 1 if self.ends else self.offsets


def prim_func(of: EmbeddingBag) -> tirx.PrimFunc:
    """Return the function of (table, places, offsets[, weights], result); half precision is summed in float32."""
    return _Function(of).prim_func()


class _Function:
    """The buffers of a function, and the statements on them."""

    def __init__(self, of: EmbeddingBag) -> None:
        self.of, columns = of, of.table[1]
        self.wide = "float32" if of.dtype in HALF_PRECISION else of.dtype
        self.table = _buffer(of.table, "table", of.dtype)
        self.places = _buffer((of.places,), "places", of.place_dtype)
        self.offsets = _buffer((of.offsets,), "offsets", of.place_dtype)
        self.weights = _buffer((of.places,), "weights", of.dtype) if of.weighted else None
        self.result = _buffer((of.bags, columns), "result", of.dtype)
        self.values = _buffer((min(columns, MOST_LANES),), "values", self.wide, "local")
        self.count = _buffer((1,), "count", "int64", "local")

    def prim_func(self) -> tirx.PrimFunc:
        bag, part = tirx.Var("bag", "int64"), tirx.Var("part", "int64")
        whole, rest = divmod(self.of.table[1], MOST_LANES)
        parts = [tirx.For(part, int64(0), int64(whole), tirx.ForKind.SERIAL, self.part(bag, part * MOST_LANES, MOST_LANES))]
        parts = (parts if whole else []) + ([self.part(bag, int64(whole * MOST_LANES), rest)] if rest else [])
        body = tirx.SeqStmt(parts) if len(parts) > 1 else parts[0]
        block = _realize(s_tir.SBlock([], [], [], "bag", body, None, [self.values, self.count]))
        kind = tirx.ForKind.PARALLEL if _is_large(self.of) else tirx.ForKind.SERIAL
        root = _realize(s_tir.SBlock([], [], [], "root", tirx.For(bag, int64(0), self.result.shape[0], kind, block)))
        params = [self.table, self.places, self.offsets, *([] if self.weights is None else [self.weights]), self.result]
        attrs = {"s_tir": True, "tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8}
        return tirx.PrimFunc(params, root).with_attrs(attrs)

    def part(self, bag: Any, first: Any, width: int) -> Any:
        """Return the statements for some columns of a bag."""
        number, count, all_ = tirx.Var("number", "int64"), self.count[int64(0)], _vector(int64(0), width)
        begin, end = self.bounds(bag)
        done = self.values[all_]
        if self.of.mode == MEAN:
            done = done / _spread(tirx.Cast(self.wide, tirx.max(count, int64(1))), width)
        return tirx.SeqStmt(
            [
                tirx.BufferStore(self.values, _spread(tirx.const(0.0, self.wide), width), [all_]),
                tirx.BufferStore(self.count, int64(0), [int64(0)]),
                tirx.For(number, int64(0), end - begin, tirx.ForKind.SERIAL, self.row(begin + number, first, width)),
                tirx.BufferStore(self.result, _cast(self.of.dtype, done, width), [bag, _vector(first, width)]),
            ]
        )

    def bounds(self, bag: Any) -> tuple[Any, Any]:
        """Return where a bag begins and ends, within the places whatever its offsets say."""
        last = int64(self.of.places) if isinstance(self.of.places, int) else self.of.places
        begin = tirx.Cast("int64", self.offsets[bag])
        following = tirx.Cast("int64", self.offsets[tirx.min(bag + 1, self.offsets.shape[0] - 1)])
        end = following if self.of.ends else tirx.Select(bag + 1 < self.offsets.shape[0], following, last)
        begin = tirx.max(tirx.min(begin, last), int64(0))
        return begin, tirx.max(tirx.min(end, last), begin)

    def row(self, at: Any, first: Any, width: int) -> Any:
        """Return the statement that takes one row in."""
        all_, place = _vector(int64(0), width), tirx.Cast("int64", self.places[at])
        inside = tirx.And(place >= 0, place < self.table.shape[0])
        row = _cast(self.wide, self.table[place, _vector(first, width)], width)
        if self.weights is not None:
            row = row * _spread(tirx.Cast(self.wide, self.weights[at]), width)
        values, count = self.values[all_], self.count[int64(0)]
        taken = values + row
        if self.of.mode == MAX:  # the first row as it is; NaN is larger than nothing, as torch has it
            taken = tirx.Select(tirx.Or(row > values, _spread(count.equal(0), width)), row, values)
        nan = _spread(tirx.const(math.nan, self.wide), width)
        take = tirx.SeqStmt(
            [
                tirx.IfThenElse(inside, tirx.BufferStore(self.values, taken, [all_]), tirx.BufferStore(self.values, nan, [all_])),
                tirx.BufferStore(self.count, count + 1, [int64(0)]),
            ]
        )
        return tirx.IfThenElse(place.equal(self.of.padding), tirx.Evaluate(int64(0)), take) if self.of.padding >= 0 else take


def _is_large(of: EmbeddingBag) -> bool:
    sizes = (of.places, of.bags)
    known = all(isinstance(size, (int, tirx.IntImm)) for size in sizes)
    return not known or (int(of.bags) > 1 and int(of.places) * of.table[1] >= PARALLEL_FROM)


def _buffer(shape: tuple[Any, ...], name: str, dtype: str, scope: str = "global") -> tirx.Buffer:
    sizes = [int64(size) if isinstance(size, int) else size for size in shape]
    return tirx.decl_buffer(sizes, dtype, name, scope=scope)


def _realize(block: Any) -> Any:
    return s_tir.SBlockRealize([], tirx.IntImm("bool", 1), block)


def _vector(first: Any, width: int) -> Any:
    return tirx.Ramp(first, int64(1), width) if width > 1 else first


def _spread(value: Any, width: int) -> Any:
    return tirx.Broadcast(value, width) if width > 1 else value


def _cast(dtype: str, value: Any, width: int) -> Any:
    return tirx.Cast(f"{dtype}x{width}" if width > 1 else dtype, value)
