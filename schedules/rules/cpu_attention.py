"""Attention on CPUs: scores, softmax and the product with the values for a few rows at a time, in
the first-level cache.

    for each matrix of the stack, for each chunk of its rows      in parallel
      queries, keys (K, T) and values laid out without gaps       where they are transposed or scaled before
      for each eight rows
        scores = query @ keys, scaled and masked                  eight rows by a vector in registers
        maximum, exp and sum of each row
        result = powers @ values / sum                            eight rows by a vector in registers

This is up to 1.65x as fast as a function for each step, for eight sentences of MiniLM on one Zen 4
thread: see docs/measurements/rules.md. Queries are copied because those of eight sentences are in
the last-level cache. Keys are transposed in registers (`tile_transpose.py`). If all operands are in
memory, each task prefetches what the next one copies (`prefetch_task.py`).
"""

import math
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.schedules.base.expressions import divisor, is_multiple
from tvm_balanced.schedules.base.rule import Rule
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.rules.cpu_transpose import contiguous_loop
from tvm_balanced.schedules.tir.loops import analyse, extent
from tvm_balanced.schedules.tir.prefetch import import_prefetch
from tvm_balanced.schedules.tir.prefetch_task import Copied, prefetch_next_task
from tvm_balanced.schedules.tir.tile_transpose import llvm_imports, split_into_tiles, transpose_tiles
from tvm_balanced.schedules.tir.vector_reduction import split_reduction, vectorize_partial, widths

# The most rows of a task, which lays keys and values out anew: 1214 rows in one task take 0.84 of the time of ten, by AVX2.
# Where there are few tasks, threads need more.
CHUNK, SHORT_CHUNK = 2048, 128
ROWS = 8  # that are computed together: keys and values come from the second-level cache once for all of them
LEAST = 4  # rows that are worth padding to vectors
SCORE_VECTORS, RESULT_VECTORS = 1, 1  # vectors of a tile: more spill beside the constants of exp (docs/measurements/rules.md)


def is_supported(rows: Any, length: Any, columns: Any, target: tvm.target.Target) -> bool:
    """Whether the rule takes scores (rows, length) and values (length, columns)."""
    width = lanes(target)
    if not isinstance(columns, (int, tirx.IntImm)) or int(columns) % width:
        return False
    fills = _height(int(rows)) > 1 if _constant(rows) else is_multiple(rows, ROWS)
    return fills and is_multiple(length, width) and not (_constant(length) and int(length) <= width)


def _height(rows: int) -> int:
    """Return how many of `rows` rows are computed together; 1 if that would be too few of many."""
    height = divisor(rows, ROWS)
    return height if height >= min(rows, LEAST - 1) else 1


def padded(rows: Any, length: Any, columns: Any, target: tvm.target.Target) -> tuple[Any, Any] | None:
    """Return padded (rows, length) that the rule supports; None if it supports those given, or if
    padding costs more than it saves.

    Padding costs too much for up to three rows and for a length that fits one vector, if both are
    known. If either is known only at the call, the alternative is loops without vectors, which take
    988 us instead of 250 (docs/measurements/rules.md).
    """
    width = lanes(target)
    if is_supported(rows, length, columns, target):
        return None
    known = _constant(rows) and _constant(length)
    if known and (int(rows) < LEAST or int(length) <= width):
        return None
    grown = _grown_rows(rows), (length + (width - 1)) // width * width
    return grown if is_supported(*grown, columns, target) else None


def _grown_rows(rows: Any) -> Any:
    """Return the rows that are computed for `rows` of them."""
    if _constant(rows) and (_height(int(rows)) > 1 or int(rows) < LEAST):
        return max(int(rows), LEAST)
    return (rows + (ROWS - 1)) // ROWS * ROWS


def _constant(count: Any) -> bool:
    return isinstance(count, (int, tirx.IntImm))


class CpuAttention(Rule):
    """Elementwise blocks around a product, row maxima, row sums of powers, a product: what the pass
    FuseAttention groups.
    """

    name = "cpu_attention"

    def schedule(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        analysed = analyse(func)
        if analysed is None:
            return None
        sch, blocks = analysed
        reductions = [block.block_rv for block in blocks if block.is_reduction()]
        if [len(sch.get(block).reads) for block in reductions] != [2, 1, 1, 2]:
            return None
        return _schedule(sch, [block.block_rv for block in blocks], reductions, target)


def _schedule(sch: Schedule, blocks: list[Any], reductions: list[Any], target: tvm.target.Target) -> tirx.PrimFunc:
    width = lanes(target)
    product, largest, total, result = reductions
    operands = [_writer(sch, product, 0), _writer(sch, product, 1), _writer(sch, result, 1)]
    laid_out = [block for block in operands if block is not None]
    scores, powers, last = _writer(sch, largest, 0), _writer(sch, total, 0), blocks[-1]
    if _name(sch, scores) == _name(sch, product):  # neither scaled nor masked
        scores = sch.cache_write(product, 0, "local")
    kept = {_name(sch, block) for block in (*reductions, scores, powers, last, *laid_out)}
    for block in blocks:
        if _name(sch, block) not in kept:
            sch.compute_inline(block)
    transposed = {_name(sch, block) for block in laid_out if contiguous_loop(sch, block) == len(sch.get_loops(block)) - 2}
    task, tile, steps = _cut_result(sch, last, result, width, int(target.attrs.get("num-cores", 1)))
    sums = split_reduction(sch, total, widths(width))
    for block in (total, *reversed(sums), powers):
        sch.compute_at(block, tile, preserve_unit_loops=True)
    maxima = split_reduction(sch, largest, widths(width))
    for block in (largest, *reversed(maxima), scores):
        sch.compute_at(block, tile, preserve_unit_loops=True)
    score_steps = _cut_scores(sch, scores, product, width)
    squares, copied = _lay_out(sch, laid_out, transposed, task, width)
    sch.vectorize(sch.split(sch.get_loops(powers)[-1], [None, width])[1])
    sch.parallel(task)  # before decompose_reduction, which splits the loops' bodies
    for block in (*sums, *maxima):
        vectorize_partial(sch, block, width)
    _clear_before(sch, product, score_steps)
    _clear_before(sch, result, steps)
    import_prefetch(sch, _name(sch, last), target, llvm_imports(width))
    return prefetch_next_task(transpose_tiles(sch.mod["main"], squares), sch.get(tile).loop_var, extent(sch, tile), copied)


def _name(sch: Schedule, block: Any) -> str:
    return str(sch.get(block).name_hint)


def _writer(sch: Schedule, block: Any, place: int) -> Any:
    """Return the block that writes the operand that `block` reads at an index, None if that is an input."""
    source = sch.get(block).reads[place].source
    return next((other for other in sch.get_producers(block) if sch.get(other).writes[0].source.same_as(source)), None)


def _cut_result(sch: Schedule, last: Any, result: Any, width: int, cores: int) -> tuple[Any, Any, Any]:
    """Split the last block's loops and compute the product in them; return the loops of tasks,
    tiles and the product's steps.
    """
    *batch, i, j = _loops_along(sch, last, result)
    task, tile, row = sch.split(i, _cut_rows(extent(sch, i), _chunk(sch, batch, cores)))
    across, vector, lane = sch.split(j, [None, _vectors(sch, j, width, RESULT_VECTORS), width])
    sch.reorder(*batch, task, tile, across, row, vector, lane)
    task = sch.fuse(*batch, task)
    _in_registers(sch, row, vector, lane)
    sch.set_scope(result, 0, "local")
    sch.compute_at(result, across, preserve_unit_loops=True)
    return task, tile, _tile_of_product(sch, result, width)


def _cut_scores(sch: Schedule, scores: Any, product: Any, width: int) -> Any:
    """Split the loops of the scores into tiles, and compute their product in each; return the loop of its steps."""
    *_, i, j = sch.get_loops(scores)
    across, vector, lane = sch.split(j, [None, _vectors(sch, j, width, SCORE_VECTORS), width])
    sch.reorder(across, i, vector, lane)
    _in_registers(sch, i, vector, lane)
    sch.set_scope(product, 0, "local")
    sch.compute_at(product, across, preserve_unit_loops=True)
    return _tile_of_product(sch, product, width)


def _chunk(sch: Schedule, batch: list[Any], cores: int) -> int:
    """Return the most rows of a task: few only if whole matrices are too few tasks for the cores."""
    matrices = math.prod(extent(sch, loop) or 1 for loop in batch)
    return CHUNK if matrices >= 2 * cores else SHORT_CHUNK


def _cut_rows(rows: int | None, chunk: int) -> list[int | None]:
    """Return how rows are split into tasks, tiles and rows of a tile; a symbolic number of rows is one task."""
    if rows is None:
        return [1, None, ROWS]
    height = _height(rows)
    return [None, divisor(rows // height, chunk // height), height]


def _vectors(sch: Schedule, loop: Any, width: int, most: int) -> int:
    """Return how many vectors along a loop a tile takes."""
    count = extent(sch, loop)
    return most if count is None else divisor(count // width, most)


def _loops_along(sch: Schedule, block: Any, source: Any) -> list[Any]:
    """Return the loops of `block` in the order of the dimensions of the buffer that `source` writes
    and `block` reads.
    """
    written = sch.get(source).writes[0].source
    loops = dict(zip([axis.var for axis in sch.get(block).iter_vars], sch.get_loops(block), strict=True))
    region = next(read for read in sch.get(block).reads if read.source.same_as(written))
    return [loops[dim.min] for dim in region.region if dim.min in loops]


def _tile_of_product(sch: Schedule, product: Any, width: int) -> Any:
    *_, i, j, steps = sch.get_loops(product)
    vector, lane = sch.split(j, [None, width])
    sch.reorder(steps, i, vector, lane)
    _in_registers(sch, i, vector, lane)
    return steps


def _in_registers(sch: Schedule, row: Any, vector: Any, lane: Any) -> None:
    sch.vectorize(lane)
    sch.unroll(vector)
    sch.unroll(row)


def _clear_before(sch: Schedule, product: Any, steps: Any) -> None:
    """Clear a tile of sums before the loop over the steps of its product."""
    *_, row, vector, _ = sch.get_loops(sch.decompose_reduction(product, steps))
    sch.unroll(row)
    sch.unroll(vector)


def _lay_out(sch: Schedule, blocks: list[Any], transposed: set[str], task: Any, width: int) -> tuple[set[str], list[Copied]]:
    """Copy operands at the start of a task, in vectors. Return the names of transpose tiles'
    blocks, and what is copied.
    """
    squares, copied = set(), []
    for block in blocks:
        sch.compute_at(block, task, preserve_unit_loops=True)
        across = _name(sch, block) in transposed
        copied.append(Copied.of(sch, block, across))
        name = split_into_tiles(sch, block, width) if across else None
        if name is None:
            _store_vectors(sch, block, across, width)
        else:
            squares.add(name)
    return squares, [copy for copy in copied if copy is not None]


def _store_vectors(sch: Schedule, block: Any, transposed: bool, width: int) -> None:
    """Store vectors. If they are gathered from many rows, use each cache line completely before it
    leaves the cache.
    """
    *_, i, j = sch.get_loops(block)
    across, lane = sch.split(j, [None, width])
    if transposed:
        sch.reorder(across, i, lane)
    sch.vectorize(lane)


CPU_ATTENTION = CpuAttention()
