"""Convolution with a dense weight: pixels in lanes, in the layout of PyTorch (batch, channels, height, width).

A vector of pixels is loaded from the copied part of the image (`image_patches.py`), and multiplied by a weight of each of up to
four rows:

    sums[4 rows][vectors of pixels] += values[4 rows] * patch[table[column] + pixels]

Rows of a panel read the same channels, so that a depthwise convolution has panels of one row. Layout, for K split into tiles of
channels (`channel_tiles.py`), of up to C columns:

    values  (tiles of K, panels, C, rows)  float32   channel by channel
    bias    (N,)                           float32
"""

from functools import partial
from typing import Any, ClassVar

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.expressions import divisor, int64
from tvm_balanced.schedules.base.kernel import DenseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.channel_tiles import ChannelTiles
from tvm_balanced.schedules.tir.image_layers import ImageLayer, pack_image_bias, refusal, schedule_image_layer

ROWS = 4  # of a panel: with 12 sums of AVX2, 3 loads of pixels and 4 broadcasts serve 12 multiply-adds


class CpuConvDense(DenseKernel):
    """Pixels in lanes, weights broadcast; fp32, any convolution."""

    parts = ("values",)
    lanes: ClassVar[int]
    sums: ClassVar[int]  # vectors that are summed in registers

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        return refusal(target, self.lanes, dtype)

    def pack(self, weight: Array, conv: Convolution | None = None) -> tuple[Array, ...]:
        conv = conv or Convolution(weight.shape[1], (1, 1, 1), (1, 1, 1))
        tiles, (n, _), rows = ChannelTiles.of(conv), weight.shape, panel_rows(conv, weight.shape[0])
        whole = np.zeros((-(-n // rows), rows, tiles.count, tiles.columns), np.float32)
        tile, place = tiles.places()
        whole[:, :, tile, place] = np.pad(weight, ((0, -n % rows), (0, 0))).reshape(-1, rows, weight.shape[1])
        return (np.ascontiguousarray(whole.transpose(2, 0, 3, 1)),)

    def pack_for(self, weight: Array, workload: Workload) -> tuple[Array, ...]:
        return self.pack(weight, workload.conv)

    def pack_bias(self, bias: Array) -> Array:
        return pack_image_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        layer = self._layer(workload)
        rows = panel_rows(layer.conv, workload.n)
        tiles, activation = ChannelTiles.of(layer.conv), ACTIVATIONS[workload.activation]
        pixels, size, width = layer.pixels, layer.pixels.lanes_padded, self.lanes
        vectors, chunk = pixels.vectors, pixels.vectors * width
        n_, tiles_, columns_, groups_ = map(int64, (workload.n, tiles.count, tiles.columns, -(-workload.n // rows)))

        def each(emit: Any) -> None:
            for r in range(rows):
                for v in range(vectors):
                    emit(r, T.ramp(r * chunk + v * width, 1, width), v * width)

        def zeros(sums: tirx.Buffer) -> None:
            each(lambda _r, lane, _v: T.buffer_store(sums, T.broadcast(T.float32(0), width), [lane]))

        def load(acc: tirx.Buffer, sums: tirx.Buffer, at: tuple[Any, ...], first: Any) -> None:
            each(lambda r, lane, v: T.buffer_store(sums, acc[(*at, r, T.ramp(first + v, 1, width))], [lane]))

        def end(acc: tirx.Buffer, sums: tirx.Buffer, at: tuple[Any, ...], first: Any) -> None:
            each(lambda r, lane, v: T.buffer_store(acc, sums[lane], [*at, r, T.ramp(first + v, 1, width)]))

        def add(read: tirx.Buffer, values: tirx.Buffer, sums: tirx.Buffer, at: tuple[Any, Any], weight: tuple[Any, ...]) -> None:
            image, place = at

            def product(r: int, lane: Any, v: int) -> None:
                scale = T.broadcast(values[(*weight, r)], width)
                T.buffer_store(sums, sums[lane] + read[image, T.ramp(place + v, 1, width)] * scale, [lane])

            each(product)

        @T.prim_func(private=True, s_tir=True)
        def cpu_conv_dense(x_: T.handle, values_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, layer.x_shape, "float32")
            values = T.match_buffer(values_, (tiles_, groups_, columns_, rows), "float32")
            bias = T.match_buffer(bias_, (n_,), "float32")
            residual = T.match_buffer(residual_, layer.y_shape, "float32")
            y = T.match_buffer(y_, layer.y_shape, "float32")
            table = T.sblock_alloc_buffer((tiles.columns,), "int32")
            patch = T.sblock_alloc_buffer(layer.patch_shape, "float32")
            acc = T.sblock_alloc_buffer((layer.tiles, groups_, rows, int64(size)), "float32")
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
                        values[vt, vg, 0:columns_, 0:rows],
                    )
                    T.writes(acc[vo, vg, 0:rows, 0:size])
                    with T.init():
                        T.evaluate(0)  # the first tile of K begins with zeros in registers
                    sums = T.sblock_alloc_buffer((rows * chunk,), "float32", scope="local")
                    for q in T.serial(pixels.chunks):
                        tiles.begin(vt, partial(zeros, sums), partial(load, acc, sums, (vo, vg), q * chunk))
                        for s in T.serial(T.min(columns_, workload.k - vt * columns_)):
                            place = layer.first(vo, vg * rows, vt * tiles.channels) + q * chunk + T.cast(table[s], "int64")
                            add(layer.source(x, patch), values, sums, (layer.row(vo), place), (vt, vg, s))
                        end(acc, sums, (vo, vg), q * chunk)
            for o, g, r, i in T.grid(layer.tiles, groups_, rows, 1):
                with T.sblock("epilogue"):
                    vo, vg, vr, vi = T.axis.remap("SSSS", [o, g, r, i])
                    T.reads(acc[vo, vg, vr, vi * size : vi * size + size], bias[T.min(vg * rows + vr, n_ - 1)])
                    T.writes(y[layer.image(vo), T.min(vg * rows + vr, n_ - 1)])
                    if vg * rows + vr < n_:
                        layer.finish((acc, bias, residual, y), (vo, vg, vr), vg * rows + vr, activation)

        return workload.attach(cpu_conv_dense)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_image_layer(sch, workload, self._layer(workload).pixels.count)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        assert workload.conv is not None
        return self._layer(workload).seconds(m, 4 * workload.n * workload.k, roofline, 0.8)

    def _layer(self, workload: Workload) -> ImageLayer:
        assert workload.conv is not None
        return ImageLayer.of(workload, self.lanes, self.sums // panel_rows(workload.conv, workload.n))


def panel_rows(conv: Convolution, n: int) -> int:
    """Return the rows of a panel: those of a group are split evenly."""
    return ROWS if conv.groups == 1 else divisor(n // conv.groups, ROWS)


class CpuConvDenseAvx512(CpuConvDense):
    """Vectors of 16 pixels, 24 of 32 registers for sums."""

    name = "cpu_conv_dense_avx512"
    lanes, sums = 16, 24


class CpuConvDenseAvx2(CpuConvDense):
    """Vectors of 8 pixels, 12 of 16 registers for sums."""

    name = "cpu_conv_dense_avx2"
    lanes, sums = 8, 12


class CpuConvDensePortable(CpuConvDense):
    """Vectors of 4 pixels, 12 registers for sums."""

    name = "cpu_conv_dense_portable"
    lanes, sums = 4, 12


CPU_CONV_DENSE = (CpuConvDenseAvx512(), CpuConvDenseAvx2(), CpuConvDensePortable())
