"""Convolution with image and weight in 8 bits: dot products of four bytes, for any CPU.

Sixteen rows of the weight, a row panel, are the lanes of a vector of sums. The image is rounded and laid out channels last
(`rounded_images.py`), so that four channels that a tap of a pixel reads are four bytes, which are broadcast:

    acc[pixel][16 rows] += image[window of the pixel + start of the piece][4 channels] * values[4 channels][16 rows]

Taps of a row of the kernel are neighbours in the image, and so one run of bytes; runs are cut into pieces of sixteen. Rows of
the weight are rounded when it is packed, to 255 steps of their largest value. `dot_products.py` says what the product is on which
CPU.

    values  (G, C, 64)  int8     four bytes of each of 16 rows, C = 4 * pieces of all runs
    scales  (G, 16)     float32
    totals  (G, 16)     int32    the sum of a row's values
    bias    (G, 16)     float32
"""

from typing import ClassVar

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import DenseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.rounded_weight import round_weight
from tvm_balanced.schedules.layouts.row_panels import LANES, pack_panel_bias, pad_rows
from tvm_balanced.schedules.tir import prefetch
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.dot_products import BYTES, dot, dot_products, four_columns, has_dot_products
from tvm_balanced.schedules.tir.image_layers import refusal
from tvm_balanced.schedules.tir.pixel_rows import PIXELS, PixelRows, padded_rows, schedule_pixel_rows, starts_of
from tvm_balanced.schedules.tir.register_transpose import BARRIER
from tvm_balanced.schedules.tir.rounded_images import ImageBytes, refuse_convolution, schedule_image_rounding
from tvm_balanced.schedules.tir.rounded_rows import refuse_columns
from tvm_balanced.schedules.tir.tiling import Tiles, default_tiling

COLUMNS = 4  # of a step
STEPS = 4  # of a piece
PIECE = COLUMNS * STEPS


class CpuConvDenseI8(DenseKernel):
    """Rows of the weight in lanes, four channels of a pixel broadcast; rounds image and weight to 8 bits."""

    precision = "int8"
    parts = ("values", "scales", "totals")
    tolerance = 5e-2
    lanes: ClassVar[int]
    sums: ClassVar[int]  # vectors of sixteen sums that are in registers

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        why = refusal(target, self.lanes, dtype) or refuse_columns(k)
        if why is None and self.lanes == LANES and not has_dot_products(target):
            return "the target has AVX-512 and no VNNI"
        return why

    def refuses_conv(self, conv: Convolution) -> str | None:
        return refuse_convolution(conv)

    def pack(self, weight: Array, conv: Convolution | None = None) -> tuple[Array, ...]:
        image, (n, _) = _image(conv or Convolution(weight.shape[1], (1, 1, 1), (1, 1, 1))), weight.shape
        values, scales, totals = round_weight(weight)
        whole = np.zeros((n, image.runs, _pieces_of_run(image) * PIECE), np.int8)
        run, place = image.columns()
        whole[:, run, place] = values
        rows = pad_rows(whole.reshape(n, -1), n, image.groups).reshape(-1, LANES, whole[0].size // COLUMNS, COLUMNS)
        panels = (pad_rows(part, n, image.groups).reshape(-1, LANES) for part in (scales, totals))
        return np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).reshape(len(rows), -1, BYTES), *panels

    def pack_for(self, weight: Array, workload: Workload) -> tuple[Array, ...]:
        return self.pack(weight, workload.conv)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = PixelRows.of(workload, self.lanes), ACTIVATIONS[workload.activation]
        image, lanes = _image(rows.conv), self.lanes
        pieces = image.runs * _pieces_of_run(image)
        panels_, pieces_, tiles_, pixels_ = map(int64, (rows.panels, pieces, rows.of_image, PIXELS))
        groups_ = panels_ * rows.conv.groups

        @T.prim_func(private=True, s_tir=True)
        def cpu_conv_dense_i8(
            x_: T.handle,
            values_: T.handle,
            scales_: T.handle,
            totals_: T.handle,
            bias_: T.handle,
            residual_: T.handle,
            y_: T.handle,
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, rows.x_shape, "float32")
            values = T.match_buffer(values_, (groups_, pieces_ * STEPS, BYTES), "int8")
            scales = T.match_buffer(scales_, (groups_, LANES), "float32")
            totals = T.match_buffer(totals_, (groups_, LANES), "int32")
            bias = T.match_buffer(bias_, rows.bias_shape, "float32")
            residual = T.match_buffer(residual_, rows.y_shape, "float32")
            y = T.match_buffer(y_, rows.y_shape, "float32")
            rounded = image.round_images(x, lanes)
            bytes_ = rounded.values
            windows, starts = rows.windows(image), starts_of(image, PIECE, pieces)
            acc = T.sblock_alloc_buffer((rows.images, tiles_, pixels_, panels_ * LANES), "int32", scope="local")
            for g, c, s, b, t, i in T.grid(panels_, pieces_, STEPS, rows.images, tiles_, pixels_):
                with T.sblock("dense"):
                    vg, vc, vs, vb, vt, vi = T.axis.remap("SRRSSS", [g, c, s, b, t, i])
                    T.reads(
                        bytes_[vb, 0 : image.nbytes],
                        windows[vt, vi],
                        starts[vc],
                        values[rows.panel(vb, vg), vc * STEPS + vs, 0:BYTES],
                    )
                    T.writes(acc[vb, vt, vi, vg * LANES : vg * LANES + LANES])
                    with T.init():
                        acc[vb, vt, vi, T.ramp(vg * LANES, 1, LANES)] = T.broadcast(T.int32(0), LANES)
                    acc[vb, vt, vi, T.ramp(vg * LANES, 1, LANES)] = dot(
                        acc[vb, vt, vi, T.ramp(vg * LANES, 1, LANES)],
                        four_columns(
                            bytes_,
                            vb,
                            T.cast(windows[vt, vi], "int64") + T.cast(starts[vc], "int64") + vs * COLUMNS,
                        ),
                        values[rows.panel(vb, vg), vc * STEPS + vs, T.ramp(0, 1, BYTES)],
                    )
            for g, b, t in T.grid(panels_, rows.images, tiles_):
                with T.sblock("epilogue"):
                    vg, vb, vt = T.axis.remap("SSS", [g, b, t])
                    rows.store((acc, scales, totals, bias, residual, y), rounded, (vb, vt, vg), activation)

        return workload.attach(cpu_conv_dense_i8)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        rows = PixelRows.of(workload, self.lanes)
        schedule_image_rounding(sch, workload)
        schedule_pixel_rows(sch, _tiles(rows, self.sums))
        barrier = BARRIER if self.lanes == LANES else ""
        prefetch.import_prefetch(sch, "dense_update", target, dot_products(target) + barrier, stores=True)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        assert workload.conv is not None
        image = _image(workload.conv)
        weights = padded_rows(workload) * image.runs * _pieces_of_run(image) * PIECE
        many = 1.8 if self.lanes == LANES else 2.2 if roofline.dot_products else 0.9
        return roofline.seconds(weights * m, many, weights) + image_seconds(workload, m, roofline)


# In multiply-adds of float32: what rounding an element of an image takes, and storing one of the result. On Zen 5 both take about
# 0.15 ns in images of 3 MB, which is more than 1x1 convolutions of 256 channels at 2:16 take besides.
ROUND, STORE = 18.0, 18.0


def image_seconds(workload: Workload, m: int, roofline: Roofline) -> float:
    """Model the time to round the images of a convolution and to store its results as images."""
    conv = workload.conv
    assert conv is not None
    images = max(1, m // conv.pixels)
    return roofline.seconds(images * (ROUND * conv.elements + STORE * workload.n * conv.pixels), 1.0, 0)


def _image(conv: Convolution) -> ImageBytes:
    return ImageBytes.of(conv, COLUMNS)


def _pieces_of_run(image: ImageBytes) -> int:
    return -(-image.run // PIECE)


def _tiles(rows: PixelRows, sums: int) -> Tiles:
    """Return the default tiling of the layer."""
    image = _image(rows.conv)
    return default_tiling(PIXELS, rows.known_tiles, rows.panels, image.runs * _pieces_of_run(image) * STEPS * BYTES, sums)


class CpuConvDenseI8Avx512(CpuConvDenseI8):
    """Vectors of 16 sums, 16 of 32 registers."""

    name = "cpu_conv_dense_avx512_i8"
    lanes, sums = 16, 16


class CpuConvDenseI8Avx2(CpuConvDenseI8):
    """Two vectors of 8 for sixteen sums, 8 of 16 registers."""

    name = "cpu_conv_dense_avx2_i8"
    lanes, sums = 8, 4


class CpuConvDenseI8Portable(CpuConvDenseI8):
    """Four vectors of 4 for sixteen sums."""

    name = "cpu_conv_dense_portable_i8"
    lanes, sums = 4, 4


CPU_CONV_DENSE_I8 = (CpuConvDenseI8Avx512(), CpuConvDenseI8Avx2(), CpuConvDenseI8Portable())
