"""Layer of which every four columns keep at most two, for many rows of x: cuSPARSELt's where torch has it, else a dense one.

Sparse tensor cores skip half of the multiplications, whatever else is zero, and so win over dense where
the rows of x are many; with fewer rows cuBLAS computes the same weight. It lies in rows with its zeros
in it, as of `cuda_dense_mma`, because only the library knows how it compresses one. It does so at the
first call (`torch_two_of_four`). So a layer of "8:16 within 2:4" has one mask, this kernel for a prompt,
and others for the tokens after it.
"""

from dataclasses import replace

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.library_functions import TWO_OF_FOUR
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.cuda.torch_two_of_four import available
from tvm_balanced.schedules.base.gpu_specs import gpu_of
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.space import Decision
from tvm_balanced.schedules.base.workload import WORKLOAD_ATTR, Workload
from tvm_balanced.schedules.kernels.cuda_decode_mma import ROWS
from tvm_balanced.schedules.kernels.cuda_dense_mma import CUDA_DENSE_MMA, LIBRARY_EFFICIENCY
from tvm_balanced.schedules.layouts.warp_panels import BYTES

PATTERN = BalancedPattern(2, 4)
COLUMNS = 64  # K in whole ones, so that rows lie without gaps
# cuSPARSELt's time for few rows is fitted to 21 cells of up to 64 rows on an H200 (benchmarks/data/gpu.csv), of which 17 are
# within 12%: seconds without work, and for each column of K; and relative to reading the compressed weight at the peak rate.
FIXED, COLUMN, MEMORY = 18.3e-6, 0.97e-9, 2.5
COMPRESSED = 9 / 16  # of the bytes of a dense weight: half of the values, and two bits for each
# Many rows were not measured. NVIDIA reports 1.20x to 1.22x cuBLAS for 8192x8192x8192 on an H100 (CUDALibrarySamples #203).
GAIN = 1.2


class CudaTwoOfFour(SparseKernel):
    """cuSPARSELt's sparse tensor cores; fp16 and bf16."""

    name = "cuda_two_of_four"
    parts = CUDA_DENSE_MMA.parts
    kinds = ("cuda",)
    dtypes = CUDA_DENSE_MMA.dtypes
    small_tiles = CUDA_DENSE_MMA.small_tiles
    library = TWO_OF_FOUR

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name not in self.kinds:
            return "the target is not a GPU of CUDA"
        refusal = CUDA_DENSE_MMA.refuses(target, n, k, dtype)
        if refusal is not None:
            return refusal
        if n % ROWS or k % COLUMNS:
            return f"N is no multiple of {ROWS}, or K of {COLUMNS}"
        return None if available() else "torch has no cuSPARSELt in this process"

    def fit(self, found: Detection) -> BalancedPattern | None:
        return PATTERN if found.covering(PATTERN.block).nnz <= PATTERN.nnz else None

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        return CUDA_DENSE_MMA.pack(weight.decode())

    def pack_bias(self, bias: Array) -> Array:
        return CUDA_DENSE_MMA.pack_bias(bias)

    def row_stride(self, workload: Workload) -> int:
        return CUDA_DENSE_MMA.row_stride(workload)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        return CUDA_DENSE_MMA.prim_func(_dense(workload)).with_attr(WORKLOAD_ATTR, workload.to_attr())

    def forms(self, workload: Workload, target: tvm.target.Target) -> tuple[Decision, ...]:
        return CUDA_DENSE_MMA.forms(_dense(workload), target)

    def in_form(self, workload: Workload, form: Decision) -> tirx.PrimFunc:
        return CUDA_DENSE_MMA.in_form(_dense(workload), form).with_attr(WORKLOAD_ATTR, workload.to_attr())

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        CUDA_DENSE_MMA.space(sch, _dense(workload), target)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        weight = workload.n * workload.k
        memory = COMPRESSED * weight * BYTES[workload.dtype] / (roofline.gbytes_all * 1e9)
        tensor = weight * m / (roofline.tensor_gmacs * 1e9)
        sparse = FIXED + max(COLUMN * workload.k + MEMORY * memory, tensor / (LIBRARY_EFFICIENCY * GAIN))
        return min(sparse, CUDA_DENSE_MMA.seconds(_dense(workload), m, roofline))

    def library_arguments(self, workload: Workload, target: tvm.target.Target) -> tuple[int, ...]:
        """Return the M from which sparse tensor cores are faster than dense ones: of many rows they always are."""
        roofline, dense, m = gpu_of(target).roofline, _dense(workload), ROWS
        while self.seconds(workload, m, roofline) >= CUDA_DENSE_MMA.seconds(dense, m, roofline):
            m += ROWS
        return (m,)


def _dense(workload: Workload) -> Workload:
    """Return the workload as that of the dense kernel, which computes what the library does not."""
    return replace(workload, kernel=CUDA_DENSE_MMA.name, nnz=1, block=1)


CUDA_TWO_OF_FOUR = CudaTwoOfFour()
