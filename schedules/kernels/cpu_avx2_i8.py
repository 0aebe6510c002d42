"""Balanced-sparse dense layer for x86 CPUs with AVX2 in 8 bits: byte shuffles inside a block, dot products of four bytes.

Eight rows of the weight are the lanes of a register. A block of 16 values of x is 16 bytes, in both halves of another. A step
takes four slots of each row: vpshufb moves the four columns of a row into its lane, and a dot product multiplies them by four
values and adds everything to a 32-bit sum:

    acc[8 rows] += dot(vpshufb(block of x, index[8 rows][4 slots]), values[8 rows][4 slots])

The dot product is one vpdpbusd with AVX-VNNI or AVX-512 VNNI, else vpmaddubsw and vpmaddwd, of x moved to -127 to 127: the sums
of two products then fit 16 bits (`dot_products.py`). Where the four slots are of several blocks, as with 1, 2, 3 or 6 of 16, each
block is shuffled and the results are blended.

Rows of x are rounded when the layer runs (`rounded_rows.py`), rows of the weight when it is packed. `layouts/byte_blocks.py` has
the layout. As in cpu_avx2, a row panel is computed in two halves.
"""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T
from tvm.target import codegen

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.byte_blocks import (
    BLOCK,
    PARTS,
    SLOTS,
    blocks_of_chunk,
    blocks_of_step,
    count_chunks,
    pack_blocks,
    steps_of_chunk,
)
from tvm_balanced.schedules.layouts.row_panels import LANES, NNZ, count_row_panels, fit_block, pack_panel_bias
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.dot_products import moved_by, moved_dot, moved_dot_products
from tvm_balanced.schedules.tir.prefetch import import_prefetch, panel_order
from tvm_balanced.schedules.tir.rounded_rows import dequantized, refuse_columns, round_rows, schedule_rounding
from tvm_balanced.schedules.tir.tiling import Tiles, compute_sums_at_epilogue, store_lanes, tiles_together

HALF = 8  # lanes of a register, half a row panel
BYTES = HALF * SLOTS  # of a register
ACCUMULATORS = 4  # of one row of x; more rows have two each, or one where a step shuffles several blocks: more would spill
# Shares of the peak of float32 on eight lanes, for (steps of one block, of several), (many rows of x, one); patterns of both, as
# 6:16, lie between. `python -m benchmarks.int8_verdict` holds them against what is measured. In seconds of one CPU
# the kernel is 1.7x (4:16) and 1.35x (2:16) as fast as cpu_portable at M = 64 with vpmaddubsw, and 1.8x and 1.6x that with VNNI.
SHARES = {False: ((0.85, 0.6), (0.58, 0.42)), True: ((1.4, 1.0), (0.85, 0.6))}
PICK = "tvm_balanced_pick_i8"
_ORDER = ", ".join(f"i32 {byte % BLOCK}" for byte in range(BYTES))
PICK_FUNCTION = f"""
declare <32 x i8> @llvm.x86.avx2.pshuf.b(<32 x i8>, <32 x i8>)
define linkonce_odr <32 x i8> @{PICK}(<16 x i8> %block, <32 x i8> %columns) alwaysinline nounwind willreturn memory(none) {{
  %both = shufflevector <16 x i8> %block, <16 x i8> undef, <32 x i32> <{_ORDER}>
  %r = call <32 x i8> @llvm.x86.avx2.pshuf.b(<32 x i8> %both, <32 x i8> %columns)
  ret <32 x i8> %r
}}
"""


class CpuAvx2I8(SparseKernel):
    """Byte shuffles and 8-bit dot products in 256 bits; rounds x and weight to 8 bits, blocks of 16."""

    name = "cpu_avx2_i8"
    precision = "int8"
    parts = PARTS
    tolerance = 5e-2
    small_tiles = ((1, 1, 1), (2, 2, 2))

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not codegen.llvm_cpu_has_features("avx2", target):
            return "the target has no AVX2"
        if dtype not in self.dtypes:
            return f"it does not compute {dtype}"
        return refuse_columns(k, BLOCK)

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_block(found, BLOCK, NNZ)

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        return pack_blocks(weight)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = _rows(workload), ACTIVATIONS[workload.activation]
        n, k, nnz = workload.n, workload.k, workload.nnz
        groups, chunks, steps, blocks = count_row_panels(n), count_chunks(k, nnz), steps_of_chunk(nnz), blocks_of_chunk(nnz)
        n_, k_, groups_, chunks_, steps_, size_ = map(int64, (n, k, groups, chunks, steps, rows.size))
        halves_, acc_shape = int64(2 * groups), (rows.tiles, size_, int64(groups * LANES))
        streams = panel_order(workload, max(1, _tiles(workload).groups // 2))  # tiles consist of halves

        def group(position: Any) -> Any:
            """Row panel of the half at a position of the loop."""
            return streams.group(position // 2)

        def lanes(position: Any, size: int) -> Any:
            """What of a row panel's `2 * size` elements belongs to a half."""
            return T.ramp(position % 2 * size, 1, size)

        @T.prim_func(private=True, s_tir=True)
        def cpu_avx2_i8(
            x_: T.handle,
            values_: T.handle,
            indices_: T.handle,
            scales_: T.handle,
            totals_: T.handle,
            bias_: T.handle,
            residual_: T.handle,
            y_: T.handle,
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), "float32")
            values = T.match_buffer(values_, (groups_, chunks_ * steps_, 2 * BYTES), "int8")
            indices = T.match_buffer(indices_, (groups_, chunks_ * steps_ // 2, 2 * BYTES), "uint8")
            scales = T.match_buffer(scales_, (groups_, LANES), "float32")
            totals = T.match_buffer(totals_, (groups_, LANES), "int32")
            bias = T.match_buffer(bias_, (groups_, LANES), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            rounded, step_of_x, zero_of_x = round_rows(x, chunks * blocks * BLOCK, moved_by())
            acc = T.sblock_alloc_buffer(acc_shape, "int32", scope="local")
            for h, c, s, o, i in T.grid(halves_, chunks_, steps_, rows.tiles, size_):
                with T.sblock("dense"):
                    vh, vc, vs, vo, vi = T.axis.remap("SRRSS", [h, c, s, o, i])
                    T.reads(
                        rounded[rows.read(vo, vi), vc * blocks * BLOCK : vc * blocks * BLOCK + blocks * BLOCK],
                        values[group(vh), vc * steps + vs, vh % 2 * BYTES : vh % 2 * BYTES + BYTES],
                        indices[group(vh), (vc * steps + vs) // 2, vh % 2 * BYTES : vh % 2 * BYTES + BYTES],
                    )
                    T.writes(acc[vo, vi, vh * HALF : vh * HALF + HALF])
                    with T.init():
                        acc[vo, vi, T.ramp(vh * HALF, 1, HALF)] = T.broadcast(T.int32(0), HALF)
                    acc[vo, vi, T.ramp(vh * HALF, 1, HALF)] = moved_dot(
                        acc[vo, vi, T.ramp(vh * HALF, 1, HALF)],
                        picked_slots(
                            (rounded, rows.read(vo, vi), vc * blocks * BLOCK),
                            columns_of_step(indices[group(vh), (vc * steps + vs) // 2, lanes(vh, BYTES)], vs),
                            vs,
                            nnz,
                        ),
                        values[group(vh), vc * steps + vs, lanes(vh, BYTES)],
                    )
            for h, o, i in T.grid(halves_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vh, vo, vi = T.axis.remap("SSS", [h, o, i])
                    T.reads(
                        acc[vo, vi, vh * HALF : vh * HALF + HALF],
                        scales[group(vh), vh % 2 * HALF : vh % 2 * HALF + HALF],
                        totals[group(vh), vh % 2 * HALF : vh % 2 * HALF + HALF],
                        step_of_x[rows.read(vo, vi)],
                        zero_of_x[rows.read(vo, vi)],
                        bias[group(vh), vh % 2 * HALF : vh % 2 * HALF + HALF],
                    )
                    T.writes(y[rows.read(vo, vi), (group(vh) * 2 + vh % 2) * HALF : (group(vh) * 2 + vh % 2) * HALF + HALF])
                    if rows.at(vo, vi) < rows.m:  # not T.where: reverse_compute_at would drop it
                        total = (
                            dequantized(
                                acc[vo, vi, T.ramp(vh * HALF, 1, HALF)],
                                totals[group(vh), lanes(vh, HALF)],
                                scales[group(vh), lanes(vh, HALF)],
                                step_of_x[rows.at(vo, vi)],
                                zero_of_x[rows.at(vo, vi)],
                            )
                            + bias[group(vh), lanes(vh, HALF)]
                        )
                        store_lanes(y, rows.at(vo, vi), group(vh) * 2 + vh % 2, total, residual, workload, activation, HALF)

        return workload.attach(cpu_avx2_i8)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_rounding(sch, workload.m, workload.k)
        compute_sums_at_epilogue(sch, _tiles(workload), unroll_rows=False)
        import_prefetch(sch, "dense_update", target, moved_dot_products(target) + PICK_FUNCTION)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        alone, several = (shares[m <= 1] for shares in SHARES[roofline.dot_products])
        mixed = _mixed(workload.nnz)
        share = 1 / (mixed / several + (1 - mixed) / alone)
        return roofline.seconds(slots * m, share * HALF / roofline.lanes, slots * 1.5)


def _mixed(nnz: int) -> float:
    """Return the share of steps whose four slots are of several blocks."""
    steps = range(steps_of_chunk(nnz))
    return sum(step * SLOTS // nnz != (step * SLOTS + SLOTS - 1) // nnz for step in steps) / len(steps)


def picked_slots(x: tuple[tirx.Buffer, Any, Any], columns: Any, step: Any, nnz: int) -> Any:
    """Return what the slots of a step meet: `x` are the rounded rows, a row, and the first byte of a chunk of it; `columns` are
    inside a block.
    """
    rounded, row, start = x

    def picked(block: Any) -> Any:
        bytes_ = rounded[row, T.ramp(start + block * BLOCK, 1, BLOCK)]
        return T.call_pure_extern(f"uint8x{BYTES}", PICK, bytes_, columns)

    first, count = step * SLOTS // nnz, blocks_of_step(nnz)
    found = picked((step * SLOTS + SLOTS - 1) // nnz if count == 2 else first + count - 1)
    for block in reversed(range(count - 1)):
        before = T.cast((first + block + 1) * nnz - step * SLOTS, "int32")  # slots of the step that are in blocks up to this one
        found = T.Select((T.ramp(0, 1, BYTES) & T.broadcast(3, BYTES)) < T.broadcast(before, BYTES), picked(first + block), found)
    return found


def columns_of_step(halves: Any, step: Any) -> Any:
    """Return columns inside a block, which are in one half of each byte."""
    up = T.broadcast(T.cast(step % 2 * 4, "uint8"), BYTES)
    return T.bitwise_and(T.shift_right(halves, up), T.broadcast(T.uint8(15), BYTES))


def _tiles(workload: Workload) -> Tiles:
    """Return the default tiling of the layer, in halves of row panels."""
    rows, halves = _rows(workload).size, 2 * count_row_panels(workload.n)
    covered = min(max(1 if blocks_of_step(workload.nnz) > 1 else 2, ACCUMULATORS // rows), halves)
    half_bytes = count_chunks(workload.k, workload.nnz) * steps_of_chunk(workload.nnz) * BYTES * 3 // 2
    return Tiles(rows, covered, tiles_together(halves // covered, half_bytes * covered))


def _rows(workload: Workload) -> RowTiles:
    return RowTiles.of(workload.m, longest=4, symbolic=workload.tile or 4)


CPU_AVX2_I8 = CpuAvx2I8()
