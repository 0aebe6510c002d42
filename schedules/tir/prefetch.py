"""Prefetching of weights: the order in which row panels are read, and the lines that a kernel's step prefetches.

With hardware prefetch alone, memory and arithmetic wait for each other, and prefetching starts anew
with every stream. Prefetching in software is up to 1.5x as fast for 3 to 12 rows of x: see
docs/measurements/kernels.md. Small layers prefetch too, because the weights of a model's layers do
not stay in the second-level cache between calls (docs/cpu.md).

TVM's prefetch becomes LLVM's. LLVM assumes that it changes any memory, so sums in registers are
stored at every step. The kernels therefore use inline assembly that is declared to touch no memory
of the program.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.caches import LARGE_BYTES
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.target_info import is_x86
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import count_row_panels
from tvm_balanced.schedules.tir.tiling import Tiles, split_rows

# A symbolic M is split into tiles of 4 rows, and each tile reads the weights again. Up to 16 rows,
# specializations with one tile read them once: (first M, last M, rows of the tile).
STREAMED_TILES = ((1, 1, 1), (2, 2, 2), (3, 4, 4), (5, 6, 6), (7, 8, 8), (9, 12, 12), (13, 16, 16))
STREAMED_ROWS = 16  # rows of x in one tile
AHEAD = 64  # steps; 4 KB of each row panel
# With few rows of x, weights are used sooner than a distant prefetch can load them: at M = 1, 64
# steps had 0.95x. In a small layer hardware prefetch keeps up with few rows. See
# docs/measurements/kernels.md.
FEW_ROWS, AHEAD_OF_FEW = 2, 16
SPREAD_TILES = 16  # with more row tiles of x, prefetching weights gains nothing: 0.99 to 1.03x at M = 256


def _function(name: str, instruction: str) -> str:
    """Return LLVM IR of a function that runs an x86 instruction on an address."""
    return f"""
define linkonce_odr i32 @{name}(ptr %line) alwaysinline nounwind willreturn {{
  call void asm sideeffect "{instruction} ($0)", "r"(ptr %line) nounwind willreturn memory(inaccessiblemem: readwrite)
  ret i32 0
}}
"""


def _nothing(name: str) -> str:
    """Return LLVM IR of a function that takes an address and does nothing, for other CPUs."""
    return f"""
define linkonce_odr i32 @{name}(ptr %line) alwaysinline nounwind willreturn memory(none) {{
  ret i32 0
}}
"""


PREFETCH, PREFETCH_FOR_WRITE = "tvm_balanced_fetch", "tvm_balanced_fetch_to_store"
INTO_SECOND_LEVEL, NOWHERE = _function(PREFETCH, "prefetcht1"), _nothing(PREFETCH)
TO_STORE, NOT_TO_STORE = _function(PREFETCH_FOR_WRITE, "prefetchw"), _nothing(PREFETCH_FOR_WRITE)


def prefetch_line(element: Any) -> Any:
    """Return an expression that prefetches the cache line of a buffer's element into the second-level cache.

    The element may lie past the buffer's end. The schedule must call `import_prefetch`.
    """
    return T.call_extern("int32", PREFETCH, T.address_of(element))


def prefetch_line_for_write(element: Any) -> Any:
    """Return an expression that prefetches the cache line of a buffer's element for a store,
    exclusively for this core.

    The element may lie past the buffer's end. The schedule must call `import_prefetch` with
    `stores`.
    """
    return T.call_extern("int32", PREFETCH_FOR_WRITE, T.address_of(element))


def import_prefetch(sch: Schedule, block: str, target: tvm.target.Target, others: str = "", stores: bool = False) -> None:
    """Let the function with schedule `sch` use `prefetch_line`, with `stores` also
    `prefetch_line_for_write`, and `others` (LLVM IR).

    `block` is any of its blocks. On CPUs other than x86 nothing is prefetched. The imported text is
    part of the space of decisions: if it changes, existing logs are void.
    """
    text = (INTO_SECOND_LEVEL, TO_STORE) if is_x86(target) else (NOWHERE, NOT_TO_STORE)
    imported = others + text[0] + (text[1] if stores else "")
    sch.annotate(sch.get_loops(sch.get_sblock(block))[0], "pragma_import_llvm", imported)


@dataclass(frozen=True)
class Streams:
    """The order in which row panels are computed. Those of a tile are G / `count` apart, so that
    each is a stream of memory that continues from tile to tile.

    If the row panels of a tile were neighbours, every tile would start anew at `count` places, and
    hardware prefetch would have to find each of them first. Apart, they are up to 1.75x as fast at
    M = 1: see docs/measurements/kernels.md.

    Parameters
    ----------
    groups : int
        G, the number of row panels of the weight.
    count : int
        Row panels of a tile; 1 for the order of memory.
    """

    groups: int
    count: int

    def group(self, position: Any) -> Any:
        """Return the row panel that is computed at a position of the loop over row panels."""
        if self.count == 1:
            return position
        return position % self.count * (self.groups // self.count) + position // self.count


@dataclass(frozen=True)
class Stream:
    """Prefetch what lies a few chunks ahead. For a layer that reads its weights once, in one row tile of x.

    In the order of `Streams`, what follows a row panel's last chunk in memory is used next.

    Parameters
    ----------
    steps : int
        Steps of a chunk.
    ahead : int
        Prefetch distance in steps, rounded to chunks.
    """

    steps: int
    ahead: int

    def emit(self, buffers: Sequence[tirx.Buffer], lines: Sequence[int], group: Any, chunk: Any, step: Any, _tile: Any) -> None:
        """Emit the prefetches of a step of a row panel. `buffers` are (G, words, 64 bytes) and have
        `lines` lines per chunk.
        """
        later = chunk + max(1, round(self.ahead / self.steps))
        for buffer, count in zip(buffers, lines, strict=True):
            every = self.steps // count
            with T.If(step % every == 0), T.Then():
                T.evaluate(prefetch_line(buffer[group, later * count + step // every, 0]))


@dataclass(frozen=True)
class Spread:
    """Prefetch the next set of row panels while this one is computed for each of several row tiles of x.

    Each row tile prefetches an equal share, a line every few steps. Prefetching all of it in the
    first row tile would take a branch in the innermost loop (at best 0.88x).

    Parameters
    ----------
    chunks : int
        Chunks of a row panel.
    tiles : int
        Row tiles of x.
    groups : int
        Row panels of a set.
    """

    chunks: int
    tiles: int
    groups: int

    def emit(self, buffers: Sequence[tirx.Buffer], lines: Sequence[int], group: Any, chunk: Any, step: Any, tile: Any) -> None:
        """Emit the prefetches of a step, as `Stream.emit` does, in a row tile of x."""
        for buffer, count in zip(buffers, lines, strict=True):
            for part in range(-(-count // self.tiles)):
                with T.If(step == part), T.Then():
                    line = (tile * self.chunks + chunk) * count // self.tiles + part
                    T.evaluate(prefetch_line(buffer[group + self.groups, line, 0]))


def split_rows_once(workload: Workload) -> RowTiles:
    """Split M as `split_rows` does, except that up to STREAMED_ROWS rows are one tile of two equal halves."""
    if workload.m is None or workload.m <= 8 or not streams(workload):
        return split_rows(workload)
    return RowTiles(int64(workload.m), -(-workload.m // 2) * 2)


def streams(workload: Workload) -> bool:
    """Whether weights are read once, because x has few rows."""
    return 0 < _rows(workload) <= STREAMED_ROWS


def panel_order(workload: Workload, count: int) -> Streams:
    """Return the order of row panels for a layer whose tiles have `count` of them."""
    return Streams(count_row_panels(workload.n), count if streams(workload) else 1)


def choose(workload: Workload, nbytes: int, chunks: int, steps: int, rows: RowTiles, tiles: Tiles) -> Stream | Spread | None:
    """Choose how `nbytes` of packed weights are prefetched; a row panel has `chunks` chunks of
    `steps`. None if they are not.
    """
    few = _rows(workload) <= FEW_ROWS
    if streams(workload):
        return None if few and nbytes < LARGE_BYTES else Stream(steps, AHEAD_OF_FEW if few else AHEAD)
    known, together = rows.known_tiles, tiles.groups * tiles.together
    if known is None or known > SPREAD_TILES or together == count_row_panels(workload.n):  # no next set
        return None
    return Spread(chunks, known, together)


def _rows(workload: Workload) -> int:
    """Return M. If it is symbolic, return the row tile of its specialization, 0 in the general one."""
    return workload.tile if workload.m is None else workload.m
