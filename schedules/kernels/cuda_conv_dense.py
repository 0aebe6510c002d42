"""Convolution on a GPU as a product of matrices with TVM's own default schedule (dlight).

Rows of the product are pixels of the results. Its left operand, what each of them reads, is never
written down: it is read from the image when a thread block copies a tile.

Where torch is in the process, cuDNN is called instead (`library_call`), which is what makes it fast.
The weight stays (N, channels of a group, *kernel) as in PyTorch, whatever the order that its zeros
were looked for in.
"""

import math
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST, from_weight_matrix, weight_matrix
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.kernels.cuda_dense import CudaDense
from tvm_balanced.schedules.layouts.warp_panels import BYTES
from tvm_balanced.schedules.tir.activations import ACTIVATIONS

THREADS = 256
HALF_RATE = 0.5  # of tensor cores, for images in PyTorch's layout; a guess, as nothing sparse is weighed against it yet


class CudaConvDense(CudaDense):
    """TVM's default GPU schedule of any convolution; fp32, fp16 and bf16 with sums in fp32."""

    name = "cuda_conv_dense"

    def pack(self, weight: Array, conv: Convolution | None = None) -> tuple[Array, ...]:
        if conv is None or conv.order != TAPS_FIRST:
            return (weight,)
        shape = (len(weight), conv.depth, conv.taps)
        return (weight_matrix(from_weight_matrix(weight, shape), CHANNELS_FIRST),)

    def pack_for(self, weight: Array, workload: Workload) -> tuple[Array, ...]:
        return self.pack(weight, workload.conv)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        conv, activation, dtype = workload.conv, ACTIVATIONS[workload.activation], workload.dtype
        assert conv is not None
        batch = tirx.Var("batch", "int64") if workload.m is None else int64(workload.m // conv.pixels)
        n_, k_, pixels, groups = map(int64, (workload.n, workload.k, conv.pixels, conv.groups))
        rows, channels, elements = map(int64, (workload.n // conv.groups, conv.depth, math.prod(conv.size)))

        def result(total: Any, residual: tirx.Buffer, image: Any, place: Any) -> Any:
            total = total + T.cast(residual[image, place], "float32") if workload.residual else total
            return T.cast(activation(total), dtype)

        @T.prim_func(private=True, s_tir=True)
        def cuda_conv_dense(x_: T.handle, weight_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (batch, groups * channels * elements), dtype)
            weight = T.match_buffer(weight_, (n_, k_), dtype)
            bias = T.match_buffer(bias_, (n_,), dtype)
            residual = T.match_buffer(residual_, (batch, n_ * pixels), dtype)
            y = T.match_buffer(y_, (batch, n_ * pixels), dtype)
            patches = T.sblock_alloc_buffer((groups, batch * pixels, k_), dtype)
            weights = T.sblock_alloc_buffer((groups, rows, k_), dtype)
            total = T.sblock_alloc_buffer((groups, batch * pixels, rows), "float32")
            for g, i, c in T.grid(groups, batch * pixels, k_):
                with T.sblock("patches"):
                    vg, vi, vc = T.axis.remap("SSS", [g, i, c])
                    patches[vg, vi, vc] = _element(x, conv, vg, vi, vc)
            for g, j, c in T.grid(groups, rows, k_):
                with T.sblock("weights"):
                    vg, vj, vc = T.axis.remap("SSS", [g, j, c])
                    weights[vg, vj, vc] = weight[vg * rows + vj, vc]
            for g, i, j, c in T.grid(groups, batch * pixels, rows, k_):
                with T.sblock("conv"):
                    vg, vi, vj, vc = T.axis.remap("SSSR", [g, i, j, c])
                    with T.init():
                        total[vg, vi, vj] = T.float32(0)
                    total[vg, vi, vj] = total[vg, vi, vj] + T.cast(patches[vg, vi, vc], "float32") * T.cast(
                        weights[vg, vj, vc], "float32"
                    )
            for g, i, j in T.grid(groups, batch * pixels, rows):
                with T.sblock("epilogue"):
                    vg, vi, vj = T.axis.remap("SSS", [g, i, j])
                    y[vi // pixels, (vg * rows + vj) * pixels + vi % pixels] = result(
                        total[vg, vi, vj] + T.cast(bias[vg * rows + vj], "float32"),
                        residual,
                        vi // pixels,
                        (vg * rows + vj) * pixels + vi % pixels,
                    )

        return workload.attach(cuda_conv_dense)

    def schedule_tiles(
        self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target, decisions: Decisions | None = None
    ) -> tirx.PrimFunc:
        done = dl.gpu.Matmul().apply(func, target, False)
        return _a_thread_a_result(func) if done is None else done.mod["main"]

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        conv, width = workload.conv, BYTES[workload.dtype]
        assert conv is not None
        half = workload.dtype != "float32" and roofline.tensor_gmacs
        rate = roofline.tensor_gmacs * HALF_RATE if half else roofline.gmacs
        images = m / conv.pixels
        elements = workload.n * workload.k + images * conv.channels * math.prod(conv.size) + m * workload.n
        macs = images * conv.macs * workload.n
        return roofline.seconds(macs * roofline.gmacs / rate, 0.7, width * elements / 0.85)


def _a_thread_a_result(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Schedule a convolution whose groups are too narrow for a product of matrices, as a depthwise one."""
    sch = Schedule(func)
    for name in ("patches", "weights"):
        sch.compute_inline(sch.get_sblock(name))
    conv, epilogue = sch.get_sblock("conv"), sch.get_sblock("epilogue")
    group, pixel, row = sch.get_loops(epilogue)
    sch.reorder(group, row, pixel)
    block, thread = sch.split(pixel, [None, THREADS])  # not with the rows: how many pixels there are may be unknown
    sch.bind(sch.fuse(group, row), "blockIdx.y")
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    sch.compute_at(conv, thread)
    sch.set_scope(conv, 0, "local")
    sch.decompose_reduction(conv, sch.get_loops(conv)[-1])
    return sch.mod["main"]


def _element(x: tirx.Buffer, conv: Convolution, group: Any, row: Any, column: Any) -> Any:
    """What a pixel of the results, counted over all images, reads for a column of the weight: 0 around and between elements."""
    image, pixel = row // conv.pixels, row % conv.pixels
    channel, tap = group * conv.depth + column // conv.taps, column % conv.taps
    inside, place = [], channel
    for axis, size in enumerate(conv.size):
        later = axis + 1
        output = pixel // math.prod(conv.outputs[later:]) % conv.outputs[axis]
        step = tap // math.prod(conv.kernel[later:]) % conv.kernel[axis]
        own = output * conv.stride[axis] + step * conv.dilation[axis] - conv.before[axis]
        inside += [own >= 0] if conv.before[axis] else []
        inside += [own < conv.spread_size[axis]] if conv.after[axis] else []
        inside += [own % conv.spread[axis] == 0] if conv.spread[axis] > 1 else []
        place = place * size + own // conv.spread[axis]
    value = x[image, place]
    return tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, str(x.dtype))) if inside else value


CUDA_CONV_DENSE = CudaConvDense()
