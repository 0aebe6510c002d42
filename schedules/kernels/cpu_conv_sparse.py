"""Balanced-sparse convolution: pixels in lanes, in the layout of PyTorch (batch, channels, height, width).

A nonzero of the weight multiplies vectors of pixels, which it reads unaligned from the copied part of the image
(`image_patches.py`), at a place that a table has for its column:

    sums[vectors of pixels] += value * patch[table[column] + pixels]

Neither x nor the result is transposed, and no tap of the kernel is copied. Layout, for N padded to fours of rows, and K split
into tiles of channels (`channel_tiles.py`), of up to S slots a row:

    values   (tiles of K, N, S)  float32
    columns  (tiles of K, N, S)  uint16   places in the tile, channel by channel
    bias     (N,)                float32
"""

from functools import partial
from typing import Any, ClassVar

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.channel_tiles import ChannelTiles
from tvm_balanced.schedules.tir.image_layers import ImageLayer, pack_image_bias, refusal, schedule_image_layer

ROWS = 4  # rows of the weight that a task's share consists of


class CpuConvSparse(SparseKernel):
    """Pixels in lanes, one broadcast a nonzero; fp32, any block, any convolution."""

    parts = ("values", "columns")
    lanes: ClassVar[int]
    vectors: ClassVar[int]
    aligned: ClassVar[int]

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        return refusal(target, self.lanes, dtype) or (f"K = {k} is more than 16 bits count" if k >= 1 << 16 else None)

    def fit(self, found: Detection) -> BalancedPattern | None:
        return found.pattern

    def pack(self, weight: EncodedWeight, conv: Convolution | None = None) -> tuple[Array, ...]:
        conv = conv or Convolution(weight.shape[1], (1, 1, 1), (1, 1, 1))
        tiles, (n, _) = ChannelTiles.of(conv, weight.pattern.block), weight.shape
        slots = _slots(tiles, weight.pattern)
        starts = np.arange(weight.indices.shape[1])[:, None] * weight.pattern.block
        tile, place = tiles.places()[:, (weight.indices.astype(np.int64) + starts).reshape(n, -1)]
        tile = np.maximum.accumulate(tile[0]) if tiles.conv.taps == 1 else tile[0]
        order = np.argsort(tile, kind="stable")  # all rows have the same slots in each tile
        values = np.zeros((tiles.count, -(-n // ROWS) * ROWS, slots), np.float32)
        columns = np.zeros(values.shape, np.uint16)
        for t in range(tiles.count):
            own = order[tile[order] == t]
            values[t, :n, : len(own)] = weight.values.reshape(n, -1)[:, own]
            columns[t, :n, : len(own)] = place[:, own]
        return values, columns

    def pack_for(self, weight: EncodedWeight, workload: Workload) -> tuple[Array, ...]:
        return self.pack(weight, workload.conv)

    def pack_bias(self, bias: Array) -> Array:
        return pack_image_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        layer = self._layer(workload)
        tiles, activation = ChannelTiles.of(layer.conv, workload.block), ACTIVATIONS[workload.activation]
        slots, total = _slots(tiles, workload.pattern), workload.pattern.blocks(workload.k) * workload.nnz
        pixels, size, width = layer.pixels, layer.pixels.lanes_padded, self.lanes
        vectors, chunk = pixels.vectors, pixels.vectors * width
        n_, tiles_, slots_ = map(int64, (workload.n, tiles.count, slots))
        groups_ = int64(-(-workload.n // ROWS))

        def zeros(sums: tirx.Buffer) -> None:
            for v in range(vectors):
                T.buffer_store(sums, T.broadcast(T.float32(0), width), [T.ramp(v * width, 1, width)])

        def load(acc: tirx.Buffer, sums: tirx.Buffer, at: tuple[Any, ...], first: Any) -> None:
            for v in range(vectors):
                T.buffer_store(sums, acc[(*at, T.ramp(first + v * width, 1, width))], [T.ramp(v * width, 1, width)])

        def add(patch: tirx.Buffer, sums: tirx.Buffer, image: Any, at: Any, value: Any) -> None:
            for v in range(vectors):
                lane = T.ramp(v * width, 1, width)
                product = patch[image, T.ramp(at + v * width, 1, width)] * T.broadcast(value, width)
                T.buffer_store(sums, sums[lane] + product, [lane])

        def end(acc: tirx.Buffer, sums: tirx.Buffer, at: tuple[Any, ...], first: Any) -> None:
            for v in range(vectors):
                T.buffer_store(acc, sums[T.ramp(v * width, 1, width)], [*at, T.ramp(first + v * width, 1, width)])

        @T.prim_func(private=True, s_tir=True)
        def cpu_conv_sparse(
            x_: T.handle, values_: T.handle, columns_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, layer.x_shape, "float32")
            values = T.match_buffer(values_, (tiles_, groups_ * ROWS, slots_), "float32")
            columns = T.match_buffer(columns_, (tiles_, groups_ * ROWS, slots_), "uint16")
            bias = T.match_buffer(bias_, (n_,), "float32")
            residual = T.match_buffer(residual_, layer.y_shape, "float32")
            y = T.match_buffer(y_, layer.y_shape, "float32")
            table = T.sblock_alloc_buffer((tiles.columns,), "int32")
            patch = T.sblock_alloc_buffer(layer.patch_shape, "float32")
            acc = T.sblock_alloc_buffer((layer.tiles, groups_, ROWS, int64(size)), "float32")
            for c in T.grid(int64(tiles.channels)):
                with T.sblock("table"):
                    vc = T.axis.spatial(int64(tiles.channels), c)
                    T.reads()
                    T.writes(table[vc * tiles.conv.taps : vc * tiles.conv.taps + tiles.conv.taps])
                    layer.fill_table(table, vc)
            if layer.patches is not None:
                for o, c in T.grid(layer.tiles, int64(layer.conv.channels)):
                    with T.sblock("lay_out"):
                        vo, vc = T.axis.remap("SS", [o, c])
                        T.reads(layer.reads_of_channel(x, layer.image(vo), vc))
                        T.writes(layer.writes_of_channel(patch, vo, vc))
                        layer.lay_out(x, patch, vo, vc)
            for o, g, t in T.grid(layer.tiles, groups_, tiles_):
                with T.sblock("dense"):
                    vo, vg, vt = T.axis.remap("SSR", [o, g, t])
                    T.reads(
                        layer.source(x, patch)[layer.row(vo), 0 : layer.conv.channels * layer.channel],
                        table[0 : tiles.columns],
                        values[vt, vg * ROWS : vg * ROWS + ROWS, 0:slots_],
                        columns[vt, vg * ROWS : vg * ROWS + ROWS, 0:slots_],
                    )
                    T.writes(acc[vo, vg, 0:ROWS, 0:size])
                    with T.init():
                        T.evaluate(0)  # the first tile of K begins with zeros in registers
                    sums = T.sblock_alloc_buffer((chunk,), "float32", scope="local")
                    for r in T.serial(ROWS):
                        for q in T.serial(pixels.chunks):
                            tiles.begin(vt, partial(zeros, sums), partial(load, acc, sums, (vo, vg, r), q * chunk))
                            for s in T.serial(T.min(slots_, total - vt * slots_)):
                                place = (
                                    layer.first(vo, vg * ROWS + r, vt * tiles.channels)
                                    + q * chunk
                                    + T.cast(table[T.cast(columns[vt, vg * ROWS + r, s], "int64")], "int64")
                                )
                                add(layer.source(x, patch), sums, layer.row(vo), place, values[vt, vg * ROWS + r, s])
                            end(acc, sums, (vo, vg, r), q * chunk)
            for o, g, r, i in T.grid(layer.tiles, groups_, ROWS, 1):
                with T.sblock("epilogue"):
                    vo, vg, vr, vi = T.axis.remap("SSSS", [o, g, r, i])
                    T.reads(acc[vo, vg, vr, vi * size : vi * size + size], bias[T.min(vg * ROWS + vr, n_ - 1)])
                    T.writes(y[layer.image(vo), T.min(vg * ROWS + vr, n_ - 1)])
                    if vg * ROWS + vr < n_:
                        layer.finish((acc, bias, residual, y), (vo, vg, vr), vg * ROWS + vr, activation)

        return workload.attach(cpu_conv_sparse)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_image_layer(sch, workload, self._layer(workload).pixels.count)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        # At 8:16 it is as fast as the dense kernel on Zen 3, whose share is 0.8.
        return self._layer(workload).seconds(m, 6 * slots, roofline, 0.38)

    def _layer(self, workload: Workload) -> ImageLayer:
        return ImageLayer.of(workload, self.lanes, self.vectors, self.aligned)


def _slots(tiles: ChannelTiles, pattern: BalancedPattern) -> int:
    return pattern.blocks(tiles.columns) * pattern.nnz


class CpuConvSparseAvx512(CpuConvSparse):
    """Vectors of 16 pixels, up to 24 of 32 registers for sums."""

    name = "cpu_conv_sparse_avx512"
    lanes, vectors, aligned = 16, 24, 8


class CpuConvSparseAvx2(CpuConvSparse):
    """Vectors of 8 pixels, up to 12 of 16 registers for sums."""

    name = "cpu_conv_sparse_avx2"
    lanes, vectors, aligned = 8, 12, 8


class CpuConvSparsePortable(CpuConvSparse):
    """Vectors of 4 pixels, up to 12 registers for sums."""

    name = "cpu_conv_sparse_portable"
    lanes, vectors, aligned = 4, 12, 0


CPU_CONV_SPARSE = (CpuConvSparseAvx512(), CpuConvSparseAvx2(), CpuConvSparsePortable())
