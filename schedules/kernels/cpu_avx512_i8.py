"""Balanced-sparse dense layer for AVX-512 VBMI and VNNI: 8-bit values times 8-bit x, four multiply-adds per lane.

As in cpu_avx512, a row panel is 16 rows of the weight, one per lane. A window is four blocks of 16,
one register of 64 bytes of x. A step takes one slot of each of a window's blocks: `vpermb` moves
the four columns of a row into its lane, `vpdpbusd` multiplies them by four values and adds
everything to a 32-bit sum.

    acc[row of x]  <-  vpdpbusd(acc[row of x], vpermb(window of x, indices), values)

Every row of x is rounded when the layer runs (`rounded_rows.py`), every row of the weight when it is
packed, to 255 steps of its largest value. The zero of a row of x adds so many times the row of the
weight to a sum, which is subtracted at the end.

A weight whose blocks of 32 or 64 would take more slots in blocks of 16 is stored in blocks of 64: a step then takes four slots of
one window. `layouts/byte_windows.py` has both layouts.
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
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.byte_windows import (
    BLOCK,
    BLOCKS,
    NNZ_WIDE,
    PARTS,
    WINDOW,
    count_windows,
    pack_wide_windows,
    pack_windows,
    steps_of_chunk,
)
from tvm_balanced.schedules.layouts.row_panels import LANES, NNZ, count_row_panels, fit_block, pack_panel_bias
from tvm_balanced.schedules.tir import prefetch, prefetch_rows
from tvm_balanced.schedules.tir.activations_avx512 import COARSE_ACTIVATIONS
from tvm_balanced.schedules.tir.prefetch import STREAMED_TILES, import_prefetch, split_rows_once, streams
from tvm_balanced.schedules.tir.rounded_rows import less_zero, refuse_columns, round_rows, scaled, schedule_rounding
from tvm_balanced.schedules.tir.tiling import Tiles, compute_sums_at_epilogue, default_tiling, store_lanes

FEATURES = ("avx512vbmi", "avx512vnni")
WIDE_COST = 4 / 3  # bytes of a slot over those in blocks of 16


class CpuAvx512I8(SparseKernel):
    """Byte permutes and 8-bit dot products; rounds x and weight to 8 bits, so it is used only if it is named."""

    name = "cpu_avx512_i8"
    precision = "int8"
    parts = PARTS
    tolerance = 5e-2
    small_tiles = STREAMED_TILES

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not all(codegen.llvm_cpu_has_features(feature, target) for feature in FEATURES):
            return "the target has no AVX-512 VBMI and VNNI"
        if dtype not in self.dtypes:
            return f"it does not compute {dtype}"
        return refuse_columns(k, BLOCK)

    def fit(self, found: Detection) -> BalancedPattern | None:
        short, wide = fit_block(found, BLOCK, NNZ), fit_block(found, WINDOW, NNZ_WIDE)
        return wide if wide and WIDE_COST * wide.nnz <= BLOCKS * (short.nnz if short else BLOCK) else short

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        return pack_wide_windows(weight) if weight.pattern.block == WINDOW else pack_windows(weight)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = split_rows_once(workload), COARSE_ACTIVATIONS[workload.activation]
        n, k, groups, windows = workload.n, workload.k, count_row_panels(workload.n), _windows(workload)
        together = _together(workload)
        steps, of_window = _steps(workload), _steps_of_window(workload)
        n_, k_, groups_, steps_, size_ = map(int64, (n, k, groups, steps, rows.size))
        chunks_ = int64(windows * of_window // steps)
        acc_shape = (rows.tiles, size_, int64(groups * LANES))
        tiles, stores = _tiles(workload), prefetch_rows.are_large(workload)
        group = prefetch.panel_order(workload, tiles.groups).group
        fetches = prefetch.choose(workload, _nbytes(workload), windows * of_window // steps, steps, rows, tiles)

        def start(chunk: Any, step: Any) -> Any:
            """First column of the window of a step."""
            return (chunk * (steps // of_window) + step // of_window) * WINDOW

        def columns(indices: Any, step: Any) -> Any:
            return columns_of_step(indices, step) if together == 2 else indices

        @T.prim_func(private=True, s_tir=True)
        def cpu_avx512_i8(
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
            indices = T.match_buffer(indices_, (groups_, chunks_ * steps_ // together, WINDOW), "uint8")
            scales = T.match_buffer(scales_, (groups_, LANES), "float32")
            totals = T.match_buffer(totals_, (groups_, LANES), "int32")
            bias = T.match_buffer(bias_, (groups_, LANES), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            rounded, step_of_x, zero_of_x = round_rows(x, windows * WINDOW)
            acc = T.sblock_alloc_buffer(acc_shape, "int32", scope="local")
            for g, c, s, o, i in T.grid(groups_, chunks_, steps_, rows.tiles, size_):
                with T.sblock("dense"):
                    vg, vc, vs, vo, vi = T.axis.remap("SRRSS", [g, c, s, o, i])
                    T.reads(
                        rounded[rows.read(vo, vi), start(vc, vs) : start(vc, vs) + WINDOW],
                        values[group(vg), vc * steps + vs, 0:WINDOW],
                        indices[group(vg), (vc * steps + vs) // together, 0:WINDOW],
                        totals[group(vg), 0:LANES],
                        zero_of_x[rows.read(vo, vi)],
                    )
                    T.writes(acc[vo, vi, vg * LANES : vg * LANES + LANES])
                    with T.init():
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = less_zero(
                            totals[group(vg), T.ramp(0, 1, LANES)], zero_of_x[rows.read(vo, vi)]
                        )
                        if stores:
                            prefetch_rows.prefetch_stores((residual, y), workload, rows.at(vo, vi), group(vg) * LANES)
                    acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = permuted_dot(
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)],
                        rounded[rows.read(vo, vi), T.ramp(start(vc, vs), 1, WINDOW)],
                        columns(indices[group(vg), (vc * steps + vs) // together, T.ramp(0, 1, WINDOW)], vs),
                        values[group(vg), vc * steps + vs, T.ramp(0, 1, WINDOW)],
                    )
                    if fetches is not None and vi == 0:
                        fetches.emit((values, indices), (steps, steps // together), group(vg), vc, vs, vo)
            for g, o, i in T.grid(groups_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vg, vo, vi = T.axis.remap("SSS", [g, o, i])
                    T.reads(
                        acc[vo, vi, vg * LANES : vg * LANES + LANES],
                        scales[group(vg), 0:LANES],
                        step_of_x[rows.read(vo, vi)],
                        bias[group(vg), 0:LANES],
                    )
                    T.writes(y[rows.read(vo, vi), group(vg) * LANES : group(vg) * LANES + LANES])
                    if rows.at(vo, vi) < rows.m:  # not T.where: reverse_compute_at would drop it
                        total = (
                            scaled(
                                acc[vo, vi, T.ramp(vg * LANES, 1, LANES)],
                                scales[group(vg), T.ramp(0, 1, LANES)],
                                step_of_x[rows.at(vo, vi)],
                            )
                            + bias[group(vg), T.ramp(0, 1, LANES)]
                        )
                        store_lanes(y, rows.at(vo, vi), group(vg), total, residual, workload, activation)

        return workload.attach(cpu_avx512_i8)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_rounding(sch, workload.m, workload.k)
        compute_sums_at_epilogue(sch, _tiles(workload), streams(workload))
        import_prefetch(sch, "dense_update", target, stores=prefetch_rows.are_large(workload))

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        return roofline.seconds(slots * m, 1.2 if m > 1 else 0.52, slots * _slot_bytes(workload))


def _together(workload: Workload) -> int:
    """Return the steps that share a row of indices."""
    return 1 if workload.block == WINDOW else 2


def _windows(workload: Workload) -> int:
    return -(-workload.k // WINDOW) if workload.block == WINDOW else count_windows(workload.k, workload.nnz)


def _steps_of_window(workload: Workload) -> int:
    return workload.nnz // BLOCKS if workload.block == WINDOW else workload.nnz


def _steps(workload: Workload) -> int:
    """Return the steps of a chunk."""
    return _steps_of_window(workload) if workload.block == WINDOW else steps_of_chunk(workload.nnz)


def _slot_bytes(workload: Workload) -> float:
    return 1 + 1 / _together(workload)


def columns_of_step(halves: Any, step: Any) -> Any:
    """Return columns inside a window: 16 for each block before it, plus the position, which is in
    one half of each byte.
    """
    up = T.broadcast(T.cast(step % 2 * 4, "uint8"), WINDOW)
    low = T.bitwise_and(T.shift_right(halves, up), T.broadcast(T.uint8(15), WINDOW))
    first = T.reinterpret("uint8x64", T.broadcast(T.uint32(0x30201000), LANES))
    return T.bitwise_or(low, first)


def permuted_dot(sums: Any, window: Any, columns: Any, values: Any) -> Any:
    """Return sums + the four products of each lane."""
    permuted = T.call_llvm_pure_intrin("int8x64", "llvm.x86.avx512.permvar.qi.512", window, columns)
    return T.call_llvm_pure_intrin("int32x16", "llvm.x86.avx512.vpdpbusd.512", sums, permuted, values)


def _nbytes(workload: Workload) -> int:
    """Return the bytes of the packed weight."""
    steps = count_row_panels(workload.n) * _windows(workload) * _steps_of_window(workload)
    return int(steps * WINDOW * _slot_bytes(workload))


def _tiles(workload: Workload) -> Tiles:
    """Return the default tiling of the layer."""
    rows, groups = split_rows_once(workload), count_row_panels(workload.n)
    return default_tiling(rows.size, rows.known_tiles, groups, _nbytes(workload) // groups, once=streams(workload))


CPU_AVX512_I8 = CpuAvx512I8()
