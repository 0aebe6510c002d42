"""Attention in bfloat16 on CPUs with AVX-512 BF16: products of pairs by vdpbf16ps, sums and softmax in float32.

    for each matrix of queries, for each chunk of its rows           in parallel
      keys and values laid out in words of two bfloat16              rounded; keys transposed in registers
      for each eight rows
        scores = queries . keys, masked                              eight rows by two vectors in registers
        powers = exp(scores - maximum), rounded, and their sum
        result = powers @ values / sum                               eight rows by two vectors

Queries are scaled before they are rounded. A word of keys has two neighbouring columns of a key, a word of values two
neighbouring rows of a column. Operands and result may have their tokens before their heads, so that nothing is transposed around
the function. Each task computes its rows alone, in one order: the bits are the same for any number of threads.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.target import codegen

from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.few_queries import FLOPS, SMALLEST_FLOAT, SMALLEST_SUM
from tvm_balanced.schedules.tir.activations_avx512 import exp_for_bfloat16
from tvm_balanced.schedules.tir.bf16_pairs import FEATURE, PAIRS, dot_pairs, pairs_across, pairs_along
from tvm_balanced.schedules.tir.loops import PARALLEL_FROM
from tvm_balanced.schedules.tir.prefetch import INTO_SECOND_LEVEL, prefetch_line
from tvm_balanced.schedules.tir.prefetch_rows import FAR_BYTES
from tvm_balanced.schedules.tir.register_transpose import BARRIER, optimization_barrier, transpose_registers
from tvm_balanced.schedules.tir.statements import (
    LANES,
    broadcast,
    buffer,
    constant,
    loop,
    realize,
    sequence,
    store,
    vector,
)

ROWS = 8  # that are computed together
VECTORS = 2  # of sums of each of them: sixteen accumulators
STEP = VECTORS * LANES  # keys whose scores are in registers
PAIR = 2
SHARE_SAVED = 1.5  # of the peak in float32, at which what is saved would be computed
CHUNK = 16  # most tiles of rows in a task: enough that laying out keys and values again for each task is cheap
Indices = tuple[Any, ...]
Operands = tuple[bool, bool, bool, bool]


@dataclass(frozen=True)
class Bfloat16Attention:
    """What a function computes: softmax(queries @ keys^T * scale + mask) @ values.

    Parameters
    ----------
    batch, heads, rows, length : int
        Of scores (batch, heads, rows, length).
    depth : int
        Columns of queries and keys, a multiple of 32.
    columns : int
        Of values and results, a multiple of 16.
    matrices : int
        Heads of keys and values, each read by heads / matrices heads of queries.
    mask : tuple of int or None
        Shape of what is added to scores, each of the first three theirs or 1.
    scale : float
    safe : bool
        Whether a row of scores that are all -inf gives 0, as PyTorch's safe softmax, and not NaN.
    tokens_first : tuple of bool
        Whether queries, keys, values and result are (batch, tokens, heads, columns) and not (batch, heads, tokens, columns).
    """

    batch: int
    heads: int
    rows: int
    length: int
    depth: int
    columns: int
    matrices: int
    mask: tuple[int, int, int, int] | None
    scale: float
    safe: bool
    tokens_first: Operands = (False, False, False, False)

    @property
    def macs(self) -> int:
        """Multiply-adds of both products."""
        return self.batch * self.heads * self.rows * self.length * (self.depth + self.columns)

    @property
    def result_shape(self) -> tuple[int, int, int, int]:
        """Shape of the result."""
        return self.shape(self.tokens_first[3], self.heads, self.rows, self.columns)

    def shape(self, tokens_first: bool, heads: int, tokens: int, columns: int) -> tuple[int, int, int, int]:
        """Return the shape of an operand."""
        return (self.batch, *((tokens, heads) if tokens_first else (heads, tokens)), columns)


def attends_in_bfloat16(target: tvm.target.Target) -> bool:
    """Whether a target has the instructions."""
    return target.kind.name == "llvm" and bool(codegen.llvm_cpu_has_features(FEATURE, target))


def seconds_saved(macs: float, roofline: Roofline) -> float:
    """Return what attention of so many multiply-adds takes less than in float32."""
    return roofline.seconds(macs, SHARE_SAVED, 0)


def refuses(rows: int, length: int, depth: int, columns: int, target: tvm.target.Target) -> str | None:
    """Return why attention of such sizes is not computed in bfloat16, None if it is."""
    if not attends_in_bfloat16(target):
        return "the target has no AVX-512 BF16"
    if depth % (PAIR * LANES) or columns % LANES:
        return f"{depth} and {columns} columns are no multiples of {PAIR * LANES} and {LANES}"
    return f"{rows} rows of {length} keys are fewer than {ROWS} of {LANES}" if rows < ROWS or length < LANES else None


def prim_func(of: Bfloat16Attention) -> tirx.PrimFunc:
    """Return the function of (queries, keys, values[, mask], result), float32."""
    return _Function(of).prim_func()


class _Function:
    """The buffers of a function, and the statements on them."""

    def __init__(self, of: Bfloat16Attention) -> None:
        self.of = of
        q, k, v, y = of.tokens_first
        self.queries = buffer(of.shape(q, of.heads, of.rows, of.depth), "queries")
        self.keys = buffer(of.shape(k, of.matrices, of.length, of.depth), "keys")
        self.values = buffer(of.shape(v, of.matrices, of.length, of.columns), "values")
        self.result = buffer(of.shape(y, of.heads, of.rows, of.columns), "result")
        self.mask = None if of.mask is None else buffer(of.mask, "mask")
        self.padded = -(-of.length // STEP) * STEP
        self.tiles = -(-of.rows // ROWS)
        self.chunks = -(-self.tiles // CHUNK)
        self.per_chunk = -(-self.tiles // self.chunks)
        self.query_pairs = buffer((ROWS, of.depth // PAIR), "query_pairs", dtype="int32")
        self.key_pairs = buffer((of.depth // PAIR, self.padded), "key_pairs", dtype="int32")
        self.value_pairs = buffer((self.padded // PAIR, of.columns), "value_pairs", dtype="int32")
        self.power_pairs = buffer((ROWS, self.padded // PAIR), "power_pairs", dtype="int32")
        self.scores = buffer((ROWS, self.padded), "scores")
        self.added = buffer((ROWS if self.masks_rows else 1, self.padded), "added")
        self.largest, self.of_rows = buffer((ROWS, LANES), "largest"), buffer((LANES,), "of_rows")
        self.sums = buffer((ROWS * VECTORS * LANES,), "sums", "local")
        self.total, self.powers = (buffer((count * LANES,), name, "local") for count, name in ((1, "total"), (VECTORS, "powers")))

    @property
    def steps(self) -> list[tuple[tirx.Var | None, Any, int]]:
        """Steps along the keys: the variable of a loop, its count and the vectors of each. The last one has one vector if that is
        enough: 197 keys are computed as 208.
        """
        whole, rest = divmod(self.of.length, STEP)
        vectors = -(-rest // LANES)
        if vectors in (0, VECTORS):
            return [(tirx.Var("across", "int64"), self.padded // STEP, VECTORS)]
        return [*([(tirx.Var("across", "int64"), whole, VECTORS)] if whole else []), (None, whole, vectors)]

    @property
    def masks_rows(self) -> bool:
        """Whether each row has a mask of its own."""
        return self.of.mask is not None and self.of.mask[2] > 1

    @property
    def adds(self) -> bool:
        """Whether what is added to scores is laid out for it: a mask that all rows share, or -inf behind the last key."""
        return (self.mask is not None and not self.masks_rows) or self.padded != self.of.length

    def prim_func(self) -> tirx.PrimFunc:
        of, task, tile = self.of, tirx.Var("task", "int64"), tirx.Var("tile", "int64")
        batch, head = task // (of.heads * self.chunks), task // self.chunks % of.heads
        number = task % self.chunks * self.per_chunk + tile
        matrix = (batch, head // (of.heads // of.matrices))
        body: Any = sequence([*self.prefetch(task + 1, tile), *self.tile((batch, head), number * ROWS)])
        if self.per_chunk * self.chunks != self.tiles:
            body = tirx.IfThenElse(number < self.tiles, body, None)
        before = [] if self.masks_rows else self.add((batch, head), int64(0))
        statements = [*self.lay_out_keys(matrix), *self.lay_out_values(matrix), *before, loop(tile, 0, self.per_chunk, body)]
        scratch = [self.query_pairs, self.key_pairs, self.value_pairs, self.power_pairs, self.scores, self.largest, self.of_rows]
        scratch += [self.sums, self.total, self.powers, *([self.added] if self.adds else [])]
        block = realize(s_tir.SBlock([], [], [], "chunk", sequence(statements), None, scratch))
        tasks = of.batch * of.heads * self.chunks
        kind = tirx.ForKind.PARALLEL if tasks > 1 and of.macs >= PARALLEL_FROM else tirx.ForKind.SERIAL
        imports = {"pragma_import_llvm": PAIRS + BARRIER + INTO_SECOND_LEVEL}
        root = realize(s_tir.SBlock([], [], [], "root", tirx.For(task, int64(0), int64(tasks), kind, block, None, imports)))
        params = [self.queries, self.keys, self.values, *([] if self.mask is None else [self.mask]), self.result]
        attrs = {"s_tir": True, "tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8, FLOPS: 2 * of.macs}
        return tirx.PrimFunc(params, root).with_attrs(attrs)

    def at(self, operand: int, matrix: Indices, token: Any, column: Any) -> Indices:
        """Return the indices of a token's columns in an operand: 0 queries, 1 keys, 2 values, 3 result."""
        batch, head = matrix
        return (batch, token, head, column) if self.of.tokens_first[operand] else (batch, head, token, column)

    def prefetch(self, task: Any, tile: Any) -> list[Any]:
        """Prefetch a share of what the next task reads with each tile of this one, if all operands come from memory: the tokens
        of a matrix are far apart, so that hardware does not follow. Eight sentences of MiniLM: 1.1x.
        """
        of = self.of
        if 4 * of.batch * (of.heads * of.rows * of.depth + of.matrices * of.length * (of.depth + of.columns)) < FAR_BYTES:
            return []
        task = tirx.min(task, int64(of.batch * of.heads * self.chunks - 1))
        batch, head, first = task // (of.heads * self.chunks), task // self.chunks % of.heads, task % self.chunks * self.per_chunk
        held, loops = (batch, head // (of.heads // of.matrices)), []
        for place, source in enumerate((self.queries, self.keys, self.values)):
            count = of.length if place else of.rows
            share, row = -(-count // self.per_chunk) if place else ROWS, tirx.Var("row", "int64")
            token = tirx.min((int64(0) if place else first * ROWS) + tile * share + row, int64(count - 1))
            at = [
                self.at(place, held if place else (batch, head), token, int64(c)) for c in range(0, source.shape[3].value, LANES)
            ]
            loops.append(loop(row, 0, share, *(tirx.Evaluate(prefetch_line(source[indices])) for indices in at)))
        return loops

    def lay_out_keys(self, matrix: Indices) -> list[Any]:
        """Round keys, and put words of a pair of columns of sixteen keys beside one another."""
        whole, block = self.of.length // LANES, tirx.Var("block", "int64")
        rest = range(whole * LANES, self.padded, LANES)
        blocks = [loop(block, 0, whole, *self.key_block(matrix, block * LANES))] if whole else []
        return [*blocks, *(statement for first in rest for statement in self.key_block(matrix, int64(first)))]

    def key_block(self, matrix: Indices, first: Any) -> list[Any]:
        """Lay out sixteen keys; those behind the last one are that one again, and will be masked."""
        last, stores = int64(self.of.length - 1), []
        if isinstance(first, tirx.IntImm) and int(first) >= self.of.length:
            pairs, nothing = range(self.of.depth // PAIR), tirx.Broadcast(tirx.const(0, "int32"), LANES)
            return [store(self.key_pairs, nothing, int64(pair), vector(first)) for pair in pairs]
        keys = [first + key for key in range(LANES)]
        keys = [tirx.min(key, last) for key in keys] if isinstance(first, tirx.IntImm) else keys
        for column in range(0, self.of.depth, PAIR * LANES):
            halves = [vector(int64(column + half * LANES)) for half in range(PAIR)]
            rows = [pairs_along(*(self.keys[self.at(1, matrix, key, half)] for half in halves)) for key in keys]
            turned = transpose_registers([tirx.reinterpret(f"float32x{LANES}", row) for row in rows], optimization_barrier)
            for pair, words in enumerate(turned):
                place = int64(column // PAIR + pair), vector(first)
                stores.append(store(self.key_pairs, tirx.reinterpret(f"int32x{LANES}", words), *place))
        return stores

    def lay_out_values(self, matrix: Indices) -> list[Any]:
        """Round values, and put words of two neighbouring rows beside one another; 0 behind the last row."""
        pair, behind = tirx.Var("pair", "int64"), tirx.Var("behind", "int64")
        whole, odd = divmod(self.of.length, PAIR)
        parts = [vector(int64(column)) for column in range(0, self.of.columns, LANES)]

        def words(first: Any, two: bool) -> list[Any]:
            rows = [[self.values[self.at(2, matrix, first + row, part)] for part in parts] for row in range(PAIR if two else 1)]
            rows += [] if two else [[broadcast(0.0) for _ in parts]]
            across = [pairs_across(low, high) for low, high in zip(*rows, strict=True)]
            return [store(self.value_pairs, word, first // PAIR, part) for word, part in zip(across, parts, strict=True)]

        nothing = [store(self.value_pairs, tirx.Broadcast(tirx.const(0, "int32"), LANES), behind, part) for part in parts]
        return [
            loop(pair, 0, whole, *words(pair * PAIR, True)),
            *(words(int64(whole * PAIR), False) if odd else []),
            *([loop(behind, whole + odd, self.padded // PAIR, *nothing)] if whole + odd < self.padded // PAIR else []),
        ]

    def add(self, matrix: Indices, first: Any) -> list[Any]:
        """Write what is added to scores, for all rows or for a tile of them from `first` on."""
        if not self.adds:
            return []
        row, key, behind = (tirx.Var(name, "int64") for name in ("row", "key", "behind"))
        value: Any = constant(0.0) if self.mask is None else self.masked(matrix, first + row, key)
        tail = loop(behind, self.of.length, self.padded, store(self.added, constant(-math.inf), row, behind))
        tails = [tail] if self.padded != self.of.length else []
        return [loop(row, 0, self.added.shape[0].value, loop(key, 0, self.of.length, store(self.added, value, row, key)), *tails)]

    def masked(self, matrix: Indices, row: Any, keys: Any) -> Any:
        """Return what the mask adds to scores of a row, the last one for those behind it."""
        assert self.mask is not None
        place = (*matrix, tirx.min(row, int64(self.of.rows - 1)))
        return self.mask[(*(int64(0) if size == 1 else i for i, size in zip(place, self.mask.shape[:3], strict=True)), keys)]

    def tile(self, matrix: Indices, first: Any) -> list[Any]:
        """Return the statements for eight rows."""
        masks = self.add(matrix, first) if self.masks_rows else []
        return [*masks, *self.load(matrix, first), *self.score(matrix, first), *self.power(), *self.weigh(matrix, first)]

    def load(self, matrix: Indices, first: Any) -> list[Any]:
        """Scale and round eight queries; behind the last one it is that one again."""
        scale, stores = broadcast(self.of.scale), []
        for row in range(ROWS):
            token = first + row
            token = token if self.of.rows % ROWS == 0 else tirx.min(token, int64(self.of.rows - 1))
            for column in range(0, self.of.depth, PAIR * LANES):
                halves = (vector(int64(column + half * LANES)) for half in range(PAIR))
                scaled = [self.queries[self.at(0, matrix, token, half)] * scale for half in halves]
                stores.append(store(self.query_pairs, pairs_along(*scaled), int64(row), vector(int64(column // PAIR))))
        return stores

    def score(self, matrix: Indices, first: Any) -> list[Any]:
        """Compute the scores of eight rows, and the largest of each lane."""
        begin = [store(self.largest, broadcast(SMALLEST_FLOAT), int64(row), vector(int64(0))) for row in range(ROWS)]
        return [*begin, *self.along_keys(lambda across, count: self.score_step(matrix, first, across, count))]

    def along_keys(self, of_step: Callable[[Any, int], list[Any]]) -> list[Any]:
        """Return the statements of all steps along the keys, from those of a step and its vectors."""
        found = []
        for across, count, vectors in self.steps:
            found += of_step(int64(count), vectors) if across is None else [loop(across, 0, count, *of_step(across, vectors))]
        return found

    def score_step(self, matrix: Indices, first: Any, across: Any, vectors: int) -> list[Any]:
        """Compute the scores of eight rows in one or two vectors of keys."""
        step = tirx.Var("step", "int64")
        places = [vector(across * STEP + part * LANES) for part in range(vectors)]
        found = []
        for row in range(ROWS):
            of_row = int64(row if self.masks_rows else 0)
            values = [self.sums[_sum(row, part)] for part in range(vectors)]
            if self.adds:
                values = [value + self.added[of_row, place] for value, place in zip(values, places, strict=True)]
            elif self.mask is not None:  # where it lies, in whole vectors
                masks = (self.masked(matrix, first + row, place) for place in places)
                values = [value + mask for value, mask in zip(values, masks, strict=True)]
            found += [store(self.scores, value, int64(row), place) for value, place in zip(values, places, strict=True)]
            largest = self.largest[int64(row), vector(int64(0))]
            for place in places:
                largest = tirx.max(largest, self.scores[int64(row), place])
            found.append(store(self.largest, largest, int64(row), vector(int64(0))))
        return [*self.products(self.query_pairs, self.key_pairs, step, places), *found]

    def products(self, left: tirx.Buffer, right: tirx.Buffer, step: tirx.Var, places: list[Any], pairs: int = 0) -> list[Any]:
        """Return the sums of eight rows of pairs times pairs in one or two vectors, of the first `pairs` or of all."""
        parts = range(len(places))
        clear = [store(self.sums, broadcast(0.0), _sum(row, part)) for row in range(ROWS) for part in parts]
        adding = []
        for row in range(ROWS):
            word = tirx.Broadcast(left[int64(row), step], LANES)
            for part in parts:
                added = dot_pairs(self.sums[_sum(row, part)], word, right[step, places[part]])
                adding.append(store(self.sums, added, _sum(row, part)))
        return [*clear, loop(step, 0, pairs or left.shape[1].value, *adding)]

    def power(self) -> list[Any]:
        """Compute the powers of eight rows, rounded, and one over their sums."""
        row, all_ = tirx.Var("row", "int64"), vector(int64(0))
        statements = [
            store(self.total, broadcast(0.0), all_),
            *self.along_keys(partial(self.power_step, row)),
            store(self.largest, self.total[all_], row, all_),  # nobody reads the largest score of this row any more
        ]
        rows = [self.largest[int64(number), all_] for number in range(ROWS)]
        over = of_eight_rows(rows, operator.add)
        over = tirx.max(over, broadcast(SMALLEST_SUM)) if self.of.safe else over
        return [
            store(self.of_rows, of_eight_rows(rows, tirx.max), all_),
            loop(row, 0, ROWS, *statements),
            store(self.of_rows, broadcast(1.0) / over, all_),
        ]

    def power_step(self, row: Any, across: Any, vectors: int) -> list[Any]:
        """Compute the powers of a row in one or two vectors of keys, and add them to its sum."""
        all_, kept = vector(int64(0)), [vector(int64(part * LANES)) for part in range(vectors)]
        storing = []
        for part, place in enumerate(kept):
            x = tirx.Var(f"x_{part}", f"float32x{LANES}")
            largest = tirx.Broadcast(self.of_rows[lane_of_row(row)], LANES)
            below = self.scores[row, vector(across * STEP + part * LANES)] - largest
            storing.append(store(self.powers, tirx.Let(x, below, exp_for_bfloat16(x)), place))
        powers = [self.powers[place] for place in kept]
        first, second = powers if len(powers) == VECTORS else (powers[0], broadcast(0.0))
        summing = store(self.total, self.total[all_] + (first + second if len(powers) == VECTORS else first), all_)
        return [*storing, summing, store(self.power_pairs, pairs_along(first, second), row, vector(across * LANES))]

    def weigh(self, matrix: Indices, first: Any) -> list[Any]:
        """Sum the values by their powers, and divide; rows behind the last one are not stored."""
        statements = []
        for column in range(0, self.of.columns, STEP):
            places = [vector(int64(place)) for place in range(column, min(column + STEP, self.of.columns), LANES)]
            pairs = -(-self.of.length // PAIR)
            statements += self.products(self.power_pairs, self.value_pairs, tirx.Var("pair", "int64"), places, pairs)
            for row in range(ROWS):
                inverse = tirx.Broadcast(self.of_rows[int64(lane_of_row(row))], LANES)
                stores = [
                    store(self.result, self.sums[_sum(row, part)] * inverse, *self.at(3, matrix, first + row, place))
                    for part, place in enumerate(places)
                ]
                kept = self.of.rows % ROWS == 0
                statements.append(
                    sequence(stores) if kept else tirx.IfThenElse(first + row < self.of.rows, sequence(stores), None)
                )
        return statements


def lane_of_row(row: Any) -> Any:
    """Return the lane where `of_eight_rows` leaves a row."""
    return row + row // 4 * 4


def of_eight_rows(rows: list[Any], combine: Callable[[Any, Any], Any]) -> Any:
    """Return a vector with the lanes of each of eight vectors combined; `lane_of_row` says where.

    Halves of two vectors meet in one, so that eight take 15 shuffles, where one by one they would take 32.
    """
    lets: list[tuple[tirx.Var, Any]] = []

    def named(value: Any) -> tirx.Var:
        lets.append((tirx.Var(f"met_{len(lets)}", value.ty), value))
        return lets[-1][0]

    def meet(pair: list[Any], order: Callable[[int, int], tuple[int, ...]]) -> Any:
        halves = []
        for half in range(2):
            lanes = [tirx.IntImm("int32", lane) for quarter in range(4) for lane in order(quarter, half)]
            halves.append(tirx.Shuffle(pair, lanes))
        return combine(*halves)

    ones = [named(row) for row in rows]
    twos = [named(meet(ones[i : i + 2], _singles)) for i in range(0, len(ones), 2)]
    fours = [named(meet(twos[i : i + 2], _doubles)) for i in range(0, len(twos), 2)]
    eight = named(meet(fours, _quarters))
    value = combine(eight, tirx.Shuffle([eight], [tirx.IntImm("int32", lane ^ 4) for lane in range(LANES)]))
    for name, bound in reversed(lets):
        value = tirx.Let(name, bound, value)
    return value


def _singles(quarter: int, half: int) -> tuple[int, ...]:
    """Return the lanes of two vectors that a quarter of a half is made of: one of each in turn, as vunpcklps and vunpckhps do."""
    first = 4 * quarter + 2 * half
    return first, LANES + first, first + 1, LANES + first + 1


def _doubles(quarter: int, half: int) -> tuple[int, ...]:
    """Return the same for two of each in turn."""
    first = 4 * quarter + 2 * half
    return first, first + 1, LANES + first, LANES + first + 1


def _quarters(quarter: int, half: int) -> tuple[int, ...]:
    """Return the same for two quarters of each."""
    first = quarter // 2 * LANES + 8 * half + 4 * (quarter % 2)
    return first, first + 1, first + 2, first + 3


def _sum(row: int, part: int) -> tirx.Ramp:
    """Return the places of a vector of sums."""
    return vector(int64((row * VECTORS + part) * LANES))
