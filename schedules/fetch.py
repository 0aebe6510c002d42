"""Fetching weights before they are used: which lines of the packed weight a step of a kernel brings into the cache.

Hardware prefetch alone lets memory and arithmetic wait for each other, and begins anew with every row group. One thread of Zen 4,
cpu_avx512, cold, 4096x4096 and 16384x8192, 4:16 to 1:16, as fast as without: M = 1 1.05 to 1.09x, 2 1.2 to 1.4x, 3 to 12 1.1 to
1.5x, 16 1.05 to 1.2x, 24 1.04 to 1.19x, 64 1.01 to 1.07x. Layers that stay in the last-level cache lose, 0.8 to 0.95x.

TVM's prefetch becomes LLVM's, for which LLVM takes any memory to change: sums that it keeps in registers were stored at every
step, 0.55x the speed. So it is an instruction of its own, which is said to touch no memory of the program.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.schedules.kernel import Rows, Workload, int64
from tvm_balanced.schedules.row_groups import LARGE_BYTES, Tiles, cut_rows

FETCHED_TILES = ((1, 1, 1), (2, 2, 2), (3, 4, 4), (5, 6, 6), (7, 8, 8), (9, 12, 12), (13, 16, 16))  # as SMALL_TILES
STREAMED_ROWS = 16  # rows of x in one tile
AHEAD = 64  # steps; 4 KB of each group
# Few rows of x ask for weights faster than lines come from far ahead: at M = 1, 4:16, 64 steps had 0.95x, 16 have 1.06x.
FEW_ROWS, AHEAD_OF_FEW = 2, 16
SPREAD_TILES = 16  # with more tiles of rows of x the weights' way does not count: 0.99 to 1.03x at M = 256

INTO_SECOND_LEVEL = """
define linkonce_odr i32 @tvm_balanced_fetch(ptr %line) alwaysinline nounwind willreturn {
  call void asm sideeffect "prefetcht1 ($0)", "r"(ptr %line) nounwind willreturn memory(inaccessiblemem: readwrite)
  ret i32 0
}
"""


def fetch(element: Any) -> Any:
    """Return the expression that brings the cache line of a buffer's element into the second-level cache of an x86 CPU.

    The element may lie past the buffer's end. The schedule must call `import_fetch`.
    """
    return T.call_extern("int32", "tvm_balanced_fetch", T.address_of(element))


def import_fetch(sch: Schedule, block: str, others: str = "") -> None:
    """Let the function whose schedule is `sch` use `fetch`, and `others`, also in LLVM's IR; `block` is any of its blocks."""
    sch.annotate(sch.get_loops(sch.get_sblock(block))[0], "pragma_import_llvm", others + INTO_SECOND_LEVEL)


@dataclass(frozen=True)
class Stream:
    """Fetch what is used a few chunks later: for a layer whose weights pass once, in one tile of rows of x.

    Parameters
    ----------
    chunks : int
        Of a row group.
    steps : int
        Of a chunk.
    ahead : int
        Steps, rounded to chunks.
    groups : int
        Row groups of a tile: after a group's last chunk comes the first of the group that many later.
    """

    chunks: int
    steps: int
    ahead: int
    groups: int

    def emit(self, buffers: Sequence[tirx.Buffer], lines: Sequence[int], group: Any, chunk: Any, step: Any, _tile: Any) -> None:
        """Emit the fetches of a step of a group, of (G, words, 64 bytes) `buffers` with so many `lines` a chunk."""
        later = chunk + max(1, round(self.ahead / self.steps))
        past = later >= self.chunks
        group, later = group + T.Select(past, self.groups, 0), later - T.Select(past, self.chunks, 0)
        for buffer, count in zip(buffers, lines, strict=True):
            every = self.steps // count
            with T.If(step % every == 0), T.Then():
                T.evaluate(fetch(buffer[group, later * count + step // every, 0]))


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
                    T.evaluate(fetch(buffer[group + self.groups, line, 0]))


def cut_rows_once(workload: Workload, nbytes: int) -> Rows:
    """Cut M as `cut_rows` does, but up to STREAMED_ROWS into one tile, of two equal halves, where `nbytes` of weights stream."""
    if workload.m is None or workload.m <= 8 or not streams(workload, nbytes):
        return cut_rows(workload)
    return Rows(int64(workload.m), -(-workload.m // 2) * 2)


def streams(workload: Workload, nbytes: int) -> bool:
    """Whether `nbytes` of packed weights come from memory and pass once."""
    return 0 < _rows(workload) <= STREAMED_ROWS and is_large(nbytes)


def is_large(nbytes: int) -> bool:
    """Whether packed weights of so many bytes come from memory in the models that have such layers."""
    return nbytes >= LARGE_BYTES


def choose(workload: Workload, nbytes: int, chunks: int, steps: int, rows: Rows, tiles: Tiles) -> Stream | Spread | None:
    """Return how `nbytes` of packed weights, `chunks` of `steps` in a row group, are fetched; None where they are not."""
    if streams(workload, nbytes):
        return Stream(chunks, steps, AHEAD_OF_FEW if _rows(workload) <= FEW_ROWS else AHEAD, tiles.groups)
    known = rows.known_tiles
    if known is None or known > SPREAD_TILES or not is_large(nbytes):
        return None
    return Spread(chunks, known, tiles.groups * tiles.together)


def _rows(workload: Workload) -> int:
    """Return M, or where it is symbolic the tile of it that an instance is for, 0 in the instance for all others."""
    return workload.tile if workload.m is None else workload.m
