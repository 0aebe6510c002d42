"""Attention of a few queries over many keys on a CPU, as in decoding: keys and values are read once, where they lie.

    for each matrix of keys                                   in parallel
      for each query that reads it
        the range of keys that its mask leaves                what is masked before and behind it is not read
        scores = query . key, scaled and masked               sixteen keys at a time, summed after a transpose in registers
        powers = exp(scores - maximum), and their sum
        result = powers @ values / sum

A key counts as masked from LOWEST down: beside any other, its power is 0 in float32, unless scores differ by as much. If all keys
of a query are, all of them are read.
"""

import math
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.schedules.base.expressions import int64, substitute
from tvm_balanced.schedules.tir import activations
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM
from tvm_balanced.schedules.tir.register_transpose import transpose_registers
from tvm_balanced.schedules.tir.statements import (
    LANES,
    broadcast,
    buffer,
    combined,
    constant,
    loop,
    realize,
    store,
    summed,
    vector,
)
from tvm_balanced.schedules.tir.tiling import widened

LOWEST = -1e30
FLOPS = "estimated_flops"  # where TVM looks for it
SMALLEST_FLOAT = -3.4028234663852886e38
SMALLEST_SUM = 1e-37  # of powers, one of which is 1 unless a row is masked as a whole
Indices = tuple[Any, ...]


@dataclass(frozen=True)
class FewQueries:
    """What a function computes.

    Parameters
    ----------
    batch, heads, queries, length, depth : int
        Of queries (batch, heads, queries, depth) and of values; depth is a multiple of LANES.
    matrices : int
        Heads of keys and values (batch, matrices, length, depth), each read by heads / matrices heads of queries.
    mask : tuple of int or None
        Shape of what is added to scores (batch, heads, queries, length), or 1 for each of the first three.
    scale : float
        Of the products.
    safe : bool
        Whether a row of scores that are all -inf gives 0, as PyTorch's safe softmax, and not NaN.
    dtype : str
        Of keys and values, "float32" or half precision, which is widened as it is read.
    """

    batch: int
    heads: int
    queries: int
    length: int
    depth: int
    matrices: int
    mask: tuple[int, int, int, int] | None
    scale: float
    safe: bool
    dtype: str = "float32"

    @property
    def macs(self) -> int:
        """Multiply-adds of both products, if nothing is masked."""
        return 2 * self.batch * self.heads * self.queries * self.length * self.depth


def prim_func(of: FewQueries) -> tirx.PrimFunc:
    """Return the function of (queries, keys, values[, mask], result), float32 but for keys and values."""
    return _Function(of).prim_func()


class _Function:
    """The buffers of a function, and the statements on them."""

    def __init__(self, of: FewQueries) -> None:
        self.of = of
        self.queries = buffer((of.batch, of.heads, of.queries, of.depth), "queries")
        held = (of.batch, of.matrices, of.length, of.depth)
        self.keys, self.values = (buffer(held, name, dtype=of.dtype) for name in ("keys", "values"))
        self.mask = None if of.mask is None else buffer(of.mask, "mask")
        self.result = buffer((of.batch, of.heads, of.queries, of.depth), "result")
        self.blocks = -(-of.length // LANES)
        self.scores = buffer((self.blocks * LANES,), "scores")
        self.sums, self.largest, self.total = (buffer((n,), name, "local") for n, name in _registers(of.depth))
        self.bounds = buffer((2,), "bounds", "local", "int64")

    def prim_func(self) -> tirx.PrimFunc:
        of, task, number = self.of, tirx.Var("task", "int64"), tirx.Var("number", "int64")
        group = of.heads // of.matrices
        matrix = (task // of.matrices, task % of.matrices)
        row = (matrix[0], matrix[1] * group + number // of.queries, number % of.queries)
        scratch = [self.scores, self.sums, self.largest, self.total, self.bounds]
        body = loop(number, 0, group * of.queries, *self.row(row, matrix))
        block = realize(s_tir.SBlock([], [], [], "matrix", body, None, scratch))
        tasks = of.batch * of.matrices
        kind = tirx.ForKind.PARALLEL if tasks > 1 and of.macs >= PARALLEL_FROM else tirx.ForKind.SERIAL
        root = realize(s_tir.SBlock([], [], [], "root", tirx.For(task, int64(0), int64(tasks), kind, block)))
        params = [self.queries, self.keys, self.values, *([] if self.mask is None else [self.mask]), self.result]
        attrs = {"s_tir": True, "tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8, FLOPS: 2 * of.macs}
        return tirx.PrimFunc(params, root).with_attrs(attrs)

    def row(self, row: Indices, matrix: Indices) -> list[Any]:
        """Return the statements for one query."""
        return [*self.begin(row), *self.range_of_keys(), *self.score(row, matrix), *self.power(), *self.weigh(row, matrix)]

    def begin(self, row: Indices) -> list[Any]:
        """Put the mask into the scores; what lies behind the last key is masked."""
        key, end = tirx.Var("key", "int64"), self.blocks * LANES
        value: Any = constant(0.0)
        if self.mask is not None:
            place = (int64(0) if size == 1 else i for i, size in zip(row, self.mask.shape[:3], strict=True))
            value = self.mask[(*place, key)]
        behind = tirx.Var("behind", "int64")
        return [
            loop(key, 0, self.of.length, store(self.scores, value, key)),
            loop(behind, self.of.length, end, store(self.scores, constant(-math.inf), behind)),
        ]

    def range_of_keys(self) -> list[Any]:
        """Compute which blocks of sixteen keys have one that is not masked; all of them if there is none."""
        first, last = (self.bounds[int64(i)] for i in (0, 1))
        if self.mask is None:
            return [store(self.bounds, int64(0), int64(0)), store(self.bounds, int64(self.blocks), int64(1))]
        key = tirx.Var("key", "int64")
        seen = self.scores[key] > constant(LOWEST)
        block = key // LANES
        looking = [
            store(self.bounds, tirx.Select(seen, tirx.min(first, block), first), int64(0)),
            store(self.bounds, tirx.Select(seen, tirx.max(last, block + 1), last), int64(1)),
        ]
        none = [store(self.bounds, int64(0), int64(0)), store(self.bounds, int64(self.blocks), int64(1))]
        return [
            store(self.bounds, int64(self.blocks), int64(0)),
            store(self.bounds, int64(0), int64(1)),
            loop(key, 0, self.of.length, *looking),
            tirx.IfThenElse(last == 0, tirx.SeqStmt(none), None),
        ]

    def score(self, row: Indices, matrix: Indices) -> list[Any]:
        """Compute the scores of the range, and the largest of each lane."""
        block = tirx.Var("block", "int64")
        lanes, all_ = vector(block * LANES), vector(int64(0))
        keys = [block * LANES + j for j in range(LANES)]
        keys = keys if self.of.length % LANES == 0 else [tirx.min(key, int64(self.of.length - 1)) for key in keys]
        parts = [vector(int64(c)) for c in range(0, self.of.depth, LANES)]
        sums = [
            summed([self.queries[(*row, part)] * self.read(self.keys, (*matrix, key, part)) for part in parts]) for key in keys
        ]
        product = summed(transpose_registers(sums))
        return [
            store(self.largest, broadcast(SMALLEST_FLOAT), all_),
            self.over_blocks(
                block,
                store(self.scores, product * broadcast(self.of.scale) + self.scores[lanes], lanes),
                store(self.largest, tirx.max(self.largest[all_], self.scores[lanes]), all_),
            ),
        ]

    def read(self, buffer: tirx.Buffer, place: Indices) -> Any:
        """Return LANES keys or values in float32."""
        return widened(buffer[place], self.of.dtype, LANES)

    def power(self) -> list[Any]:
        """Compute the powers of the range, and their sum of each lane."""
        block, x = tirx.Var("block", "int64"), tirx.Var("x", f"float32x{LANES}")
        lanes, all_ = vector(block * LANES), vector(int64(0))
        largest = tirx.Broadcast(combined(self.largest, tirx.max), LANES)
        bound = tirx.Var("largest_of_all", largest.ty)
        power = tirx.Let(x, self.scores[lanes] - bound, activations.exp(x))
        return [
            store(self.total, broadcast(0.0), all_),
            store(self.largest, largest, all_),
            self.over_blocks(
                block,
                store(self.scores, tirx.Let(bound, self.largest[all_], power), lanes),
                store(self.total, self.total[all_] + self.scores[lanes], all_),
            ),
        ]

    def weigh(self, row: Indices, matrix: Indices) -> list[Any]:
        """Sum the values by their powers, and divide."""
        key, parts = tirx.Var("key", "int64"), [vector(int64(c)) for c in range(0, self.of.depth, LANES)]
        first, last = (self.bounds[int64(i)] * LANES for i in (0, 1))
        count = tirx.min(last, int64(self.of.length)) - first
        power = tirx.Broadcast(self.scores[first + key], LANES)
        total = combined(self.total, lambda a, b: a + b)
        total = tirx.max(total, constant(SMALLEST_SUM)) if self.of.safe else total
        inverse = tirx.Broadcast(constant(1.0) / total, LANES)
        adding = [store(self.sums, self.sums[p] + power * self.read(self.values, (*matrix, first + key, p)), p) for p in parts]
        return [
            *(store(self.sums, broadcast(0.0), part) for part in parts),
            loop(key, 0, count, *adding),
            store(self.largest, inverse, vector(int64(0))),
            *(store(self.result, self.sums[p] * self.largest[vector(int64(0))], *row, p) for p in parts),
        ]

    def over_blocks(self, block: tirx.Var, *statements: Any) -> Any:
        """Return a loop over the blocks of the range."""
        first, last = (self.bounds[int64(i)] for i in (0, 1))
        number = tirx.Var("number", "int64")
        body = substitute(tirx.SeqStmt(list(statements)), [(block, first + number)])
        return tirx.For(number, int64(0), last - first, tirx.ForKind.SERIAL, body)


def _registers(depth: int) -> list[tuple[int, str]]:
    return [(depth, "sums"), (LANES, "largest"), (LANES, "total")]
