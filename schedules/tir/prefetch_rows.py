"""How x, residual and y come from memory: which of their lines a kernel fetches while it computes what comes before.

Weights lie in the order of their use, and hardware prefetch follows them. A tile reads a few lines of each of its rows of x, and
stores a line or two in each row of y, so that every line is waited for. In small layers they are still in the caches, where the
layer before has left them; those of many rows come from memory. One thread of Zen 4, M = 1024, N and K of 384 and 1536, 2:16 and
4:16, x and y in turn among 10 MB, as fast as without: cpu_avx512 1.09x, 1.2x with a residual, cpu_avx512_spmm 1.13 and 1.3x,
cpu_portable 1.04x, cpu_avx512_bf16 and cpu_avx512_i8 1.04x, cpu_dense 1.02x. The last two fetch y and the residual alone, and
instances for a few rows, where M is known only at the call, nothing.
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
# Of x and y, from which on they are fetched. MiniLM, 2:16 and 4:16, one thread, fetched in all layers: 256 and 512 rows, 0.8 to
# 3.9 MB, 0.98 to 1.0x as fast; 1024 rows, 3 to 8 MB, 1.04 to 1.07x.
FAR_BYTES = 2 << 20


def _itemsize(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def are_large(workload: Workload) -> bool:
    """Whether x and y come from memory; so they may where M is known only at the call and not small."""
    if workload.m is None:
        return not workload.tile
    return workload.m * (workload.n + workload.k) * _itemsize(workload.dtype) >= FAR_BYTES


def prefetch_stores(buffers: Sequence[tirx.Buffer], workload: Workload, row: Any, column: Any) -> None:
    """Fetch the line of an element of `buffers`, of the residual, which is read later, and of y, from inside TVMScript."""
    residual, y = buffers
    T.evaluate(prefetch_line_for_write(y[row, column]))
    if workload.residual:
        T.evaluate(prefetch_line(residual[row, column]))


@dataclass(frozen=True)
class NextRows:
    """Fetch the next tile of rows of x while the row groups of a set are computed for this one.

    Each tile of row groups fetches an equal share of the rows, block by block. It is one row at least, so that where a set has
    more tiles than a tile has rows the others fetch the last row again.

    Parameters
    ----------
    rows : RowTiles
        Tiles of rows of x.
    tiles : Tiles
        How the layer is cut.
    columns : int
        Of a line.
    """

    rows: RowTiles
    tiles: Tiles
    columns: int

    @classmethod
    def of(cls, workload: Workload, rows: RowTiles, tiles: Tiles) -> "NextRows | None":
        """Return what a layer fetches, None where there is no next tile or all of x is near."""
        if rows.known_tiles == 1 or not are_large(workload):
            return None
        return cls(rows, tiles, LINE // _itemsize(workload.dtype))

    def emit(self, x: tirx.Buffer, group: Any, tile: Any, column: Any, columns: int) -> None:
        """Emit the fetches of a tile of rows of x and of `columns` columns from one on, for the turn of a row group."""
        share = -(-self.rows.size // self.tiles.together)
        with T.If(group % self.tiles.groups == 0), T.Then():
            for row in range(share):
                for part in range(0, columns, self.columns):
                    later = T.min(group // self.tiles.groups % self.tiles.together * share + row, self.rows.size - 1)
                    T.evaluate(prefetch_line(x[self.rows.at(tile + 1, later), column + part]))
