"""Helpers for kernels whose lanes are rows of x: packed activations, and sums of columns that are
stored in rows of y.

Such a kernel has a block "transpose" over (row tile, tile of columns, tile of rows), which writes x
into `xt` (row tiles, K, rows of a tile). Its block "epilogue" over (row tile, row panel, tile of
the panel, tile of rows) stores `acc` (row tiles, row panels, 16, rows of a tile). Both transpose
square tiles in registers (`register_transpose.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.prefetch import prefetch_line
from tvm_balanced.schedules.tir.prefetch_rows import LINE, prefetch_stores
from tvm_balanced.schedules.tir.register_transpose import transpose_registers

GROUP = 16  # rows of the weight that are padded and packed together
TASKS = 8  # at least this many (set, row tile) pairs for the threads to share, and at least two for each core


def count_column_groups(n: int) -> int:
    """Return the number of row panels for N rows, padding included."""
    return -(-n // GROUP)


def pack_column_bias(bias: Array) -> Array:
    """Pack a bias (N,) into row panels: (panels, 16)."""
    return np.pad(bias, (0, count_column_groups(len(bias)) * GROUP - len(bias))).reshape(-1, GROUP)


def count_tasks(target: tvm.target.Target) -> int:
    """Return the minimum number of tasks that a layer is split into."""
    return max(TASKS, 2 * int(target.attrs.get("num-cores", 0)))


def tile_rows(m: int, times: Mapping[int, float]) -> int:
    """Choose the rows of a tile for M rows of x: the fastest entry of `times`, which gives the time
    of a row for each tile height.
    """
    return min(times, key=lambda size: -(-m // size) * size * times[size])


@dataclass(frozen=True)
class PackedActivations:
    """How a kernel packs x in columns.

    Parameters
    ----------
    workload : Workload
    rows : RowTiles
        Row tiles of x.
    side : int
        Side of a transpose tile; it divides the rows of a row tile and of a row panel.
    activations : mapping
        From a name to a function of a vector of `side` sums.
    optimization_barrier : callable, optional
        See `register_transpose`.
    scaled : callable, optional
        From a vector of sums, float32, the row panel and first row of the weight in it, and a row of x, to what they stand for.
    ahead : int, optional
        Columns of a tile of K if x and y are loaded from memory, else 0. Each transpose tile of x
        then prefetches the tile at its place in the next tile of K, and each stored tile of y
        prefetches that of the next row panel. This is 1.04x for cpu_portable: see
        docs/measurements/kernels.md.
    """

    workload: Workload
    rows: RowTiles
    side: int
    activations: Mapping[str, Callable[[Any], Any]]
    optimization_barrier: Callable[[Any], Any] = lambda vector: vector
    ahead: int = 0
    scaled: Callable[[Any, Any, Any, Any], Any] = lambda sums, _g, _r, _row: sums

    def squares(self, columns: int) -> int:
        """Return the number of adjacent transpose tiles that cover so many columns."""
        return -(-columns // self.side)

    def lay_out(self, x: tirx.Buffer, xt: tirx.Buffer, o: Any, c: Any, i: Any) -> None:
        """Store a transpose tile of x in columns, with zeros past K. Call it inside TVMScript."""
        side, k, total = self.side, self.workload.k, xt.shape[1].value
        if self.ahead:
            later = c * side + self.ahead
            self._at_each_line(
                c, lambda p: T.evaluate(prefetch_line(x[self.rows.at(o + later // total, i * side + p), later % total]))
            )
        square = [self._read(x, self.rows.read(o, i * side + p), c * side, k, total == k) for p in range(side)]
        for p, column in enumerate(transpose_registers(square, self.optimization_barrier)):
            T.buffer_store(xt, column, [o, c * side + p, T.ramp(i * side, 1, side)])

    def finish(self, buffers: tuple[tirx.Buffer, ...], o: Any, g: Any, q: Any, i: Any) -> None:
        """Store a transpose tile of sums in rows of y. Call it inside TVMScript; `buffers` are acc,
        bias, residual and y.
        """
        acc, bias, *others = buffers
        side, rows = self.side, self.rows
        if self.ahead:
            column = (g + 1) * GROUP
            self._at_each_line(q, lambda p: prefetch_stores(others, self.workload, rows.at(o, i * side + p), column))
        square = [acc[o, g, q * side + p, T.ramp(i * side, 1, side)] for p in range(side)]
        if acc.dtype != "float32":
            square = [T.cast(sums, f"float32x{side}") for sums in square]
        for p, sums in enumerate(transpose_registers(square, self.optimization_barrier)):
            row = rows.at(o, i * side + p)
            total = self.scaled(sums, g, q * side, row) + bias[g, T.ramp(q * side, 1, side)]
            if rows.exact:
                self._store(others, row, g * GROUP + q * side, total)
            else:
                with T.If(row < rows.m), T.Then():
                    self._store(others, row, g * GROUP + q * side, total)

    def _at_each_line(self, square: Any, emit: Callable[[int], None]) -> None:
        """Emit a statement for each row of the transpose tiles that begin a cache line."""
        with T.If(square * self.side % (LINE // 4) == 0), T.Then():
            for p in range(self.side):
                emit(p)

    def _read(self, source: tirx.Buffer, row: Any, column: Any, columns: int, whole: bool) -> Any:
        """Read `side` columns of a row, starting at `column`, with zeros past the last one. `whole`
        says that none is past it.
        """
        side = self.side
        along = T.ramp(column, 1, side)
        if whole:
            return source[row, along]
        within = along < T.broadcast(int64(columns), side)
        read = T.masked_load(f"float32x{side}", source, row, along, within)
        # A masked-out lane may hold anything, and unused slots multiply it by 0, so a NaN would
        # survive. It is therefore cleared with a bitwise and: inside T.Select(within, ...) TVM
        # would assume that the load's mask is true, and the load would read past the last row.
        kept = T.Select(within, T.broadcast(T.int32(-1), side), T.broadcast(T.int32(0), side))
        return T.reinterpret(f"float32x{side}", T.reinterpret(f"int32x{side}", read) & kept)

    def _store(self, buffers: list[tirx.Buffer], row: Any, column: Any, total: Any) -> None:
        residual, y = buffers
        side, n, workload = self.side, self.workload.n, self.workload
        whole = n % side == 0
        total = total + self._read(residual, row, column, n, whole) if workload.residual else total
        # An activation reads its argument many times. Inlining the sum would copy it as often: 8 s to compile.
        bound = tirx.Var("total", f"float32x{side}")
        result = tirx.Let(bound, total, self.activations[workload.activation](bound))
        along = T.ramp(column, 1, side)
        if whole:
            # a row panel may have more rows than a transpose tile, so the last tile may begin past N
            with T.If(column < int64(n)), T.Then():
                T.buffer_store(y, result, [row, along])
        else:
            T.evaluate(T.masked_store(y, result, row, along, along < T.broadcast(int64(n), side)))
