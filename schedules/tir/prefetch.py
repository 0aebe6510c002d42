"""How weights come from memory: in which order row groups are read, and which lines a step of a kernel fetches ahead of its use.

Hardware prefetch alone lets memory and arithmetic wait for each other, and begins anew with every stream. One thread of Zen 4,
cpu_avx512, cold, 4096x4096 and 16384x8192, 4:16 to 1:16, as fast as without: M = 1 1.05 to 1.09x, 2 1.2 to 1.4x, 3 to 12 1.1 to
1.5x, 16 1.05 to 1.2x, 24 1.04 to 1.19x, 64 1.01 to 1.07x. Small layers fetch too, for the weights of a model's layers do not stay
in the second-level cache from call to call: docs/cpu.md.

TVM's prefetch becomes LLVM's, for which LLVM takes any memory to change: sums that it keeps in registers were stored at every
step, 0.55x the speed. So it is an instruction of its own, which is said to touch no memory of the program.
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

# Where M is symbolic it is cut into tiles of 4 rows, which read weights again for every one of them; up to 16 rows have instances
# with one tile: (first M, last M, rows of the tile).
STREAMED_TILES = ((1, 1, 1), (2, 2, 2), (3, 4, 4), (5, 6, 6), (7, 8, 8), (9, 12, 12), (13, 16, 16))
STREAMED_ROWS = 16  # rows of x in one tile
AHEAD = 64  # steps; 4 KB of each group
# Few rows of x ask for weights faster than lines come from far ahead: at M = 1, 4:16, 64 steps had 0.95x, 16 have 1.06x. In a
# small layer hardware prefetch keeps up with few rows: fetching has 1.00 to 1.07x, and 0.83 to 0.88x where weights are hot.
FEW_ROWS, AHEAD_OF_FEW = 2, 16
SPREAD_TILES = 16  # with more tiles of rows of x the weights' way does not count: 0.99 to 1.03x at M = 256


def _function(name: str, instruction: str) -> str:
    """Return LLVM's IR of a function of an address that runs an instruction of x86 on it."""
    return f"""
define linkonce_odr i32 @{name}(ptr %line) alwaysinline nounwind willreturn {{
  call void asm sideeffect "{instruction} ($0)", "r"(ptr %line) nounwind willreturn memory(inaccessiblemem: readwrite)
  ret i32 0
}}
"""


def _nothing(name: str) -> str:
    """Return LLVM's IR of a function of an address that does nothing, for other CPUs."""
    return f"""
define linkonce_odr i32 @{name}(ptr %line) alwaysinline nounwind willreturn memory(none) {{
  ret i32 0
}}
"""


PREFETCH, PREFETCH_FOR_WRITE = "tvm_balanced_fetch", "tvm_balanced_fetch_to_store"
INTO_SECOND_LEVEL, NOWHERE = _function(PREFETCH, "prefetcht1"), _nothing(PREFETCH)
TO_STORE, NOT_TO_STORE = _function(PREFETCH_FOR_WRITE, "prefetchw"), _nothing(PREFETCH_FOR_WRITE)


def prefetch_line(element: Any) -> Any:
    """Return the expression that brings the cache line of a buffer's element into the second-level cache.

    The element may lie past the buffer's end. The schedule must call `import_prefetch`.
    """
    return T.call_extern("int32", PREFETCH, T.address_of(element))


def prefetch_line_for_write(element: Any) -> Any:
    """Return the expression that brings the cache line of a buffer's element near, for this core alone, as a store needs it.

    The element may lie past the buffer's end. The schedule must call `import_prefetch` with `stores`.
    """
    return T.call_extern("int32", PREFETCH_FOR_WRITE, T.address_of(element))


def import_prefetch(sch: Schedule, block: str, target: tvm.target.Target, others: str = "", stores: bool = False) -> None:
    """Let the function whose schedule is `sch` use `prefetch_line`, with `stores` also `prefetch_line_for_write`, and `others`,
    in LLVM's IR.

    `block` is any of its blocks. On CPUs other than x86 nothing is fetched. What is imported is a part of the space of decisions,
    whose logs are void where it changes.
    """
    text = (INTO_SECOND_LEVEL, TO_STORE) if is_x86(target) else (NOWHERE, NOT_TO_STORE)
    imported = others + text[0] + (text[1] if stores else "")
    sch.annotate(sch.get_loops(sch.get_sblock(block))[0], "pragma_import_llvm", imported)


@dataclass(frozen=True)
class Streams:
    """In which order row groups are computed: those of a tile are G / `count` apart, so that each is a stream of memory that goes
    on from tile to tile.

    Where the row groups of a tile are neighbours every tile begins anew at `count` places, which hardware prefetch has to find
    first. One thread of Zen 4, cpu_avx512 over that, weights of 12 MB in turn: 1.25 to 1.75x at M = 1 for N and K of 384 to 1536,
    1.0 to 1.5x at 8, 1.0 to 1.2x at 16 and nothing from 64 on; 0.96 to 1.03x where they are hot.

    Parameters
    ----------
    groups : int
        G, row groups of the weight.
    count : int
        Row groups of a tile; 1 for the order of memory.
    """

    groups: int
    count: int

    def group(self, position: Any) -> Any:
        """Return the row group whose turn it is at a position of the loop over row groups."""
        if self.count == 1:
            return position
        return position % self.count * (self.groups // self.count) + position // self.count


@dataclass(frozen=True)
class Stream:
    """Fetch what lies a few chunks on: for a layer whose weights pass once, in one tile of rows of x.

    What lies after a row group's last chunk is used next where row groups are in the order of `Streams`.

    Parameters
    ----------
    steps : int
        Of a chunk.
    ahead : int
        Steps, rounded to chunks.
    """

    steps: int
    ahead: int

    def emit(self, buffers: Sequence[tirx.Buffer], lines: Sequence[int], group: Any, chunk: Any, step: Any, _tile: Any) -> None:
        """Emit the fetches of a step of a group, of (G, words, 64 bytes) `buffers` with so many `lines` a chunk."""
        later = chunk + max(1, round(self.ahead / self.steps))
        for buffer, count in zip(buffers, lines, strict=True):
            every = self.steps // count
            with T.If(step % every == 0), T.Then():
                T.evaluate(prefetch_line(buffer[group, later * count + step // every, 0]))


@dataclass(frozen=True)
class Spread:
    """Fetch the next set of row groups while this one is computed for each of several tiles of rows of x.

    Each tile fetches an equal share, a line every few steps. All of it in the first tile would take a branch in the innermost
    loop (0.75 to 0.88x).

    Parameters
    ----------
    chunks : int
        Of a row group.
    tiles : int
        Of rows of x.
    groups : int
        Row groups of a set.
    """

    chunks: int
    tiles: int
    groups: int

    def emit(self, buffers: Sequence[tirx.Buffer], lines: Sequence[int], group: Any, chunk: Any, step: Any, tile: Any) -> None:
        """Emit the fetches of a step, as `Stream.emit` does, in a tile of rows of x."""
        for buffer, count in zip(buffers, lines, strict=True):
            for part in range(-(-count // self.tiles)):
                with T.If(step == part), T.Then():
                    line = (tile * self.chunks + chunk) * count // self.tiles + part
                    T.evaluate(prefetch_line(buffer[group + self.groups, line, 0]))


def split_rows_once(workload: Workload) -> RowTiles:
    """Cut M as `split_rows` does, but up to STREAMED_ROWS into one tile, of two equal halves."""
    if workload.m is None or workload.m <= 8 or not streams(workload):
        return split_rows(workload)
    return RowTiles(int64(workload.m), -(-workload.m // 2) * 2)


def streams(workload: Workload) -> bool:
    """Whether weights pass once, for few rows of x."""
    return 0 < _rows(workload) <= STREAMED_ROWS


def panel_order(workload: Workload, count: int) -> Streams:
    """Return the order of row groups for a layer whose tiles have `count` of them."""
    return Streams(count_row_panels(workload.n), count if streams(workload) else 1)


def choose(workload: Workload, nbytes: int, chunks: int, steps: int, rows: RowTiles, tiles: Tiles) -> Stream | Spread | None:
    """Return how `nbytes` of packed weights, `chunks` of `steps` in a row group, are fetched; None where they are not."""
    few = _rows(workload) <= FEW_ROWS
    if streams(workload):
        return None if few and nbytes < LARGE_BYTES else Stream(steps, AHEAD_OF_FEW if few else AHEAD)
    known, together = rows.known_tiles, tiles.groups * tiles.together
    if known is None or known > SPREAD_TILES or together == count_row_panels(workload.n):  # then there is no next set
        return None
    return Spread(chunks, known, together)


def _rows(workload: Workload) -> int:
    """Return M, or where it is symbolic the tile of it that an instance is for, 0 in the instance for all others."""
    return workload.tile if workload.m is None else workload.m
