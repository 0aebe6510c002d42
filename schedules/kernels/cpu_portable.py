"""Balanced-sparse dense layer for any LLVM target and any block: rows of x in lanes.

x is packed in columns, tile by tile. A nonzero of the weight then needs no gather: it multiplies
whole vectors of rows of x at its column.

    acc[row of weight][rows of x] += value * xt[column of value][rows of x]

With tiles of K, the part of x in use stays in the first-level cache. The sums of a set of rows of
the weight stay in the second-level cache until the next tile. Layout, for N padded to row panels
and K split into tiles of KB blocks:

    values   (tiles of K, groups, 16, KB, nnz)  float32
    indices  (tiles of K, groups, 16, KB, nnz)  uint8    position inside the block
    bias     (groups, 16)                       float32

A row's slots of a tile lie together. Otherwise LLVM loads the indices of eight rows as one vector
and extracts each of them: 1.4x the time at M = 8.
"""

import math
from typing import ClassVar

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.schedules.base.expressions import divisor, int64
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir import prefetch_rows
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.packed_activations import (
    GROUP,
    PackedActivations,
    count_column_groups,
    count_tasks,
    pack_column_bias,
    tile_rows,
)
from tvm_balanced.schedules.tir.prefetch import import_prefetch
from tvm_balanced.schedules.tir.tiling import divide

K_TILE = 128  # about the columns of a tile of K: with 64 rows of x 32 KB
# Rows of the weight for which a tile of x is packed once; their sums take 256 KB. Up to 1.08x as fast as 512 rows.
SET_ROWS = 1024
# Up to this many row tiles, all of x is packed first, so that sets can be small. One tile that is
# packed again for each of eight sets takes up to 1.8x the time. With more tiles, x is read from the
# last-level cache.
AT_ONCE = 3
# Rows of x in a tile, and the time of a row relative to that in the longest tile. Each load of a
# value or an index serves all vectors of a tile. Measured on one Zen 4 thread with AVX2, 3072x768
# at 4:16 and 768x3072 at 2:16.
TILES = {64: 1.0, 32: 1.1, 24: 1.25, 16: 1.35, 8: 1.85, 4: 3.4}
SYMBOLIC = 32  # rows of a tile if M is symbolic and not small: 64 would be half empty too often


class CpuPortable(SparseKernel):
    """Rows of x in lanes, one-byte indices; fp32, any block up to 256."""

    name = "cpu_portable"
    parts: ClassVar[tuple[str, ...]] = ("values", "indices")
    small_tiles = ((1, 4, 4), (5, 8, 8), (9, 16, 16), (17, 24, 24), (33, 48, 24))

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm":
            return "the target is not a CPU"
        return None if dtype == "float32" else f"it does not compute {dtype}"

    def fit(self, found: Detection) -> BalancedPattern | None:
        return found.pattern

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        n, k = weight.shape
        groups, (tiles, blocks) = count_column_groups(n), k_tiles(weight.pattern, k)

        def lay_out(a: Array) -> Array:
            whole = np.zeros((groups * GROUP, tiles * blocks, a.shape[2]), a.dtype)
            whole[:n, : a.shape[1]] = a
            return np.ascontiguousarray(whole.reshape(groups, GROUP, tiles, blocks, -1).transpose(2, 0, 1, 3, 4))

        return lay_out(weight.values), lay_out(weight.indices.astype(np.uint8))

    def pack_bias(self, bias: Array) -> Array:
        return pack_column_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows = row_tiles(workload)
        n, k, nnz, block = workload.n, workload.k, workload.nnz, workload.block
        tiles, blocks = k_tiles(workload.pattern, k)
        side, far = side_of(workload), prefetch_rows.are_large(workload) and not packs_at_once(workload)
        ahead = blocks * block if far else 0
        columns = PackedActivations(workload, rows, side, ACTIVATIONS, ahead=ahead)
        squares = columns.squares(tiles * blocks * block)
        n_, k_, groups_, tiles_, blocks_, nnz_, size_ = map(int64, (n, k, count_column_groups(n), tiles, blocks, nnz, rows.size))
        packed = (tiles_, groups_, GROUP, blocks_, nnz_)
        acc_shape, xt_shape = (rows.tiles, groups_, GROUP, size_), (rows.tiles, int64(squares * side), size_)

        @T.prim_func(private=True, s_tir=True)
        def cpu_portable(
            x_: T.handle, values_: T.handle, indices_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), "float32")
            values = T.match_buffer(values_, packed, "float32")
            indices = T.match_buffer(indices_, packed, "uint8")
            bias = T.match_buffer(bias_, (groups_, GROUP), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            xt = T.sblock_alloc_buffer(xt_shape, "float32")
            acc = T.sblock_alloc_buffer(acc_shape, "float32")
            for o, c, i in T.grid(rows.tiles, int64(squares), size_ // side):
                with T.sblock("transpose"):
                    vo, vc, vi = T.axis.remap("SSS", [o, c, i])
                    T.reads(x[rows.read(vo, vi * side), T.min(vc * side, k_ - 1)])
                    T.writes(xt[vo, vc * side : vc * side + side, vi * side : vi * side + side])
                    columns.lay_out(x, xt, vo, vc, vi)
            for o, g, t, b, r, j, i in T.grid(rows.tiles, groups_, tiles_, blocks_, GROUP, nnz_, size_):
                with T.sblock("dense"):
                    vo, vg, vt, vb, vr, vj, vi = T.axis.remap("SSRRSRS", [o, g, t, b, r, j, i])
                    T.reads(
                        xt[vo, (vt * blocks + vb) * block : (vt * blocks + vb) * block + block, vi],
                        values[vt, vg, vr, vb, vj],
                        indices[vt, vg, vr, vb, vj],
                    )
                    T.writes(acc[vo, vg, vr, vi])
                    with T.init():
                        acc[vo, vg, vr, vi] = T.float32(0)
                    acc[vo, vg, vr, vi] = (
                        acc[vo, vg, vr, vi]
                        + xt[vo, (vt * blocks + vb) * block + T.cast(indices[vt, vg, vr, vb, vj], "int64"), vi]
                        * values[vt, vg, vr, vb, vj]
                    )
            for o, g, q, i in T.grid(rows.tiles, groups_, GROUP // side, size_ // side):
                with T.sblock("epilogue"):
                    vo, vg, vq, vi = T.axis.remap("SSSS", [o, g, q, i])
                    T.reads(
                        acc[vo, vg, vq * side : vq * side + side, vi * side : vi * side + side],
                        bias[vg, vq * side : vq * side + side],
                    )
                    T.writes(y[rows.read(vo, vi * side), T.min(vg * GROUP + vq * side, n_ - 1)])
                    columns.finish((acc, bias, residual, y), vo, vg, vq, vi)

        return workload.attach(cpu_portable)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        rows = row_tiles(workload)
        transpose, dense, epilogue = (sch.get_sblock(name) for name in ("transpose", "dense", "epilogue"))
        o, g, t, b, r, j, i = sch.get_loops(dense)
        sums = 16 if lanes(target) == 16 else 8  # 32 or 16 registers; eight sums hide the latency of multiply-add
        width = divisor(rows.size, lanes(target))
        vectors = divisor(rows.size // width, sums)
        go, gi = sch.split(g, divide(sch, g, groups_of_set(workload, target)))
        ro, ri = sch.split(r, divide(sch, r, sums // vectors))
        io, iv, ii = sch.split(i, [None, vectors, width])
        sch.reorder(o, go, t, gi, ro, io, b, j, ri, iv, ii)
        sch.reverse_compute_at(epilogue, go, preserve_unit_loops=True)
        if packs_at_once(workload):
            sch.parallel(sch.fuse(*sch.get_loops(transpose)[:2]))
        else:
            sch.compute_at(transpose, t, preserve_unit_loops=True)
        for loop in (ri, iv):
            sch.unroll(loop)
        sch.vectorize(ii)
        sch.parallel(sch.fuse(o, go))
        if prefetch_rows.are_large(workload):
            import_prefetch(sch, "dense", target, stores=True)
        init = sch.decompose_reduction(dense, t)
        sch.vectorize(sch.get_loops(init)[-1])

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        tiles, blocks = k_tiles(workload.pattern, workload.k)
        size = tile_size(m) if workload.m is not None else next(iter(self.tiles_in(workload, RowRange(m, m))), SYMBOLIC)
        padded, sets = -(-m // size) * size, -(-workload.n // SET_ROWS)
        # Share of the peak on one Zen 4 thread with AVX2: 0.57 with eight vectors per tile
        # (docs/measurements/kernels.md). Sums are loaded and stored once per tile of K. Packing or
        # unpacking a number takes as long as ten multiply-adds.
        sums = workload.n * tiles * (blocks * workload.nnz + 2) + 10 * (sets * workload.k + workload.n)
        # Weights are read at 11 GB/s, by cpu_dense at 28 (docs/measurements/kernels.md).
        nbytes = workload.n * tiles * blocks * workload.nnz * 5 * 2.6
        return roofline.seconds(padded * sums, 0.66 / (1 + roofline.lanes / size), nbytes)


def k_tiles(pattern: BalancedPattern, k: int) -> tuple[int, int]:
    """Return how many tiles K is split into, and the blocks of each, padding included.

    A tile consists of whole transpose tiles of 16 columns if that needs few enough blocks, so that
    x can be packed tile by tile.
    """
    blocks = pattern.blocks(k)
    tiles = -(-blocks // max(1, K_TILE // pattern.block))
    each, whole = -(-blocks // tiles), GROUP // math.gcd(GROUP, pattern.block)
    if whole * pattern.block <= 4 * K_TILE:
        each = -(-each // whole) * whole
    return -(-blocks // each), each


def packs_at_once(workload: Workload) -> bool:
    """Whether all of x is packed in columns first."""
    few = bool(workload.tile) if workload.m is None else -(-workload.m // tile_size(workload.m)) <= AT_ONCE
    _, blocks = k_tiles(workload.pattern, workload.k)
    return few or blocks * workload.block % side_of(workload) != 0


def groups_of_set(workload: Workload, target: tvm.target.Target) -> int:
    """Return how many row panels of the weight are a set. If the row tiles of x are unknown, half the maximum."""
    groups, tiles = count_column_groups(workload.n), row_tiles(workload).known_tiles
    tasks, most = count_tasks(target), SET_ROWS // GROUP
    return divisor(groups, most // 2 if tiles is None else max(1, min(most, groups * tiles // tasks)))


def side_of(workload: Workload) -> int:
    """Return the side of the tiles in which x and the sums are transposed: 16 does not fit the
    registers of AVX2 (1.25x the time).
    """
    return 4 if row_tiles(workload).size == 4 else 8


def row_tiles(workload: Workload) -> RowTiles:
    """Return how the rows of x are split."""
    if workload.m is None:
        return RowTiles.of(None, longest=SYMBOLIC, symbolic=workload.tile or SYMBOLIC)
    return RowTiles(int64(workload.m), tile_size(workload.m))


def tile_size(m: int) -> int:
    """Return the rows of a tile for M rows of x."""
    return tile_rows(m, TILES)


CPU_PORTABLE = CpuPortable()
