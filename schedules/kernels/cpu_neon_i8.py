"""Balanced-sparse dense layer for 64-bit ARM CPUs with 8-bit dot products: as cpu_neon, sixteen nonzeros an instruction.

Four rows of the weight are the lanes of a register. A window of 64 values of x, four blocks of 16, is four registers, which are
one table of 64 bytes for TBL. One look-up selects for each row one value of each block, and one SDOT multiplies the four by those
of the row and adds all to a 32-bit sum:

    acc[4 rows] += sdot(TBL(x[64 columns], index[4 rows][4 blocks]), values[4 rows][4 blocks])

SDOT takes signed bytes, so rows of x are rounded to -127 to 127 (`rounded_rows.py`). The zero of a row of x adds so many times
the row of the weight to a sum, which is subtracted at the end.

`layouts/byte_windows.py` has the layout, which is the one of cpu_avx512_i8. A row panel is computed in four quarters.
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
from tvm_balanced.schedules.base.target_info import is_aarch64
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.byte_windows import BLOCK, BLOCKS, PARTS, WINDOW, count_windows, pack_windows, steps_of_chunk
from tvm_balanced.schedules.layouts.row_panels import LANES, NNZ, count_row_panels, fit_block, pack_panel_bias
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.rounded_rows import dequantized, refuse_columns, round_rows, schedule_rounding
from tvm_balanced.schedules.tir.tiling import Tiles, compute_sums_at_epilogue, store_lanes, tiles_together

FEATURE = "dotprod"  # of ARMv8.2-A, and part of every ARMv8.4-A
WIDTH = 4  # rows of the weight in a register
BYTES = WIDTH * BLOCKS  # of a register
QUARTERS = LANES // WIDTH
MOVED_BY = 127  # what rows of x are rounded to, 0 to 254, fits signed bytes then
ACCUMULATORS = 4  # as in cpu_neon: the table is four registers in a row
# Shares of the peak of float32. Assumed from the instructions and not measured: as cpu_neon's, and a look-up serves four times as
# many nonzeros.
SHARE_OF_ONE, SHARE = 0.48, 0.72


class CpuNeonI8(SparseKernel):
    """Table look-ups and 8-bit dot products; rounds x and weight to 8 bits, so it is used only where precision allows it."""

    name = "cpu_neon_i8"
    precision = "int8"
    parts = PARTS
    tolerance = 5e-2
    small_tiles = ((1, 1, 1),)

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not is_aarch64(target):
            return "the target is no 64-bit ARM CPU"
        if not codegen.llvm_cpu_has_features(FEATURE, target):
            return "the target has no 8-bit dot products (dotprod)"
        if dtype not in self.dtypes:
            return f"it does not compute {dtype}"
        return refuse_columns(k, BLOCK)

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_block(found, BLOCK, NNZ)

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        return pack_windows(weight)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = _rows(workload), ACTIVATIONS[workload.activation]
        n, k, nnz = workload.n, workload.k, workload.nnz
        groups, windows, steps = count_row_panels(n), count_windows(k, nnz), steps_of_chunk(nnz)
        n_, k_, groups_, steps_, size_ = map(int64, (n, k, groups, steps, rows.size))
        chunks_, quarters_ = int64(windows * nnz // steps), int64(QUARTERS * groups)
        acc_shape = (rows.tiles, size_, int64(groups * LANES))

        def start(c: Any, step: Any) -> Any:
            """First column of the window of a step."""
            return (c * (steps // nnz) + step // nnz) * WINDOW

        @T.prim_func(private=True, s_tir=True)
        def cpu_neon_i8(
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
            values = T.match_buffer(values_, (groups_, chunks_ * steps_, WINDOW), "int8")
            indices = T.match_buffer(indices_, (groups_, chunks_ * steps_ // 2, WINDOW), "uint8")
            scales = T.match_buffer(scales_, (groups_, LANES), "float32")
            totals = T.match_buffer(totals_, (groups_, LANES), "int32")
            bias = T.match_buffer(bias_, (groups_, LANES), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            rounded, step_of_x, zero_of_x = round_rows(x, windows * WINDOW, MOVED_BY, "int8")
            acc = T.sblock_alloc_buffer(acc_shape, "int32", scope="local")
            for q, c, s, o, i in T.grid(quarters_, chunks_, steps_, rows.tiles, size_):
                with T.sblock("dense"):
                    vq, vc, vs, vo, vi = T.axis.remap("SRRSS", [q, c, s, o, i])
                    T.reads(
                        rounded[rows.read(vo, vi), start(vc, vs) : start(vc, vs) + WINDOW],
                        values[vq // QUARTERS, vc * steps + vs, vq % QUARTERS * BYTES : vq % QUARTERS * BYTES + BYTES],
                        indices[vq // QUARTERS, (vc * steps + vs) // 2, vq % QUARTERS * BYTES : vq % QUARTERS * BYTES + BYTES],
                    )
                    T.writes(acc[vo, vi, vq * WIDTH : vq * WIDTH + WIDTH])
                    with T.init():
                        acc[vo, vi, T.ramp(vq * WIDTH, 1, WIDTH)] = T.broadcast(T.int32(0), WIDTH)
                    acc[vo, vi, T.ramp(vq * WIDTH, 1, WIDTH)] = _dot(
                        acc[vo, vi, T.ramp(vq * WIDTH, 1, WIDTH)],
                        [rounded[rows.read(vo, vi), T.ramp(start(vc, vs) + part, 1, BYTES)] for part in range(0, WINDOW, BYTES)],
                        _columns(indices[vq // QUARTERS, (vc * steps + vs) // 2, T.ramp(vq % QUARTERS * BYTES, 1, BYTES)], vs),
                        values[vq // QUARTERS, vc * steps + vs, T.ramp(vq % QUARTERS * BYTES, 1, BYTES)],
                    )
            for q, o, i in T.grid(quarters_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vq, vo, vi = T.axis.remap("SSS", [q, o, i])
                    T.reads(
                        acc[vo, vi, vq * WIDTH : vq * WIDTH + WIDTH],
                        scales[vq // QUARTERS, vq % QUARTERS * WIDTH : vq % QUARTERS * WIDTH + WIDTH],
                        totals[vq // QUARTERS, vq % QUARTERS * WIDTH : vq % QUARTERS * WIDTH + WIDTH],
                        step_of_x[rows.read(vo, vi)],
                        zero_of_x[rows.read(vo, vi)],
                        bias[vq // QUARTERS, vq % QUARTERS * WIDTH : vq % QUARTERS * WIDTH + WIDTH],
                    )
                    T.writes(y[rows.read(vo, vi), vq * WIDTH : vq * WIDTH + WIDTH])
                    if rows.at(vo, vi) < rows.m:  # not T.where: reverse_compute_at would drop it
                        total = (
                            dequantized(
                                acc[vo, vi, T.ramp(vq * WIDTH, 1, WIDTH)],
                                totals[vq // QUARTERS, T.ramp(vq % QUARTERS * WIDTH, 1, WIDTH)],
                                scales[vq // QUARTERS, T.ramp(vq % QUARTERS * WIDTH, 1, WIDTH)],
                                step_of_x[rows.at(vo, vi)],
                                zero_of_x[rows.at(vo, vi)],
                            )
                            + bias[vq // QUARTERS, T.ramp(vq % QUARTERS * WIDTH, 1, WIDTH)]
                        )
                        store_lanes(y, rows.at(vo, vi), vq, total, residual, workload, activation, WIDTH)

        return workload.attach(cpu_neon_i8)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_rounding(sch, workload.m, workload.k)
        compute_sums_at_epilogue(sch, _tiles(workload), unroll_rows=False)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        size = _rows(workload).size
        share = (SHARE if size > 1 else SHARE_OF_ONE) * WIDTH / roofline.lanes
        return roofline.seconds(slots * -(-m // size) * size, share, slots * 1.5)


def _columns(halves: Any, step: Any) -> Any:
    """Return columns inside a window: 16 for each block before it, plus the position, which is in one half of each byte."""
    up = T.broadcast(T.cast(step % 2 * 4, "uint8"), BYTES)
    position = T.bitwise_and(T.shift_right(halves, up), T.broadcast(T.uint8(15), BYTES))
    first = T.reinterpret(f"uint8x{BYTES}", T.broadcast(T.uint32(0x30201000), WIDTH))
    return T.bitwise_or(position, first)


def _dot(sums: Any, window: list[Any], columns: Any, values: Any) -> Any:
    """Return sums + the four products of each lane; `window` are four registers of x."""
    chosen = T.call_llvm_pure_intrin(f"int8x{BYTES}", "llvm.aarch64.neon.tbl4.v16i8", *window, columns)
    return T.call_llvm_pure_intrin(f"int32x{WIDTH}", "llvm.aarch64.neon.sdot.v4i32.v16i8", sums, chosen, values)


def _tiles(workload: Workload) -> Tiles:
    """Return the default tiling of the layer, in quarters of row panels."""
    rows, quarters = _rows(workload).size, QUARTERS * count_row_panels(workload.n)
    covered = min(ACCUMULATORS // rows, quarters)
    quarter_bytes = count_windows(workload.k, workload.nnz) * workload.nnz * BYTES * 3 // 2
    return Tiles(rows, covered, tiles_together(quarters // covered, quarter_bytes * covered))


def _rows(workload: Workload) -> RowTiles:
    # Two rows share what one decodes, as in cpu_neon.
    return RowTiles.of(workload.m, longest=2, symbolic=workload.tile or 2)


CPU_NEON_I8 = CpuNeonI8()
