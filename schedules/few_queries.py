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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.schedules.base.expressions import int64, substitute
from tvm_balanced.schedules.tir import activations
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM
from tvm_balanced.schedules.tir.register_transpose import transpose_registers
from tvm_balanced.schedules.tir.tiling import widened

LANES = 16
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
        self.queries = _buffer((of.batch, of.heads, of.queries, of.depth), "queries")
        held = (of.batch, of.matrices, of.length, of.depth)
        self.keys, self.values = (_buffer(held, name, dtype=of.dtype) for name in ("keys", "values"))
        self.mask = None if of.mask is None else _buffer(of.mask, "mask")
        self.result = _buffer((of.batch, of.heads, of.queries, of.depth), "result")
        self.blocks = -(-of.length // LANES)
        self.scores = _buffer((self.blocks * LANES,), "scores")
        self.sums, self.largest, self.total = (_buffer((n,), name, "local") for n, name in _registers(of.depth))
        self.bounds = _buffer((2,), "bounds", "local", "int64")

    def prim_func(self) -> tirx.PrimFunc:
        of, task, number = self.of, tirx.Var("task", "int64"), tirx.Var("number", "int64")
        group = of.heads // of.matrices
        matrix = (task // of.matrices, task % of.matrices)
        row = (matrix[0], matrix[1] * group + number // of.queries, number % of.queries)
        scratch = [self.scores, self.sums, self.largest, self.total, self.bounds]
        body = _loop(number, 0, group * of.queries, *self.row(row, matrix))
        block = _realize(s_tir.SBlock([], [], [], "matrix", body, None, scratch))
        tasks = of.batch * of.matrices
        kind = tirx.ForKind.PARALLEL if tasks > 1 and of.macs >= PARALLEL_FROM else tirx.ForKind.SERIAL
        root = _realize(s_tir.SBlock([], [], [], "root", tirx.For(task, int64(0), int64(tasks), kind, block)))
        params = [self.queries, self.keys, self.values, *([] if self.mask is None else [self.mask]), self.result]
        attrs = {"s_tir": True, "tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8, FLOPS: 2 * of.macs}
        return tirx.PrimFunc(params, root).with_attrs(attrs)

    def row(self, row: Indices, matrix: Indices) -> list[Any]:
        """Return the statements for one query."""
        return [*self.begin(row), *self.range_of_keys(), *self.score(row, matrix), *self.power(), *self.weigh(row, matrix)]

    def begin(self, row: Indices) -> list[Any]:
        """Put the mask into the scores; what lies behind the last key is masked."""
        key, end = tirx.Var("key", "int64"), self.blocks * LANES
        value: Any = _float(0.0)
        if self.mask is not None:
            place = (int64(0) if size == 1 else i for i, size in zip(row, self.mask.shape[:3], strict=True))
            value = self.mask[(*place, key)]
        behind = tirx.Var("behind", "int64")
        return [
            _loop(key, 0, self.of.length, _store(self.scores, value, key)),
            _loop(behind, self.of.length, end, _store(self.scores, _float(-math.inf), behind)),
        ]

    def range_of_keys(self) -> list[Any]:
        """Compute which blocks of sixteen keys have one that is not masked; all of them if there is none."""
        first, last = (self.bounds[int64(i)] for i in (0, 1))
        if self.mask is None:
            return [_store(self.bounds, int64(0), int64(0)), _store(self.bounds, int64(self.blocks), int64(1))]
        key = tirx.Var("key", "int64")
        seen = self.scores[key] > _float(LOWEST)
        block = key // LANES
        looking = [
            _store(self.bounds, tirx.Select(seen, tirx.min(first, block), first), int64(0)),
            _store(self.bounds, tirx.Select(seen, tirx.max(last, block + 1), last), int64(1)),
        ]
        none = [_store(self.bounds, int64(0), int64(0)), _store(self.bounds, int64(self.blocks), int64(1))]
        return [
            _store(self.bounds, int64(self.blocks), int64(0)),
            _store(self.bounds, int64(0), int64(1)),
            _loop(key, 0, self.of.length, *looking),
            tirx.IfThenElse(last == 0, tirx.SeqStmt(none), None),
        ]

    def score(self, row: Indices, matrix: Indices) -> list[Any]:
        """Compute the scores of the range, and the largest of each lane."""
        block = tirx.Var("block", "int64")
        lanes, all_ = _vector(block * LANES), _vector(int64(0))
        keys = [block * LANES + j for j in range(LANES)]
        keys = keys if self.of.length % LANES == 0 else [tirx.min(key, int64(self.of.length - 1)) for key in keys]
        parts = [_vector(int64(c)) for c in range(0, self.of.depth, LANES)]
        sums = [_sum([self.queries[(*row, part)] * self.read(self.keys, (*matrix, key, part)) for part in parts]) for key in keys]
        product = _sum(transpose_registers(sums))
        return [
            _store(self.largest, _broadcast(SMALLEST_FLOAT), all_),
            self.over_blocks(
                block,
                _store(self.scores, product * _broadcast(self.of.scale) + self.scores[lanes], lanes),
                _store(self.largest, tirx.max(self.largest[all_], self.scores[lanes]), all_),
            ),
        ]

    def read(self, buffer: tirx.Buffer, place: Indices) -> Any:
        """Return LANES keys or values in float32."""
        return widened(buffer[place], self.of.dtype, LANES)

    def power(self) -> list[Any]:
        """Compute the powers of the range, and their sum of each lane."""
        block, x = tirx.Var("block", "int64"), tirx.Var("x", f"float32x{LANES}")
        lanes, all_ = _vector(block * LANES), _vector(int64(0))
        largest = tirx.Broadcast(_reduced(self.largest, tirx.max), LANES)
        bound = tirx.Var("largest_of_all", largest.ty)
        power = tirx.Let(x, self.scores[lanes] - bound, activations.exp(x))
        return [
            _store(self.total, _broadcast(0.0), all_),
            _store(self.largest, largest, all_),
            self.over_blocks(
                block,
                _store(self.scores, tirx.Let(bound, self.largest[all_], power), lanes),
                _store(self.total, self.total[all_] + self.scores[lanes], all_),
            ),
        ]

    def weigh(self, row: Indices, matrix: Indices) -> list[Any]:
        """Sum the values by their powers, and divide."""
        key, parts = tirx.Var("key", "int64"), [_vector(int64(c)) for c in range(0, self.of.depth, LANES)]
        first, last = (self.bounds[int64(i)] * LANES for i in (0, 1))
        count = tirx.min(last, int64(self.of.length)) - first
        power = tirx.Broadcast(self.scores[first + key], LANES)
        total = _reduced(self.total, lambda a, b: a + b)
        total = tirx.max(total, _float(SMALLEST_SUM)) if self.of.safe else total
        inverse = tirx.Broadcast(_float(1.0) / total, LANES)
        adding = [_store(self.sums, self.sums[p] + power * self.read(self.values, (*matrix, first + key, p)), p) for p in parts]
        return [
            *(_store(self.sums, _broadcast(0.0), part) for part in parts),
            _loop(key, 0, count, *adding),
            _store(self.largest, inverse, _vector(int64(0))),
            *(_store(self.result, self.sums[p] * self.largest[_vector(int64(0))], *row, p) for p in parts),
        ]

    def over_blocks(self, block: tirx.Var, *statements: Any) -> Any:
        """Return a loop over the blocks of the range."""
        first, last = (self.bounds[int64(i)] for i in (0, 1))
        number = tirx.Var("number", "int64")
        body = substitute(tirx.SeqStmt(list(statements)), [(block, first + number)])
        return tirx.For(number, int64(0), last - first, tirx.ForKind.SERIAL, body)


def _registers(depth: int) -> list[tuple[int, str]]:
    return [(depth, "sums"), (LANES, "largest"), (LANES, "total")]


def _buffer(shape: tuple[int, ...], name: str, scope: str = "global", dtype: str = "float32") -> tirx.Buffer:
    return tirx.decl_buffer([int64(size) for size in shape], dtype, name, scope=scope)


def _realize(block: Any) -> Any:
    return s_tir.SBlockRealize([], tirx.IntImm("bool", 1), block)


def _store(buffer: tirx.Buffer, value: Any, *place: Any) -> Any:
    return tirx.BufferStore(buffer, value, list(place))


def _loop(variable: tirx.Var, start: int, end: Any, *body: Any) -> Any:
    """Return a loop from a number to another."""
    moved = substitute(tirx.SeqStmt(list(body)) if len(body) > 1 else body[0], [(variable, variable + start)] if start else [])
    extent = int64(end - start) if isinstance(end, int) else end - start
    return tirx.For(variable, int64(0), extent, tirx.ForKind.SERIAL, moved)


def _vector(first: Any) -> Any:
    return tirx.Ramp(first, int64(1), LANES)


def _float(value: float) -> Any:
    return tirx.const(value, "float32")


def _broadcast(value: float) -> Any:
    return tirx.Broadcast(_float(value), LANES)


def _sum(terms: Sequence[Any]) -> Any:
    return reduce(lambda a, b: a + b, terms)


def _reduced(buffer: tirx.Buffer, combine: Callable[[Any, Any], Any]) -> Any:
    """Return all lanes of a buffer combined."""
    return reduce(combine, [buffer[int64(lane)] for lane in range(LANES)])
