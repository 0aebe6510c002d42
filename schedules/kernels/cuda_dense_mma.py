"""Dense layer in half precision on tensor cores: `cuda_decode_mma` with nothing to decode.

TVM's default schedules compute bfloat16, and float16 with few rows, on the CUDA cores, whose rate
is a fifteenth. The weight lies in rows, as in PyTorch, so that cuBLAS can read the same copy
(`library_call`). A lane of `cuda_decode_mma` holds 16 columns of a row, which are 32 bytes one after
another. So what copies a stage to shared memory also puts it in the order of mma's first operand:
eight threads side by side copy 128 bytes of a row. Everything else is as in that kernel.

    values  (N / 16, 16, K / 64, 32)  uint32: rows of N / 16 tiles, two values a word; zeros fill the last tile and the last 64
"""

from dataclasses import replace

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.kernel import DenseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.space import Decision
from tvm_balanced.schedules.base.workload import WORKLOAD_ATTR, Workload
from tvm_balanced.schedules.kernels.cuda_decode_mma import CUDA_DECODE_MMA, QUAD, ROWS, TOKENS, Layout
from tvm_balanced.schedules.layouts.warp_panels import BLOCK, round_up

# The cost model is fitted to 16 measurements with up to 64 rows on an H200
# (benchmarks/data/gpu.csv); the farthest is 13% off.
MEMORY, TENSOR = 1.08, 0.64  # relative to the times at peak rates, which add up
FIXED = 6.1e-6  # seconds of a kernel without work
# cuBLAS at 1 to 64 rows in the same file: 18 cells within 10%
LIBRARY_MEMORY, LIBRARY_EFFICIENCY = 1.05, 0.75
EFFICIENCY = 0.6  # of the tensor cores' peak, which is wgmma's, at most; many rows have not been measured


class CudaDenseMma(DenseKernel):
    """Tensor cores on a dense weight; fp16 and bf16 with sums in fp32."""

    name = "cuda_dense_mma"
    parts = ("values",)
    kinds = CUDA_DECODE_MMA.kinds
    dtypes = CUDA_DECODE_MMA.dtypes
    small_tiles = CUDA_DECODE_MMA.small_tiles

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        return CUDA_DECODE_MMA.refuses(target, n, k, dtype)

    def pack(self, weight: Array) -> tuple[Array, ...]:
        (n, k), (tiles, groups) = weight.shape, _tiles(*weight.shape)
        rows = np.zeros((tiles * ROWS, groups * QUAD * BLOCK), weight.dtype)
        rows[:n, :k] = weight
        return (rows.view(np.uint32).reshape(tiles, ROWS, groups, QUAD * BLOCK // 2),)

    def pack_bias(self, bias: Array) -> Array:
        padded = np.zeros((round_up(-(-len(bias) // ROWS)), ROWS), bias.dtype)
        padded.reshape(-1)[: len(bias)] = bias
        return padded

    def row_stride(self, workload: Workload) -> int:
        return _tiles(workload.n, workload.k)[1] * QUAD * BLOCK

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        return _dense(CUDA_DECODE_MMA.prim_func(_whole(workload)), workload)

    def forms(self, workload: Workload, target: tvm.target.Target) -> tuple[Decision, ...]:
        return CUDA_DECODE_MMA.forms(_whole(workload), target)

    def in_form(self, workload: Workload, form: Decision) -> tirx.PrimFunc:
        return _dense(CUDA_DECODE_MMA.in_form(_whole(workload), form), workload)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        CUDA_DECODE_MMA.space(sch, _whole(workload), target)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        """Return the time of this kernel or of cuBLAS, whichever is shorter: a verdict must hold against both."""
        macs = workload.n * workload.k * -(-m // TOKENS) * TOKENS
        memory, tensor = workload.n * workload.k * 2 / (roofline.gbytes_all * 1e9), macs / (roofline.tensor_gmacs * 1e9)
        own = FIXED + max(MEMORY * memory + TENSOR * tensor, tensor / EFFICIENCY)
        return min(own, FIXED + max(LIBRARY_MEMORY * memory, tensor / LIBRARY_EFFICIENCY))


def _tiles(n: int, k: int) -> tuple[int, int]:
    """Return the tiles of 16 rows and the groups of 64 columns of a weight (N, K)."""
    layout = Layout.of(n, k, BLOCK)
    return layout.tiles, layout.groups


def _dense(func: tirx.PrimFunc, workload: Workload) -> tirx.PrimFunc:
    """Return a function of `cuda_decode_mma` for a dense weight, without positions and selectors, as one of this workload."""
    x, values, _, _, *others = func.params
    func = tirx.PrimFunc([x, values, *others], func.body, func.ret_type, func.attrs)
    return func.with_attr(WORKLOAD_ATTR, workload.to_attr())


def _whole(workload: Workload) -> Workload:
    """Return the workload as that of a weight that keeps all of every block."""
    return replace(workload, nnz=BLOCK, block=BLOCK)


CUDA_DENSE_MMA = CudaDenseMma()
