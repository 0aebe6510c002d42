"""Dense layer for any LLVM target. It computes the layers for which sparsity would not pay.

Sixteen rows of the weight, a row panel, are the lanes of a vector (one, two or four registers). A
value of x is broadcast to them:

    acc[16 rows] += x[column] * values[column][16 rows]

Layout, for G row panels:

    values  (G, K, 16) float32
    bias    (G, 16)    float32

Half precision is computed in float32, and its weights are stored in float32.
"""

from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T
from tvm.target import codegen

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import DenseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.target_info import is_x86, lanes
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import LANES, count_row_panels, pack_panel_bias, pad_rows
from tvm_balanced.schedules.tir import prefetch, prefetch_rows
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.prefetch import STREAMED_TILES, Stream, split_rows_once
from tvm_balanced.schedules.tir.tiling import Tiles, default_tiling, schedule_tiles, store_lanes

FLOATS = f"float32x{LANES}"
# Vectors of sums with AVX-512. On every target, row panels are in the order of the AVX-512 tiles:
# up to 1.1x with AVX2, whose tiles differ; other targets have not been measured.
LONGEST = 16


class CpuDense(DenseKernel):
    """Rows of the weight in lanes, x broadcast; sums in fp32."""

    name = "cpu_dense"
    parts = ("values",)
    small_tiles = STREAMED_TILES
    dtypes = ("float32", "bfloat16", "float16")

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm":
            return "the target is not a CPU"
        if dtype == "float16" and is_x86(target) and not codegen.llvm_cpu_has_features("f16c", target):
            return "the target converts float16 by a library call for each element"
        return None if dtype in self.dtypes else f"it does not compute {dtype}"

    def pack(self, weight: Array) -> tuple[Array, ...]:
        n, k = weight.shape
        values = pad_rows(weight.astype(np.float32), n).reshape(-1, LANES, k).transpose(0, 2, 1)
        return (np.ascontiguousarray(values),)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = split_rows_once(workload), ACTIVATIONS[workload.activation]
        n, groups, tiles = workload.n, count_row_panels(workload.n), _tiles(workload, LONGEST)
        group, stores = prefetch.panel_order(workload, tiles.groups).group, prefetch_rows.are_large(workload)
        fetches = prefetch.choose(workload, groups * _group_bytes(workload), workload.k, 1, rows, tiles)
        n_, k_, groups_, size_ = map(int64, (n, workload.k, groups, rows.size))
        acc_shape = (rows.tiles, size_, int64(groups * LANES))

        def wide(value: Any) -> Any:
            return value if workload.dtype == "float32" else T.cast(value, "float32" if value.ty.dtype.lanes == 1 else FLOATS)

        @T.prim_func(private=True, s_tir=True)
        def cpu_dense(x_: T.handle, values_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), workload.dtype)
            values = T.match_buffer(values_, (groups_, k_, LANES), "float32")
            bias = T.match_buffer(bias_, (groups_, LANES), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), workload.dtype)
            y = T.match_buffer(y_, (rows.m, n_), workload.dtype)
            acc = T.sblock_alloc_buffer(acc_shape, "float32", scope="local")
            for g, c, o, i in T.grid(groups_, k_, rows.tiles, size_):
                with T.sblock("dense"):
                    vg, vc, vo, vi = T.axis.remap("SRSS", [g, c, o, i])
                    T.reads(x[rows.read(vo, vi), vc], values[group(vg), vc, 0:LANES])
                    T.writes(acc[vo, vi, vg * LANES : vg * LANES + LANES])
                    with T.init():
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = T.broadcast(T.float32(0), LANES)
                        if stores:
                            prefetch_rows.prefetch_stores((residual, y), workload, rows.at(vo, vi), group(vg) * LANES)
                    acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = (
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)]
                        + T.broadcast(wide(x[rows.read(vo, vi), vc]), LANES) * values[group(vg), vc, T.ramp(0, 1, LANES)]
                    )
                    if isinstance(fetches, Stream) and vi == 0:
                        fetches.emit((values,), (1,), group(vg), vc, int64(0), vo)
            for g, o, i in T.grid(groups_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vg, vo, vi = T.axis.remap("SSS", [g, o, i])
                    T.reads(acc[vo, vi, vg * LANES : vg * LANES + LANES], bias[group(vg), 0:LANES])
                    T.writes(y[rows.read(vo, vi), group(vg) * LANES : group(vg) * LANES + LANES])
                    if rows.at(vo, vi) < rows.m:
                        total = acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] + bias[group(vg), T.ramp(0, 1, LANES)]
                        store_lanes(y, rows.at(vo, vi), group(vg), total, residual, workload, activation)

        return workload.attach(cpu_dense)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_tiles(sch, _tiles(workload, _accumulators(target)), unroll=0, unroll_rows=prefetch.streams(workload))
        prefetch.import_prefetch(sch, "dense_update", target, stores=prefetch_rows.are_large(workload))

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        weights = workload.n * workload.k
        return roofline.seconds(weights * m, 0.8 if m > 1 else 0.4, weights * 4)


def _accumulators(target: tvm.target.Target) -> int:
    """Return the vectors of 16 lanes for sums: 16 of 32 registers with AVX-512, 5 of 8 pairs with
    AVX2, 5 of 8 fours with NEON.

    With AVX2, a fifth vector halves the time at M = 5; a sixth is slower
    (docs/measurements/kernels.md).
    """
    return LONGEST if lanes(target) == LANES else 5


def _tiles(workload: Workload, accumulators: int) -> Tiles:
    """Return the default tiling of the layer."""
    rows, groups, once = split_rows_once(workload), count_row_panels(workload.n), prefetch.streams(workload)
    return default_tiling(rows.size, rows.known_tiles, groups, _group_bytes(workload), accumulators, once=once)


def _group_bytes(workload: Workload) -> int:
    return workload.k * LANES * 4


CPU_DENSE = CpuDense()
