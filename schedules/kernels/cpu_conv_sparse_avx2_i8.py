"""Balanced-sparse convolution for x86 CPUs with AVX2 in 8 bits: byte shuffles inside a block, dot products of four bytes.

As cpu_avx2_i8, for rows of x that are pixels, of images that are rounded and laid out channels last (`rounded_images.py`):

    acc[pixel][8 rows] += dot(vpshufb(image[window of the pixel + start of the chunk + block], index[8 rows][4 slots]), values)

Blocks lie in one run of bytes, as cpu_conv_sparse_i8 has them. `layouts/byte_blocks.py` has the layout; the chunks of one run
follow those of another.
"""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T
from tvm.target import codegen

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.kernels.cpu_avx2_i8 import BYTES, HALF, PICK_FUNCTION, SHARES, columns_of_step, picked_slots
from tvm_balanced.schedules.kernels.cpu_conv_dense_i8 import image_seconds
from tvm_balanced.schedules.kernels.cpu_conv_sparse_i8 import refuse_blocks
from tvm_balanced.schedules.layouts.byte_blocks import BLOCK, PARTS, blocks_of_chunk, blocks_of_step, pack_blocks, steps_of_chunk
from tvm_balanced.schedules.layouts.row_panels import LANES, NNZ, fit_block, pack_panel_bias
from tvm_balanced.schedules.tir import prefetch
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.dot_products import moved_by, moved_dot, moved_dot_products
from tvm_balanced.schedules.tir.pixel_rows import PIXELS, PixelRows, padded_rows, schedule_pixel_rows, starts_of
from tvm_balanced.schedules.tir.rounded_images import ImageBytes, schedule_image_rounding
from tvm_balanced.schedules.tir.rounded_rows import refuse_columns
from tvm_balanced.schedules.tir.tiling import Tiles, tiles_together


class CpuConvSparseAvx2I8(SparseKernel):
    """Byte shuffles of what a pixel reads, and 8-bit dot products in 256 bits; rounds image and weight to 8 bits."""

    name = "cpu_conv_sparse_avx2_i8"
    precision = "int8"
    parts = PARTS
    tolerance = 5e-2

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not codegen.llvm_cpu_has_features("avx2", target):
            return "the target has no AVX2"
        return refuse_columns(k, BLOCK) or (None if dtype in self.dtypes else f"it does not compute {dtype}")

    def refuses_conv(self, conv: Convolution) -> str | None:
        return refuse_blocks(conv, BLOCK)

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_block(found, BLOCK, NNZ)

    def pack(self, weight: EncodedWeight, conv: Convolution | None = None) -> tuple[Array, ...]:
        image = _image(conv or Convolution(weight.shape[1], (1, 1, 1), (1, 1, 1)))
        run, place = image.columns()[:, ::BLOCK]
        nnz = weight.pattern.nnz
        return pack_blocks(weight, run * _chunks_of_run(image, nnz) * blocks_of_chunk(nnz) + place // BLOCK, image.groups)

    def pack_for(self, weight: EncodedWeight, workload: Workload) -> tuple[Array, ...]:
        return self.pack(weight, workload.conv)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation, nnz = PixelRows.of(workload, HALF), ACTIVATIONS[workload.activation], workload.nnz
        image, steps, blocks = _image(rows.conv), steps_of_chunk(nnz), blocks_of_chunk(nnz)
        chunks = image.runs * _chunks_of_run(image, nnz)
        panels_, steps_, chunks_, tiles_, pixels_ = map(int64, (rows.panels, steps, chunks, rows.of_image, PIXELS))
        groups_ = panels_ * rows.conv.groups

        def lanes(half: Any, size: int) -> Any:
            """What of a row panel's `2 * size` elements belongs to a half."""
            return T.ramp(half % 2 * size, 1, size)

        @T.prim_func(private=True, s_tir=True)
        def cpu_conv_sparse_avx2_i8(
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
            values = T.match_buffer(values_, (groups_, chunks_ * steps_, 2 * BYTES), "int8")
            indices = T.match_buffer(indices_, (groups_, chunks_ * steps_ // 2, 2 * BYTES), "uint8")
            scales = T.match_buffer(scales_, (groups_, LANES), "float32")
            totals = T.match_buffer(totals_, (groups_, LANES), "int32")
            bias = T.match_buffer(bias_, rows.bias_shape, "float32")
            residual = T.match_buffer(residual_, rows.y_shape, "float32")
            y = T.match_buffer(y_, rows.y_shape, "float32")
            rounded = image.round_images(x, HALF, moved_by())
            bytes_ = rounded.values
            windows, starts = rows.windows(image), starts_of(image, blocks * BLOCK, chunks)
            acc = T.sblock_alloc_buffer((rows.images, tiles_, pixels_, panels_ * LANES), "int32", scope="local")
            for h, c, s, b, t, i in T.grid(panels_ * 2, chunks_, steps_, rows.images, tiles_, pixels_):
                with T.sblock("dense"):
                    vh, vc, vs, vb, vt, vi = T.axis.remap("SRRSSS", [h, c, s, b, t, i])
                    T.reads(
                        bytes_[vb, 0 : image.nbytes],
                        windows[vt, vi],
                        starts[vc],
                        values[rows.panel(vb, vh // 2), vc * steps + vs, vh % 2 * BYTES : vh % 2 * BYTES + BYTES],
                        indices[rows.panel(vb, vh // 2), (vc * steps + vs) // 2, vh % 2 * BYTES : vh % 2 * BYTES + BYTES],
                    )
                    T.writes(acc[vb, vt, vi, vh * HALF : vh * HALF + HALF])
                    with T.init():
                        acc[vb, vt, vi, T.ramp(vh * HALF, 1, HALF)] = T.broadcast(T.int32(0), HALF)
                    acc[vb, vt, vi, T.ramp(vh * HALF, 1, HALF)] = moved_dot(
                        acc[vb, vt, vi, T.ramp(vh * HALF, 1, HALF)],
                        picked_slots(
                            (bytes_, vb, T.cast(windows[vt, vi], "int64") + T.cast(starts[vc], "int64")),
                            columns_of_step(indices[rows.panel(vb, vh // 2), (vc * steps + vs) // 2, lanes(vh, BYTES)], vs),
                            vs,
                            nnz,
                        ),
                        values[rows.panel(vb, vh // 2), vc * steps + vs, lanes(vh, BYTES)],
                    )
            for g, b, t in T.grid(panels_, rows.images, tiles_):
                with T.sblock("epilogue"):
                    vg, vb, vt = T.axis.remap("SSS", [g, b, t])
                    rows.store((acc, scales, totals, bias, residual, y), rounded, (vb, vt, vg), activation)

        return workload.attach(cpu_conv_sparse_avx2_i8)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_image_rounding(sch, workload)
        schedule_pixel_rows(sch, _tiles(workload))
        prefetch.import_prefetch(sch, "dense_update", target, moved_dot_products(target) + PICK_FUNCTION, stores=True)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        assert workload.conv is not None
        image, nnz = _image(workload.conv), workload.nnz
        slots = padded_rows(workload) * image.runs * _chunks_of_run(image, nnz) * blocks_of_chunk(nnz) * nnz
        many, _ = SHARES[roofline.dot_products][blocks_of_step(nnz) > 1]
        return roofline.seconds(slots * m, many * HALF / roofline.lanes, slots * 1.5) + image_seconds(workload, m, roofline)


def _image(conv: Convolution) -> ImageBytes:
    return ImageBytes.of(conv, BLOCK)


def _chunks_of_run(image: ImageBytes, nnz: int) -> int:
    return -(-image.run // (blocks_of_chunk(nnz) * BLOCK))


def _tiles(workload: Workload) -> Tiles:
    """Return the default tiling of the layer: eight sums of four pixels, or four where a step shuffles several blocks."""
    assert workload.conv is not None
    image, nnz = _image(workload.conv), workload.nnz
    nbytes = image.runs * _chunks_of_run(image, nnz) * steps_of_chunk(nnz) * 3 * BYTES
    return Tiles(2 if blocks_of_step(nnz) > 1 else 4, 1, tiles_together(PixelRows.of(workload, HALF).panels, nbytes))


CPU_CONV_SPARSE_AVX2_I8 = CpuConvSparseAvx2I8()
