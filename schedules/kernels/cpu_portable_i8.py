"""Balanced-sparse dense layer in 8 bits for any LLVM target and any block: rows of x in lanes, whole numbers in float32.

As cpu_portable, with rows of x and of the weight rounded to whole numbers (`rounded_rows.py`, `rounded_weight.py`). They are
multiplied and added as float32, which every CPU does fast: a tile of K has at most MOST_SLOTS slots, whose sum is below 2^24 and
so exact in any order. Tiles are added in 32-bit integers. A slot takes 2 bytes instead of 5.

    values   (tiles of K, groups, 16, KB, nnz)  int8
    indices  (tiles of K, groups, 16, KB, nnz)  uint8    position inside the block
    scales   (groups, 16)                       float32
    bias     (groups, 16)                       float32
"""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.schedules.base.expressions import divisor, int64
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.kernels.cpu_portable import (
    SET_ROWS,
    SYMBOLIC,
    CpuPortable,
    groups_of_set,
    k_tiles,
    packs_at_once,
    row_tiles,
    side_of,
    tile_size,
)
from tvm_balanced.schedules.layouts.rounded_weight import LOWEST, round_weight
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.packed_activations import GROUP, PackedActivations, count_column_groups, pack_column_bias
from tvm_balanced.schedules.tir.rounded_rows import STEPS, refuse_columns, round_rows, schedule_rounding
from tvm_balanced.schedules.tir.tiling import divide

MOST_SLOTS = (1 << 24) // (STEPS * -LOWEST)  # 516: no sum of so many products is above 2^24


class CpuPortableI8(CpuPortable):
    """Rows of x in lanes, whole numbers of 8 bits in float32 arithmetic; rounds x and weight, any block up to 256."""

    name = "cpu_portable_i8"
    precision = "int8"
    parts = ("values", "indices", "scales")
    tolerance = 5e-2

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        return refuse_columns(k) or super().refuses(target, n, k, dtype)

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        rounded, scales, _ = round_weight(weight.values)
        values, indices = super().pack(EncodedWeight(rounded, weight.indices, weight.pattern, weight.shape[1]))
        return values, indices, pack_column_bias(scales)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, n, k, nnz, block = row_tiles(workload), workload.n, workload.k, workload.nnz, workload.block
        tiles, blocks = k_tiles(workload.pattern, k)
        assert blocks * nnz <= MOST_SLOTS
        side = side_of(workload)
        squares = -(-tiles * blocks * block // side)
        n_, k_, groups_, tiles_, blocks_, nnz_, size_ = map(int64, (n, k, count_column_groups(n), tiles, blocks, nnz, rows.size))
        packed, acc_shape = (tiles_, groups_, GROUP, blocks_, nnz_), (rows.tiles, groups_, GROUP, size_)
        xt_shape, whole = (rows.tiles, int64(squares * side), size_), -(-k // GROUP) * GROUP

        @T.prim_func(private=True, s_tir=True)
        def cpu_portable_i8(
            x_: T.handle,
            values_: T.handle,
            indices_: T.handle,
            scales_: T.handle,
            bias_: T.handle,
            residual_: T.handle,
            y_: T.handle,
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), "float32")
            values = T.match_buffer(values_, packed, "int8")
            indices = T.match_buffer(indices_, packed, "uint8")
            scales = T.match_buffer(scales_, (groups_, GROUP), "float32")
            bias = T.match_buffer(bias_, (groups_, GROUP), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            rounded, step_of_x, _zero = round_rows(x, whole, None, "float32")
            xt = T.sblock_alloc_buffer(xt_shape, "float32")
            of_tile = T.sblock_alloc_buffer((tiles_, *acc_shape), "float32")
            acc = T.sblock_alloc_buffer(acc_shape, "int32")
            for o, c, i in T.grid(rows.tiles, int64(squares), size_ // side):
                with T.sblock("transpose"):
                    vo, vc, vi = T.axis.remap("SSS", [o, c, i])
                    T.reads(rounded[rows.read(vo, vi * side), T.min(vc * side, k_ - 1)])
                    T.writes(xt[vo, vc * side : vc * side + side, vi * side : vi * side + side])
                    _columns(workload, rows).lay_out(rounded, xt, vo, vc, vi)
            for o, t, g, b, r, j, i in T.grid(rows.tiles, tiles_, groups_, blocks_, GROUP, nnz_, size_):
                with T.sblock("dense"):
                    vo, vt, vg, vb, vr, vj, vi = T.axis.remap("SSSRSRS", [o, t, g, b, r, j, i])
                    T.reads(
                        xt[vo, (vt * blocks + vb) * block : (vt * blocks + vb) * block + block, vi],
                        values[vt, vg, vr, vb, vj],
                        indices[vt, vg, vr, vb, vj],
                    )
                    T.writes(of_tile[vt, vo, vg, vr, vi])
                    with T.init():
                        of_tile[vt, vo, vg, vr, vi] = T.float32(0)
                    of_tile[vt, vo, vg, vr, vi] = of_tile[vt, vo, vg, vr, vi] + xt[
                        vo, (vt * blocks + vb) * block + T.cast(indices[vt, vg, vr, vb, vj], "int64"), vi
                    ] * T.cast(values[vt, vg, vr, vb, vj], "float32")
            for o, t, g, r, i in T.grid(rows.tiles, tiles_, groups_, GROUP, size_):
                with T.sblock("add_tiles"):
                    vo, vt, vg, vr, vi = T.axis.remap("SRSSS", [o, t, g, r, i])
                    with T.init():
                        acc[vo, vg, vr, vi] = T.int32(0)
                    acc[vo, vg, vr, vi] = acc[vo, vg, vr, vi] + T.cast(of_tile[vt, vo, vg, vr, vi], "int32")
            for o, g, q, i in T.grid(rows.tiles, groups_, GROUP // side, size_ // side):
                with T.sblock("epilogue"):
                    vo, vg, vq, vi = T.axis.remap("SSSS", [o, g, q, i])
                    T.reads(
                        acc[vo, vg, vq * side : vq * side + side, vi * side : vi * side + side],
                        bias[vg, vq * side : vq * side + side],
                        scales[vg, vq * side : vq * side + side],
                        step_of_x[rows.read(vo, vi * side)],
                    )
                    T.writes(y[rows.read(vo, vi * side), T.min(vg * GROUP + vq * side, n_ - 1)])
                    _columns(workload, rows, scales, step_of_x).finish((acc, bias, residual, y), vo, vg, vq, vi)

        return workload.attach(cpu_portable_i8)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        rows = row_tiles(workload)
        schedule_rounding(sch, workload.m, workload.k)
        transpose, dense, add, epilogue = (sch.get_sblock(name) for name in ("transpose", "dense", "add_tiles", "epilogue"))
        sums = 16 if lanes(target) == 16 else 8  # as in cpu_portable
        width = divisor(rows.size, lanes(target))
        vectors = divisor(rows.size // width, sums)
        # The epilogue reads the steps of x, so that what it needs moves to it, as in `compute_sums_at_epilogue`.
        o, g, *_ = sch.get_loops(epilogue)
        go, _ = sch.split(g, divide(sch, g, groups_of_set(workload, target)))
        sch.compute_at(add, go, preserve_unit_loops=True)
        *_, t, gi, r, i = sch.get_loops(add)
        ro, ri = sch.split(r, divide(sch, r, sums // vectors))
        io, iv, ii = sch.split(i, [None, vectors, width])
        sch.reorder(t, gi, ro, io, ri, iv, ii)
        sch.compute_at(dense, io, preserve_unit_loops=True)
        *_, b, r_of_dense, j, i_of_dense = sch.get_loops(dense)
        v_of_dense, lanes_of_dense = sch.split(i_of_dense, [vectors, width])
        sch.reorder(b, j, r_of_dense, v_of_dense, lanes_of_dense)
        if packs_at_once(workload):
            sch.parallel(sch.fuse(*sch.get_loops(transpose)[:2]))
        else:
            sch.compute_at(transpose, t, preserve_unit_loops=True)
        for loop in (ri, iv, r_of_dense, v_of_dense):
            sch.unroll(loop)
        for loop in (ii, lanes_of_dense):
            sch.vectorize(loop)
        sch.set_scope(dense, 0, "local")
        sch.parallel(sch.fuse(o, go))
        for block, loop in ((add, t), (dense, b)):
            init = sch.decompose_reduction(block, loop)
            *_, of_rows, last = sch.get_loops(init)
            if block is dense:
                sch.unroll(of_rows)
            sch.vectorize(last)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        tiles, blocks = k_tiles(workload.pattern, workload.k)
        size = tile_size(m) if workload.m is not None else next(iter(self.tiles_in(workload, RowRange(m, m))), SYMBOLIC)
        padded, sets = -(-m // size) * size, -(-workload.n // SET_ROWS)
        # As cpu_portable, with values that are converted, and another pass over x.
        sums = workload.n * tiles * (blocks * workload.nnz + 3) + 12 * (sets * workload.k + workload.n)
        nbytes = workload.n * tiles * blocks * workload.nnz * 2 * 2.6
        return roofline.seconds(padded * sums, 0.6 / (1 + 1.5 * roofline.lanes / size), nbytes)


def _columns(
    workload: Workload, rows: RowTiles, scales: tirx.Buffer | None = None, step_of_x: tirx.Buffer | None = None
) -> PackedActivations:
    """Return how x is packed, and sums are scaled."""

    def scaled(sums: Any, g: Any, first: Any, row: Any) -> Any:
        assert scales is not None
        assert step_of_x is not None
        side = side_of(workload)
        # by one scale after the other: their product may be too small for float32
        return sums * scales[g, T.ramp(first, 1, side)] * T.broadcast(step_of_x[row], side)

    return PackedActivations(workload, rows, side_of(workload), ACTIVATIONS, scaled=scaled)


CPU_PORTABLE_I8 = CpuPortableI8()
