"""What kernels share whose lanes are rows of x: x laid out in columns, and sums of columns stored in rows of y.

Such a kernel has a block "transpose" over (tile, square of columns, square of rows) that writes x into `xt` (tiles, K, rows of
a tile), and a block "epilogue" over (tile, row group, square of the group, square of rows) that stores `acc` (tiles, row groups,
16, rows of a tile). Both move numbers in squares of registers (`transposed.py`).
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

GROUP = 16  # rows of the weight that are padded and laid out together
TASKS = 8  # of sets and tiles of x, at least, and two for each core, for threads to share


def count_column_groups(n: int) -> int:
    """Row groups that N rows take, padding included."""
    return -(-n // GROUP)


def pack_column_bias(bias: Array) -> Array:
    """Lay a bias (N,) out in row groups: (groups, 16)."""
    return np.pad(bias, (0, count_column_groups(len(bias)) * GROUP - len(bias))).reshape(-1, GROUP)


def count_tasks(target: tvm.target.Target) -> int:
    """Tasks that a layer is to be cut into at least."""
    return max(TASKS, 2 * int(target.attrs.get("num-cores", 0)))


def tile_rows(m: int, times: Mapping[int, float]) -> int:
    """Return the rows of a tile for M rows of x: those of `times`, which has what a row takes in each, that take the least."""
    return min(times, key=lambda size: -(-m // size) * size * times[size])


@dataclass(frozen=True)
class PackedActivations:
    """How a kernel lays x out in columns.

    Parameters
    ----------
    workload : Workload
    rows : RowTiles
        Tiles of rows of x.
    side : int
        Of a square; it divides a tile's rows and a row group's.
    activations : mapping
        From a name to a function of a vector of `side` sums.
    optimization_barrier : callable, optional
        As for `transposed`.
    ahead : int, optional
        Columns of a tile of K, where x and y come from memory, else 0. Each square of x that is laid out then fetches the one at
        its place in the next tile, and each of y that is stored the one of the next row group. 1.04x for cpu_portable with AVX2,
        M = 1024, N and K of 384 and 1536.
    """

    workload: Workload
    rows: RowTiles
    side: int
    activations: Mapping[str, Callable[[Any], Any]]
    optimization_barrier: Callable[[Any], Any] = lambda vector: vector
    ahead: int = 0

    def squares(self, columns: int) -> int:
        """Squares side by side that cover so many columns."""
        return -(-columns // self.side)

    def lay_out(self, x: tirx.Buffer, xt: tirx.Buffer, o: Any, c: Any, i: Any) -> None:
        """Store a square of x in columns, from inside TVMScript; zeros past K."""
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
        """Store a square of sums in rows of y, from inside TVMScript; `buffers` are acc, bias, residual and y."""
        acc, bias, *others = buffers
        side, rows = self.side, self.rows
        if self.ahead:
            column = (g + 1) * GROUP
            self._at_each_line(q, lambda p: prefetch_stores(others, self.workload, rows.at(o, i * side + p), column))
        square = [acc[o, g, q * side + p, T.ramp(i * side, 1, side)] for p in range(side)]
        for p, sums in enumerate(transpose_registers(square, self.optimization_barrier)):
            row, total = rows.at(o, i * side + p), sums + bias[g, T.ramp(q * side, 1, side)]
            if rows.exact:
                self._store(others, row, g * GROUP + q * side, total)
            else:
                with T.If(row < rows.m), T.Then():
                    self._store(others, row, g * GROUP + q * side, total)

    def _at_each_line(self, square: Any, emit: Callable[[int], None]) -> None:
        """Emit something for each row of those squares that begin a cache line of it."""
        with T.If(square * self.side % (LINE // 4) == 0), T.Then():
            for p in range(self.side):
                emit(p)

    def _read(self, source: tirx.Buffer, row: Any, column: Any, columns: int, whole: bool) -> Any:
        """Read `side` columns of a row from one on, zeros past the last; `whole` where none is."""
        side = self.side
        along = T.ramp(column, 1, side)
        if whole:
            return source[row, along]
        within = along < T.broadcast(int64(columns), side)
        read = T.masked_load(f"float32x{side}", source, row, along, within)
        # What is masked out may be anything, and a slot without a value meets it as 0 times that. It is cleared by its bits:
        # inside T.Select(within, ...) TVM would take the mask of the load for true, and the load would pass the last row.
        kept = T.Select(within, T.broadcast(T.int32(-1), side), T.broadcast(T.int32(0), side))
        return T.reinterpret(f"float32x{side}", T.reinterpret(f"int32x{side}", read) & kept)

    def _store(self, buffers: list[tirx.Buffer], row: Any, column: Any, total: Any) -> None:
        residual, y = buffers
        side, n, workload = self.side, self.workload.n, self.workload
        whole = n % side == 0
        total = total + self._read(residual, row, column, n, whole) if workload.residual else total
        # An activation reads its argument many times, and what is inlined into it would be copied as often: 8 s to compile.
        bound = tirx.Var("total", f"float32x{side}")
        result = tirx.Let(bound, total, self.activations[workload.activation](bound))
        along = T.ramp(column, 1, side)
        if whole:
            # groups may be of more rows than a square, so that the last may begin past N
            with T.If(column < int64(n)), T.Then():
                T.buffer_store(y, result, [row, along])
        else:
            T.evaluate(T.masked_store(y, result, row, along, along < T.broadcast(int64(n), side)))
