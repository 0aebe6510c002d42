"""Dense layer in half precision on tensor cores: `cuda_decode_mma` with nothing to decode.

TVM's default schedules compute bfloat16, and float16 with few rows, on the CUDA cores, whose rate
is a fifteenth. Here the weight is stored as mma's first operand, so a lane uses what it reads
without decoding. Everything else is as in that kernel.

    values  (N / 16, K / 64, 4, 32, 4)  uint32: eight values of a lane, two a word, 16 bytes
"""

from dataclasses import replace

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.base.kernel import DenseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.workload import WORKLOAD_ATTR, Workload
from tvm_balanced.schedules.kernels.cuda_decode_mma import CUDA_DECODE_MMA, TOKENS
from tvm_balanced.schedules.layouts.warp_panels import BLOCK

# The cost model is fitted to 16 measurements with up to 64 rows on an H200
# (benchmarks/data/gpu.csv); the farthest is 13% off.
MEMORY, TENSOR = 1.08, 0.64  # relative to the times at peak rates, which add up
FIXED = 6.1e-6  # seconds of a kernel without work
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
        n, k = weight.shape
        blocks = -(-k // BLOCK)
        values = np.zeros((n, blocks * BLOCK), weight.dtype)
        values[:, :k] = weight
        every = np.broadcast_to(np.arange(BLOCK, dtype=np.uint8), (n, blocks, BLOCK))
        whole = EncodedWeight(values.reshape(n, blocks, BLOCK), every, BalancedPattern(BLOCK, BLOCK), k)
        return CUDA_DECODE_MMA.pack(whole)

    def pack_bias(self, bias: Array) -> Array:
        return CUDA_DECODE_MMA.pack_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        func = CUDA_DECODE_MMA.prim_func(_whole(workload))
        x, values, _, _, *others = func.params  # there are no positions and selectors
        func = tirx.PrimFunc([x, values, *others], func.body, func.ret_type, func.attrs)
        return func.with_attr(WORKLOAD_ATTR, workload.to_attr())

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        CUDA_DECODE_MMA.space(sch, _whole(workload), target)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        macs = workload.n * workload.k * -(-m // TOKENS) * TOKENS
        memory, tensor = workload.n * workload.k * 2 / (roofline.gbytes_all * 1e9), macs / (roofline.tensor_gmacs * 1e9)
        return FIXED + max(MEMORY * memory + TENSOR * tensor, tensor / EFFICIENCY)


def _whole(workload: Workload) -> Workload:
    """Return the workload as that of a weight that keeps all of every block."""
    return replace(workload, nnz=BLOCK, block=BLOCK)


CUDA_DENSE_MMA = CudaDenseMma()
