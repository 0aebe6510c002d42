"""Prefetching of x, residual and y: the lines that a kernel prefetches while it computes the previous results.

Weights are stored in the order of their use, and hardware prefetch follows them. A tile reads a few
lines of each of its rows of x, and stores a line or two in each row of y, so it waits for every
line. In small layers these lines are still in the caches, where the previous layer left them. In
layers with many rows they are loaded from memory: prefetching makes cpu_avx512 1.09x as fast at M =
1024 (docs/measurements/kernels.md).

cpu_avx512_i8, cpu_dense and cpu_dense_i8 prefetch only y and the residual. Specializations for a few rows (M
known only at the call) prefetch nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.prefetch import prefetch_line, prefetch_line_for_write
from tvm_balanced.schedules.tir.tiling import Tiles

LINE = 64  # bytes
# Bytes of x and y from which on they are prefetched. MiniLM with 512 rows (at most 3.9 MB) gains
# nothing, with 1024 rows up to 1.07x: see docs/measurements/kernels.md.
FAR_BYTES = 2 << 20


def _itemsize(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def are_large(workload: Workload) -> bool:
    """Whether x and y are loaded from memory. If M is known only at the call and not small, they may be."""
    if workload.m is None:
        return not workload.tile
    return workload.m * (workload.n + workload.k) * _itemsize(workload.dtype) >= FAR_BYTES


def prefetch_stores(buffers: Sequence[tirx.Buffer], workload: Workload, row: Any, column: Any) -> None:
    """Prefetch the lines of an element of `buffers` from inside TVMScript: the residual, which is
    read later, and y.
    """
    residual, y = buffers
    T.evaluate(prefetch_line_for_write(y[row, column]))
    if workload.residual:
        T.evaluate(prefetch_line(residual[row, column]))


@dataclass(frozen=True)
class NextRows:
    """Prefetch the next row tile of x while the row panels of a set are computed for this one.

    Each tile of row panels prefetches an equal share of the rows, block by block, and at least one
    row. If a set has more tiles than a row tile has rows, the remaining ones prefetch the last row
    again.

    Parameters
    ----------
    rows : RowTiles
        Row tiles of x.
    tiles : Tiles
        How the layer is tiled.
    columns : int
        Columns of a cache line.
    """

    rows: RowTiles
    tiles: Tiles
    columns: int

    @classmethod
    def of(cls, workload: Workload, rows: RowTiles, tiles: Tiles) -> "NextRows | None":
        """Return what a layer prefetches; None if there is no next row tile or all of x is in the caches."""
        if rows.known_tiles == 1 or not are_large(workload):
            return None
        return cls(rows, tiles, LINE // _itemsize(workload.dtype))

    def emit(self, x: tirx.Buffer, group: Any, tile: Any, column: Any, columns: int) -> None:
        """Emit the prefetches of a row tile of x for one row panel, for `columns` columns from `column` on."""
        share = -(-self.rows.size // self.tiles.together)
        with T.If(group % self.tiles.groups == 0), T.Then():
            for row in range(share):
                for part in range(0, columns, self.columns):
                    later = T.min(group // self.tiles.groups % self.tiles.together * share + row, self.rows.size - 1)
                    T.evaluate(prefetch_line(x[self.rows.at(tile + 1, later), column + part]))
