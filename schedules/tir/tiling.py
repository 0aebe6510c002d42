"""Tiles of row panels and rows of x: the default choice, the schedule, loads and stores of a panel."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.caches import LARGE_BYTES
from tvm_balanced.schedules.base.expressions import divisor, int64
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import LANES, count_row_panels


def split_rows(workload: Workload) -> RowTiles:
    """Split M into tiles of 8 rows. A symbolic M that is not small gets 4: 8 would waste up to 7
    rows and gain 1.05x at best.
    """
    return RowTiles.of(workload.m, longest=8, symbolic=workload.tile or 4)


def read_lanes(source: tirx.Buffer, row: Any, group: Any, lanes: int = LANES) -> Any:
    """Read the columns of a row panel, or of `lanes` rows of it, from `source` (M, N). Columns past
    N hold anything.
    """
    n = source.shape[1]
    columns = T.ramp(group * lanes, 1, lanes)
    if n.value == count_row_panels(n.value) * LANES:
        return source[row, columns]
    within = columns < T.broadcast(int64(n.value), lanes)
    return T.masked_load(f"{source.dtype}x{lanes}", source, row, columns, within)


def store_lanes(
    y: tirx.Buffer,
    row: Any,
    group: Any,
    total: Any,
    residual: tirx.Buffer,
    workload: Workload,
    activation: Callable[[Any], Any],
    lanes: int = LANES,
) -> None:
    """Store the results of a row panel, or of `lanes` rows of it, in y (M, N) from inside TVMScript.

    They are `total`, float32, plus what is there in `residual` (M, N) if the layer adds one. Results past N are not stored.
    `activation` is applied once for every store, because a variable that it binds may be bound in one place only.
    """
    if workload.residual:
        total = total + widened(read_lanes(residual, row, group, lanes), residual.dtype, lanes)
    n = y.shape[1].value
    columns, first = T.ramp(group * lanes, 1, lanes), group * lanes

    def narrow() -> Any:
        return activation(total) if y.dtype == "float32" else T.cast(activation(total), f"{y.dtype}x{lanes}")

    if n == count_row_panels(n) * LANES:
        T.buffer_store(y, narrow(), [row, columns])
    elif n % lanes == 1 and y.dtype == "bfloat16":
        # LLVM merges truncation to 16 bits and a masked store of one lane into a store of all 32
        # bits, so the lane is stored alone
        with T.If(first + lanes <= n), T.Then():
            T.buffer_store(y, narrow(), [row, columns])
        with T.If(first == n - 1), T.Then():
            T.buffer_store(y, T.cast(T.Shuffle([activation(total)], [0]), y.dtype), [row, first])
    else:
        T.evaluate(T.masked_store(y, narrow(), row, columns, columns < T.broadcast(int64(n), lanes)))


def widened(values: Any, dtype: str, lanes: int) -> Any:
    """Return `lanes` values of a layer's dtype in float32.

    Of bfloat16 by its bits. TVM 0.27 (BF16StorageLegalize) does the same to a cast, but not in the value of a Let, which an
    activation may make of it: there it takes the bits for an integer.
    """
    if dtype == "bfloat16":
        bits = T.cast(T.reinterpret(f"uint16x{lanes}", values), f"uint32x{lanes}")
        return T.reinterpret(f"float32x{lanes}", T.shift_left(bits, T.broadcast(T.uint32(16), lanes)))
    return values if dtype == "float32" else T.cast(values, f"float32x{lanes}")


@dataclass(frozen=True)
class Tiles:
    """How a layer is tiled: `rows` of x by `groups` row panels are in registers; `together` such
    tiles share the rows of x.
    """

    rows: int
    groups: int
    together: int = 1


# Bytes of weights that are computed together. They stay in the second-level cache (at least 512 KiB
# on recent x86) for the next rows of x. This is up to 1.10x as fast as one tile at a time:
# docs/measurements/kernels.md.
TOGETHER_BYTES = 256 << 10
MANY_TILES = 32  # row tiles from which on a search may try blocks of them; of fewer, x stays in the second-level cache anyway
# This is up to 1.05x as fast if weights are loaded from memory, but can be slower if they are not.
TOGETHER_BYTES_LARGE = 512 << 10


def default_tiling(
    size: int, tiles: int | None, groups: int, group_bytes: int, accumulators: int = 16, registers: int = 1, once: bool = False
) -> Tiles:
    """Choose how a layer is tiled without tuning.

    A multiply-add costs 1/groups loads of x and about 1.75/rows loads of values and indices with
    their shifts. Sixteen accumulators leave room for those in 32 registers. More than 4 row panels
    read so many streams that hardware prefetch loses them: 8 panels have 0.88x
    (docs/measurements/kernels.md).

    Parameters
    ----------
    size : int
        Rows in a row tile of x.
    tiles : int or None
        Number of row tiles; None if M is symbolic.
    groups, group_bytes : int
        Row panels of the weight, and the bytes of one.
    accumulators : int
        Registers for sums.
    registers : int
        Registers of x that a block takes; each is a load.
    once : bool
        Whether weights are read once, for few rows of x (`prefetch.streams`).
    """
    candidates = [
        (r, g) for r in range(1, size + 1) for g in range(1, 5) if size % r == 0 and groups % g == 0 and r * g <= accumulators
    ]
    # From the second row tile on, weights are loaded from the cache: fewer loads of them count more.
    weights = 4.5 if once and registers == 1 else 3.5 if once or (tiles is not None and tiles > 2) else 1.75
    rows, covered = min(candidates, key=lambda tile: weights / tile[0] + registers / tile[1])
    most = TOGETHER_BYTES_LARGE if groups * group_bytes >= LARGE_BYTES and tiles != 1 else TOGETHER_BYTES
    return Tiles(rows, covered, tiles_together(groups // covered, group_bytes * covered, most))


def tiles_together(tiles: int, tile_bytes: int, most: int = TOGETHER_BYTES) -> int:
    """Choose how many of `tiles` tiles of row panels share the rows of x; a tile has `tile_bytes`
    of weights, all have `most`.
    """
    return divisor(tiles, max(1, most // tile_bytes))


def schedule_tiles(sch: Schedule, tiles: Tiles, unroll: int, unroll_rows: bool = False) -> None:
    """Split the loops into tiles. The sizes are sampled from `sch` and are `tiles` unless a search changes them.

    Parameters
    ----------
    sch : Schedule
        Schedule of a function with the blocks that `row_panels.py` describes.
    tiles : Tiles
        The default; its numbers divide the loops' trip counts.
    unroll : int
        How many of the innermost reduction loops are unrolled.
    unroll_rows : bool
        Whether the loop over the register tiles of a row tile is unrolled too.
    """
    dense, epilogue = sch.get_sblock("dense"), sch.get_sblock("epilogue")
    g, *reduction, o, i = sch.get_loops(dense)
    io, ii = sch.split(i, divide(sch, i, tiles.rows))
    go, gm, gi = sch.split(g, divide(sch, g, tiles.together, tiles.groups))
    outer, o = block_rows(sch, o)
    sch.reorder(*outer, go, o, io, gm, *reduction, gi, ii)
    # The number of loops must not depend on the tile, or a recorded trace would not replay.
    sch.reverse_compute_at(epilogue, gm, preserve_unit_loops=True)
    for loop in (*([io] if unroll_rows else []), ii, gi, *reduction[len(reduction) - unroll :], *sch.get_loops(epilogue)[-3:]):
        sch.unroll(loop)
    sch.parallel(sch.fuse(*outer, go, o))  # before decompose_reduction, which splits the loops' bodies
    init = sch.decompose_reduction(dense, reduction[0])
    for loop in sch.get_loops(init)[-2:]:
        sch.unroll(loop)


def compute_sums_at_epilogue(sch: Schedule, tiles: Tiles, unroll_rows: bool) -> None:
    """Split the loops into tiles as `schedule_tiles` does, for a kernel whose epilogue reads what is computed before the sums, as
    the scale of a row of x: here the sums move to the epilogue, there the epilogue to the sums.
    """
    dense, epilogue = sch.get_sblock("dense"), sch.get_sblock("epilogue")
    g, o, i = sch.get_loops(epilogue)
    io, ii = sch.split(i, divide(sch, i, tiles.rows))
    go, gm, gi = sch.split(g, divide(sch, g, tiles.together, tiles.groups))
    outer, o = block_rows(sch, o)
    sch.reorder(*outer, go, o, io, gm, gi, ii)
    sch.compute_at(dense, gm, preserve_unit_loops=True)
    inner, chunk, step, *rest = sch.get_loops(dense)[-5:]
    sch.reorder(chunk, step, inner, *rest)
    for loop in (step, inner, *rest, *([io] if unroll_rows else []), gi, ii):
        sch.unroll(loop)
    sch.parallel(sch.fuse(*outer, go, o))  # before decompose_reduction, which splits the loops' bodies
    init = sch.decompose_reduction(dense, chunk)
    for loop in sch.get_loops(init)[-3:]:
        sch.unroll(loop)


def block_rows(sch: Schedule, tiles: Any) -> tuple[list[Any], Any]:
    """Split the loop over row tiles into blocks of rows that stay in the cache while all weights pass; return the loop over
    blocks, none if there are few rows, and that over the tiles of one.

    By default all tiles are in one block: weights that are computed together stay in the cache, and rows of x pass.
    """
    extent = sch.get(tiles).extent
    if not isinstance(extent, tirx.IntImm) or int(extent) < MANY_TILES:
        return [], tiles
    count = int(extent)
    block, within = sch.split(tiles, sch.sample_perfect_tile(tiles, 2, count, decision=[1, count]))
    return [block], within


def divide(sch: Schedule, loop: Any, *default: int) -> Any:
    """Sample factors that divide a loop, the last at most 16. Until a search changes them they are
    `default`, after the rest.
    """
    outer = int(sch.get(loop).extent) // math.prod(default)
    return sch.sample_perfect_tile(loop, len(default) + 1, 16, decision=[outer, *default])
