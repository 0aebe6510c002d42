"""Depthwise convolution: pixels in lanes, one channel after the other; fp32, over one or two dimensions.

A channel is copied with the zeros around it, columns of each phase of the stride together, to a plane that stays in the
first-level cache:

    plane[phase][row][column] = image[row - rows before][column * stride + phase - columns before]

Then a vector of pixels of four rows of the result is summed in registers. A row of the plane is loaded once for each column of
the kernel, and meets every row of the result that reads it:

    for 4 rows of the result, for each vector of pixels
      for each row of the plane that they read                             6 where the kernel is 3x3
        for each column of the kernel
          pixels = plane[row][column of the vector + column of the kernel]
          sums[row of the result] += pixels * values[tap]                  for each tap that is there: up to 3

The last rows and the last vector of a row begin earlier where they would go past the end, and are computed again. Layout:

    values  (N, taps)  float32
    bias    (N,)       float32
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
from tvm_balanced.schedules.tir.image_layers import COPY, STORE, pack_image_bias, refusal
from tvm_balanced.schedules.tir.image_rows import copy_elements, store_zeros
from tvm_balanced.schedules.tir.tiling import divide

ROWS = 4  # of the result that are summed together
MOST_TAPS = 64  # of which all are unrolled, for each of the rows
MOST_PLANE = 1 << 16  # elements of a plane, 256 KB
TOGETHER = 8  # rows of the weight of a task


@dataclass(frozen=True)
class Plane:
    """Where a channel's pixels lie in its copy, and how the result is tiled.

    Parameters
    ----------
    conv : Convolution
        A depthwise one.
    lanes : int
        Pixels of a vector.
    """

    conv: Convolution
    lanes: int

    @property
    def outputs(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return self.conv.outputs[1], self.conv.outputs[2]

    @property
    def rows(self) -> int:
        """Rows of the result that are summed together."""
        return min(ROWS, self.outputs[0])

    @property
    def vectors(self) -> int:
        """Vectors of a row of the result that are summed together: several where it has few rows, so that no sum waits."""
        return min(max(1, ROWS // self.rows), -(-self.outputs[1] // self.lanes))

    @property
    def height(self) -> int:
        """Rows of the plane."""
        return (self.outputs[0] - 1) * self.conv.stride[1] + (self.conv.kernel[1] - 1) * self.conv.dilation[1] + 1

    @property
    def pitch(self) -> int:
        """Elements from a row to the next."""
        read = max(self.outputs[1], self.vectors * self.lanes) + self.shift(self.conv.kernel[2] - 1)[1]
        return -(-read // self.lanes) * self.lanes

    @property
    def phase(self) -> int:
        """Elements from a phase to the next."""
        return self.height * self.pitch

    @property
    def elements(self) -> int:
        """Of all phases."""
        return self.phase * self.conv.stride[2]

    def shift(self, column: int) -> tuple[int, int]:
        """Return (phase, columns of the plane after a pixel's own) of a column of the kernel."""
        shift, phase = divmod(column * self.conv.dilation[2], self.conv.stride[2])
        return phase, shift

    def copies(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield (phase, first column of the plane, first column of the image, columns) of what is copied of a row."""
        stride, before, width = self.conv.stride[2], self.conv.before[2], self.conv.size[2]
        for phase in range(stride):
            first = max(0, -(-(before - phase) // stride))
            begin = first * stride + phase - before
            count = min(-(-(width - begin) // stride), self.pitch - first)
            if count > 0:
                yield phase, first, begin, count

    def meetings(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Yield each row of the plane that a tile reads, counted from its first, with the (row of the tile, row of the kernel)
        that meet it.
        """
        stride, dilation = self.conv.stride[1], self.conv.dilation[1]
        for row in range((self.rows - 1) * stride + (self.conv.kernel[1] - 1) * dilation + 1):
            taps = [(q, t) for q in range(self.rows) for t in range(self.conv.kernel[1]) if q * stride + t * dilation == row]
            if taps:
                yield row, taps


class CpuConvDepthwise(DenseKernel):
    """Pixels in lanes, a plane for each channel; fp32, one channel for each row of the weight."""

    parts = ("values",)
    lanes: ClassVar[int]

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        return refusal(target, self.lanes, dtype)

    def refuses_conv(self, conv: Convolution) -> str | None:
        if conv.groups == 1 or conv.depth > 1:
            return "the convolution is not depthwise"
        if conv.size[0] * conv.kernel[0] > 1 or max(conv.before[0], conv.after[0]) or conv.spread != (1, 1, 1):
            return "it is over three dimensions or transposed"
        if conv.stride[2] > 2 or conv.taps > MOST_TAPS:
            return f"columns of stride {conv.stride[2]}, or more than {MOST_TAPS} taps"
        plane = Plane(conv, self.lanes)
        if 2 * plane.outputs[1] < self.lanes:
            return f"rows of {plane.outputs[1]} pixels are less than half a vector of {self.lanes}"
        return None if plane.elements <= MOST_PLANE else f"a channel takes {plane.elements} elements, more than {MOST_PLANE}"

    def pack(self, weight: Array) -> tuple[Array, ...]:
        return (np.ascontiguousarray(weight, np.float32),)

    def pack_bias(self, bias: Array) -> Array:
        return pack_image_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        conv, activation = workload.conv, ACTIVATIONS[workload.activation]
        assert conv is not None
        plane, width = Plane(conv, self.lanes), self.lanes
        batch = tirx.Var("batch", "int64") if workload.m is None else int64(workload.m // conv.pixels)
        (height, columns), of_channel = plane.outputs, conv.size[1] * conv.size[2]
        rows, vectors, per_channel = plane.rows, plane.vectors, workload.n // conv.channels
        first_row, last_row = conv.before[1], min(plane.height, conv.before[1] + conv.size[1])
        n_, taps_ = int64(workload.n), int64(conv.taps)

        def copy(x: tirx.Buffer, copied: tirx.Buffer, image: Any, channel: Any) -> None:
            store_zeros((copied, 0, int64(0)), plane.elements)
            with T.serial(int64(max(0, last_row - first_row))) as r:
                for phase, first, begin, count in plane.copies():
                    source = x, image, channel * of_channel + r * conv.size[2] + begin
                    target = copied, 0, phase * plane.phase + (r + first_row) * plane.pitch + first
                    copy_elements(source, target, count, conv.stride[2])

        def lane(row: int, vector: int) -> Any:
            return T.ramp((row * vectors + vector) * width, 1, width)

        def begin(sums: tirx.Buffer, bias: tirx.Buffer, n: Any) -> None:
            for q in range(rows):
                for v in range(vectors):
                    T.buffer_store(sums, T.broadcast(bias[n], width), [lane(q, v)])

        def add(buffers: tuple[tirx.Buffer, ...], at: tuple[Any, Any, Any]) -> None:
            (copied, values, sums, pixels), (n, row, column), all_ = buffers, at, T.ramp(0, 1, width)
            for down, taps in plane.meetings():
                for across in range(conv.kernel[2]):
                    phase, shift = plane.shift(across)
                    place = phase * plane.phase + (row * conv.stride[1] + down) * plane.pitch + column + shift
                    for v in range(vectors):
                        T.buffer_store(pixels, copied[0, T.ramp(place + v * width, 1, width)], [all_])
                        for q, t in taps:
                            scale = T.broadcast(values[n, t * conv.kernel[2] + across], width)
                            T.buffer_store(sums, sums[lane(q, v)] + pixels[all_] * scale, [lane(q, v)])

        def store(buffers: tuple[tirx.Buffer, ...], sums: tirx.Buffer, at: tuple[Any, Any, Any, Any]) -> None:
            (residual, y), (image, n, row, column) = buffers, at
            for q in range(rows):
                for v in range(vectors):
                    pixel = (n * height + row + q) * columns + column + v * width
                    whole = columns >= vectors * width
                    inside = T.ramp(v * width, 1, width) < T.broadcast(columns, width)
                    along = T.ramp(pixel, 1, width)
                    total = sums[lane(q, v)]
                    if workload.residual:
                        masked = T.masked_load(f"float32x{width}", residual, image, along, inside)
                        total = total + (residual[image, along] if whole else masked)
                    bound = tirx.Var("total", f"float32x{width}")
                    result = tirx.Let(bound, total, activation(bound))
                    if whole:
                        T.buffer_store(y, result, [image, along])
                    else:
                        T.evaluate(T.masked_store(y, result, image, along, inside))

        @T.prim_func(private=True, s_tir=True)
        def cpu_conv_depthwise(x_: T.handle, values_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (batch, int64(conv.elements)), "float32")
            values = T.match_buffer(values_, (n_, taps_), "float32")
            bias = T.match_buffer(bias_, (n_,), "float32")
            residual = T.match_buffer(residual_, (batch, n_ * conv.pixels), "float32")
            y = T.match_buffer(y_, (batch, n_ * conv.pixels), "float32")
            for b, n in T.grid(batch, n_):
                with T.sblock("depthwise"):
                    vb, vn = T.axis.remap("SS", [b, n])
                    T.reads(x[vb, 0 : conv.elements], values[vn, 0:taps_], bias[vn])
                    T.writes(y[vb, vn * conv.pixels : vn * conv.pixels + conv.pixels])
                    copied = T.sblock_alloc_buffer((int64(1), int64(plane.elements)), "float32")
                    sums = T.sblock_alloc_buffer((int64(rows * vectors * width),), "float32", scope="local")
                    pixels = T.sblock_alloc_buffer((int64(width),), "float32", scope="local")
                    copy(x, copied, vb, vn // per_channel)
                    for h in T.serial(int64(-(-height // rows))):
                        for v in T.serial(int64(-(-columns // (vectors * width)))):
                            row = T.min(h * rows, int64(height - rows))
                            column = T.max(T.min(v * vectors * width, int64(columns - vectors * width)), int64(0))
                            begin(sums, bias, vn)
                            add((copied, values, sums, pixels), (vn, row, column))
                            store((residual, y), sums, (vb, vn, row, column))

        return workload.attach(cpu_conv_depthwise)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        b, n = sch.get_loops(sch.get_sblock("depthwise"))
        outer, _ = sch.split(n, divide(sch, n, divisor(workload.n, TOGETHER)))
        sch.parallel(sch.fuse(b, outer))

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        conv = workload.conv
        assert conv is not None
        plane = Plane(conv, self.lanes)
        (height, columns), loads = plane.outputs, sum(1 for _ in plane.meetings()) * conv.kernel[2] / plane.rows
        results = -(-height // plane.rows) * plane.rows * -(-columns // self.lanes)
        vectors = results * (conv.taps + loads + STORE) + COPY * plane.elements / self.lanes
        images = max(1, m // conv.pixels)
        return roofline.seconds(images * workload.n * vectors * self.lanes, 0.7, 4 * workload.n * workload.k)


class CpuConvDepthwiseAvx512(CpuConvDepthwise):
    """Vectors of 16 pixels."""

    name = "cpu_conv_depthwise_avx512"
    lanes = 16


class CpuConvDepthwiseAvx2(CpuConvDepthwise):
    """Vectors of 8 pixels."""

    name = "cpu_conv_depthwise_avx2"
    lanes = 8


class CpuConvDepthwisePortable(CpuConvDepthwise):
    """Vectors of 4 pixels."""

    name = "cpu_conv_depthwise_portable"
    lanes = 4


CPU_CONV_DEPTHWISE = (CpuConvDepthwiseAvx512(), CpuConvDepthwiseAvx2(), CpuConvDepthwisePortable())
