"""Balanced-sparse convolution for AVX-512 VBMI and VNNI: 8-bit values times 8-bit images, four multiply-adds per lane.

As cpu_avx512_i8, for rows of x that are pixels: the image is rounded and laid out channels last (`rounded_images.py`), so that
what the taps of a row of the kernel read is one run of bytes, which windows of 64 cover.

    acc[pixel]  <-  vpdpbusd(acc[pixel], vpermb(image[window of the pixel + start of the window], indices), values)

A block of the pattern must lie in one run: the weight's columns are (kh, kw, in), and channels are whole blocks, unless there is
one tap. `layouts/byte_windows.py` has the layout; the windows of one run follow those of another.
"""

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T
from tvm.target import codegen

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.weight_matrix import TAPS_FIRST
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.kernels.cpu_avx512_i8 import FEATURES, columns_of_step, permuted_dot
from tvm_balanced.schedules.kernels.cpu_conv_dense_i8 import image_seconds
from tvm_balanced.schedules.layouts.byte_windows import BLOCK, BLOCKS, PARTS, WINDOW, count_windows, pack_windows, steps_of_chunk
from tvm_balanced.schedules.layouts.row_panels import LANES, NNZ, fit_block, pack_panel_bias
from tvm_balanced.schedules.tir import prefetch
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.image_layers import refusal
from tvm_balanced.schedules.tir.pixel_rows import PIXELS, PixelRows, padded_rows, schedule_pixel_rows, starts_of
from tvm_balanced.schedules.tir.register_transpose import BARRIER
from tvm_balanced.schedules.tir.rounded_images import ImageBytes, refuse_convolution, schedule_image_rounding
from tvm_balanced.schedules.tir.rounded_rows import refuse_columns
from tvm_balanced.schedules.tir.tiling import Tiles, default_tiling


class CpuConvSparseAvx512I8(SparseKernel):
    """Byte permutes of what a pixel reads, and 8-bit dot products; rounds image and weight to 8 bits."""

    name = "cpu_conv_sparse_avx512_i8"
    precision = "int8"
    parts = PARTS
    tolerance = 5e-2

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not all(codegen.llvm_cpu_has_features(feature, target) for feature in FEATURES):
            return "the target has no AVX-512 VBMI and VNNI"
        return refusal(target, LANES, dtype) or refuse_columns(k, BLOCK)

    def refuses_conv(self, conv: Convolution) -> str | None:
        return refuse_blocks(conv, BLOCK)

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_block(found, BLOCK, NNZ)

    def pack(self, weight: EncodedWeight, conv: Convolution | None = None) -> tuple[Array, ...]:
        image = _image(conv or Convolution(weight.shape[1], (1, 1, 1), (1, 1, 1)))
        run, place = image.columns()[:, ::BLOCK]
        return pack_windows(weight, run * _windows_of_run(image) * BLOCKS + place // BLOCK, image.groups)

    def pack_for(self, weight: EncodedWeight, workload: Workload) -> tuple[Array, ...]:
        return self.pack(weight, workload.conv)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation, nnz = PixelRows.of(workload, LANES), ACTIVATIONS[workload.activation], workload.nnz
        image, steps = _image(rows.conv), steps_of_chunk(nnz)
        windows_of_k = _windows(image, nnz)
        panels_, steps_, chunks_, tiles_, pixels_ = map(
            int64, (rows.panels, steps, windows_of_k * nnz // steps, rows.of_image, PIXELS)
        )
        groups_ = panels_ * rows.conv.groups

        @T.prim_func(private=True, s_tir=True)
        def cpu_conv_sparse_i8(
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
            x = T.match_buffer(x_, rows.x_shape, "float32")
            values = T.match_buffer(values_, (groups_, chunks_ * steps_, WINDOW), "int8")
            indices = T.match_buffer(indices_, (groups_, chunks_ * steps_ // 2, WINDOW), "uint8")
            scales = T.match_buffer(scales_, (groups_, LANES), "float32")
            totals = T.match_buffer(totals_, (groups_, LANES), "int32")
            bias = T.match_buffer(bias_, rows.bias_shape, "float32")
            residual = T.match_buffer(residual_, rows.y_shape, "float32")
            y = T.match_buffer(y_, rows.y_shape, "float32")
            rounded = image.round_images(x, LANES)
            bytes_ = rounded.values
            windows, starts = rows.windows(image), starts_of(image, WINDOW, windows_of_k)
            acc = T.sblock_alloc_buffer((rows.images, tiles_, pixels_, panels_ * LANES), "int32", scope="local")
            for g, c, s, b, t, i in T.grid(panels_, chunks_, steps_, rows.images, tiles_, pixels_):
                with T.sblock("dense"):
                    vg, vc, vs, vb, vt, vi = T.axis.remap("SRRSSS", [g, c, s, b, t, i])
                    T.reads(
                        bytes_[vb, 0 : image.nbytes],
                        windows[vt, vi],
                        starts[vc * (steps // nnz) + vs // nnz],
                        values[rows.panel(vb, vg), vc * steps + vs, 0:WINDOW],
                        indices[rows.panel(vb, vg), (vc * steps + vs) // 2, 0:WINDOW],
                    )
                    T.writes(acc[vb, vt, vi, vg * LANES : vg * LANES + LANES])
                    with T.init():
                        acc[vb, vt, vi, T.ramp(vg * LANES, 1, LANES)] = T.broadcast(T.int32(0), LANES)
                    place = T.cast(windows[vt, vi], "int64") + T.cast(starts[vc * (steps // nnz) + vs // nnz], "int64")
                    acc[vb, vt, vi, T.ramp(vg * LANES, 1, LANES)] = permuted_dot(
                        acc[vb, vt, vi, T.ramp(vg * LANES, 1, LANES)],
                        bytes_[vb, T.ramp(place, 1, WINDOW)],
                        columns_of_step(indices[rows.panel(vb, vg), (vc * steps + vs) // 2, T.ramp(0, 1, WINDOW)], vs),
                        values[rows.panel(vb, vg), vc * steps + vs, T.ramp(0, 1, WINDOW)],
                    )
            for g, b, t in T.grid(panels_, rows.images, tiles_):
                with T.sblock("epilogue"):
                    vg, vb, vt = T.axis.remap("SSS", [g, b, t])
                    rows.store((acc, scales, totals, bias, residual, y), rounded, (vb, vt, vg), activation)

        return workload.attach(cpu_conv_sparse_i8)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        rows = PixelRows.of(workload, LANES)
        schedule_image_rounding(sch, workload)
        schedule_pixel_rows(sch, _tiles(rows, workload.nnz))
        prefetch.import_prefetch(sch, "dense_update", target, BARRIER, stores=True)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        assert workload.conv is not None
        slots = padded_rows(workload) * _windows(_image(workload.conv), workload.nnz) * BLOCKS * workload.nnz
        return roofline.seconds(slots * m, 1.2, slots * 1.5) + image_seconds(workload, m, roofline)


def refuse_blocks(conv: Convolution, block: int) -> str | None:
    """Return why blocks of a convolution's weight do not lie in runs of an image's bytes, None if they do."""
    if conv.taps > 1 and (conv.order != TAPS_FIRST or conv.depth % block):
        return f"blocks of {block} lie across taps"
    return refuse_convolution(conv)


def _image(conv: Convolution) -> ImageBytes:
    return ImageBytes.of(conv, BLOCK)


def _windows_of_run(image: ImageBytes) -> int:
    return -(-image.run // WINDOW)


def _windows(image: ImageBytes, nnz: int) -> int:
    """Return the windows of all runs, an even number if a window has an odd number of steps."""
    return count_windows(image.runs * _windows_of_run(image) * WINDOW, nnz)


def _tiles(rows: PixelRows, nnz: int) -> Tiles:
    """Return the default tiling of the layer."""
    return default_tiling(PIXELS, rows.known_tiles, rows.panels, _windows(_image(rows.conv), nnz) * nnz * WINDOW * 3 // 2)


CPU_CONV_SPARSE_I8 = (CpuConvSparseAvx512I8(),)
