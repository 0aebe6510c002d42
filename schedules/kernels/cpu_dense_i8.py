"""Dense layer with x and weight in 8 bits: dot products of four bytes, for any CPU.

Sixteen rows of the weight, a row panel, are the lanes of a vector of sums. Four columns of x are
broadcast to them:

    acc[16 rows] += x[4 columns] * values[4 columns][16 rows]       one vpdpbusd with AVX-512 VNNI

Rows of x are rounded when the layer runs (`rounded_rows.py`), rows of the weight when it is packed,
to 255 steps of their largest value. `dot_products.py` says what the product is on which CPU.

    values  (G, C, 64)  int8     four columns of each of 16 rows, C = K / 4, up to a multiple of 4
    scales  (G, 16)     float32
    totals  (G, 16)     int32    the sum of a row's values
    bias    (G, 16)     float32
"""

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import DenseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.rounded_weight import round_weight
from tvm_balanced.schedules.layouts.row_panels import LANES, count_row_panels, pack_panel_bias, pad_rows
from tvm_balanced.schedules.tir import prefetch, prefetch_rows
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.dot_products import BYTES, dot, dot_products, four_columns, has_dot_products
from tvm_balanced.schedules.tir.prefetch import STREAMED_TILES, Stream, split_rows_once
from tvm_balanced.schedules.tir.rounded_rows import dequantized, refuse_columns, round_rows, schedule_rounding
from tvm_balanced.schedules.tir.tiling import Tiles, compute_sums_at_epilogue, default_tiling, store_lanes

COLUMNS = 4  # of a step
STEPS = 4  # of a chunk
LONGEST = 16  # vectors of sums with AVX-512


class CpuDenseI8(DenseKernel):
    """Rows of the weight in lanes, four columns of x broadcast; rounds x and weight to 8 bits."""

    name = "cpu_dense_i8"
    precision = "int8"
    parts = ("values", "scales", "totals")
    tolerance = 5e-2
    small_tiles = STREAMED_TILES

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm":
            return "the target is not a CPU"
        if lanes(target) == LANES and not has_dot_products(target):
            return "the target has AVX-512 and no VNNI"
        return refuse_columns(k) or (None if dtype in self.dtypes else f"it does not compute {dtype}")

    def pack(self, weight: Array) -> tuple[Array, ...]:
        n, k = weight.shape
        values, scales, totals = round_weight(weight)
        whole = np.zeros((n, _chunks(k) * STEPS * COLUMNS), np.int8)
        whole[:, :k] = values
        by_group = pad_rows(whole, n).reshape(-1, LANES, _chunks(k) * STEPS, COLUMNS).transpose(0, 2, 1, 3)
        panels = (pad_rows(part, n).reshape(-1, LANES) for part in (scales, totals))
        return np.ascontiguousarray(by_group).reshape(count_row_panels(n), -1, BYTES), *panels

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = split_rows_once(workload), ACTIVATIONS[workload.activation]
        n, k, groups, chunks = workload.n, workload.k, count_row_panels(workload.n), _chunks(workload.k)
        n_, k_, groups_, chunks_, size_, steps_ = map(int64, (n, k, groups, chunks, rows.size, STEPS))
        acc_shape = (rows.tiles, size_, int64(groups * LANES))
        tiles, stores = _tiles(workload, LONGEST), prefetch_rows.are_large(workload)
        group = prefetch.panel_order(workload, tiles.groups).group
        fetches = prefetch.choose(workload, groups * _group_bytes(workload), chunks, STEPS, rows, tiles)

        @T.prim_func(private=True, s_tir=True)
        def cpu_dense_i8(
            x_: T.handle,
            values_: T.handle,
            scales_: T.handle,
            totals_: T.handle,
            bias_: T.handle,
            residual_: T.handle,
            y_: T.handle,
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), "float32")
            values = T.match_buffer(values_, (groups_, chunks_ * STEPS, BYTES), "int8")
            scales = T.match_buffer(scales_, (groups_, LANES), "float32")
            totals = T.match_buffer(totals_, (groups_, LANES), "int32")
            bias = T.match_buffer(bias_, (groups_, LANES), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            rounded, step_of_x, zero_of_x = round_rows(x, chunks * STEPS * COLUMNS)
            acc = T.sblock_alloc_buffer(acc_shape, "int32", scope="local")
            for g, c, s, o, i in T.grid(groups_, chunks_, steps_, rows.tiles, size_):
                with T.sblock("dense"):
                    vg, vc, vs, vo, vi = T.axis.remap("SRRSS", [g, c, s, o, i])
                    T.reads(
                        rounded[rows.read(vo, vi), (vc * STEPS + vs) * COLUMNS : (vc * STEPS + vs) * COLUMNS + COLUMNS],
                        values[group(vg), vc * STEPS + vs, 0:BYTES],
                    )
                    T.writes(acc[vo, vi, vg * LANES : vg * LANES + LANES])
                    with T.init():
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = T.broadcast(T.int32(0), LANES)
                        if stores:
                            prefetch_rows.prefetch_stores((residual, y), workload, rows.at(vo, vi), group(vg) * LANES)
                    acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = dot(
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)],
                        four_columns(rounded, rows.read(vo, vi), (vc * STEPS + vs) * COLUMNS),
                        values[group(vg), vc * STEPS + vs, T.ramp(0, 1, BYTES)],
                    )
                    if isinstance(fetches, Stream) and vi == 0:
                        fetches.emit((values,), (STEPS,), group(vg), vc, vs, vo)
            for g, o, i in T.grid(groups_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vg, vo, vi = T.axis.remap("SSS", [g, o, i])
                    T.reads(
                        acc[vo, vi, vg * LANES : vg * LANES + LANES],
                        scales[group(vg), 0:LANES],
                        totals[group(vg), 0:LANES],
                        step_of_x[rows.read(vo, vi)],
                        zero_of_x[rows.read(vo, vi)],
                        bias[group(vg), 0:LANES],
                    )
                    T.writes(y[rows.read(vo, vi), group(vg) * LANES : group(vg) * LANES + LANES])
                    if rows.at(vo, vi) < rows.m:
                        total = (
                            dequantized(
                                acc[vo, vi, T.ramp(vg * LANES, 1, LANES)],
                                totals[group(vg), T.ramp(0, 1, LANES)],
                                scales[group(vg), T.ramp(0, 1, LANES)],
                                step_of_x[rows.at(vo, vi)],
                                zero_of_x[rows.at(vo, vi)],
                            )
                            + bias[group(vg), T.ramp(0, 1, LANES)]
                        )
                        store_lanes(y, rows.at(vo, vi), group(vg), total, residual, workload, activation)

        return workload.attach(cpu_dense_i8)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_rounding(sch, workload.m, workload.k)
        compute_sums_at_epilogue(sch, _tiles(workload, _accumulators(target)), prefetch.streams(workload))
        text, stores = dot_products(target), prefetch_rows.are_large(workload)
        prefetch.import_prefetch(sch, "dense_update", target, text, stores=stores)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        weights = workload.n * workload.k
        # with AVX-VNNI 2.5 times the speed of vpmaddwd, in seconds of a CPU that has both; cpu_avx512_i8's table has AVX-512
        many, one = (1.8, 0.7) if roofline.lanes == LANES else (2.2, 1.2) if roofline.dot_products else (0.9, 0.45)
        return roofline.seconds(weights * m, many if m > 1 else one, weights)


def _chunks(k: int) -> int:
    return -(-k // (STEPS * COLUMNS))


def _accumulators(target: tvm.target.Target) -> int:
    """Return the vectors of 16 lanes for sums, as `cpu_dense` has them."""
    return LONGEST if lanes(target) == LANES else 4


def _tiles(workload: Workload, accumulators: int) -> Tiles:
    """Return the default tiling of the layer."""
    rows, groups, once = split_rows_once(workload), count_row_panels(workload.n), prefetch.streams(workload)
    return default_tiling(rows.size, rows.known_tiles, groups, _group_bytes(workload), accumulators, once=once)


def _group_bytes(workload: Workload) -> int:
    return _chunks(workload.k) * STEPS * BYTES


CPU_DENSE_I8 = CpuDenseI8()
