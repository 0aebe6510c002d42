"""Kernels for dense layers and rules for everything else, one file each; see `kernel.Kernel` and `rule.Rule`."""

from tvm_balanced.schedules.cpu_attention import CPU_ATTENTION
from tvm_balanced.schedules.cpu_avx2 import CPU_AVX2
from tvm_balanced.schedules.cpu_avx512 import CPU_AVX512
from tvm_balanced.schedules.cpu_avx512_bf16 import CPU_AVX512_BF16
from tvm_balanced.schedules.cpu_avx512_i8 import CPU_AVX512_I8
from tvm_balanced.schedules.cpu_avx512_spmm import CPU_AVX512_SPMM
from tvm_balanced.schedules.cpu_avx512_w8 import CPU_AVX512_W8
from tvm_balanced.schedules.cpu_avx512_w16 import CPU_AVX512_W16
from tvm_balanced.schedules.cpu_columnwise import CPU_COLUMNWISE
from tvm_balanced.schedules.cpu_dense import CPU_DENSE
from tvm_balanced.schedules.cpu_elementwise import CPU_ELEMENTWISE
from tvm_balanced.schedules.cpu_matmul import CPU_MATMUL
from tvm_balanced.schedules.cpu_portable import CPU_PORTABLE
from tvm_balanced.schedules.cpu_rowwise import CPU_ROWWISE
from tvm_balanced.schedules.cpu_transpose import CPU_TRANSPOSE
from tvm_balanced.schedules.cuda_decode_mma import CUDA_DECODE_MMA
from tvm_balanced.schedules.cuda_dense import CUDA_DENSE
from tvm_balanced.schedules.cuda_dense_mma import CUDA_DENSE_MMA
from tvm_balanced.schedules.cuda_gemm_fp32 import CUDA_GEMM_FP32
from tvm_balanced.schedules.cuda_gemv import CUDA_GEMV
from tvm_balanced.schedules.kernel import DenseKernel, Kernel, SparseKernel, Workload
from tvm_balanced.schedules.machine import Machine
from tvm_balanced.schedules.rule import Rule

SPARSE_KERNELS: tuple[SparseKernel, ...] = (
    CPU_AVX512,
    CPU_AVX512_BF16,
    CPU_AVX512_W16,
    CPU_AVX512_W8,
    CPU_AVX512_I8,
    CPU_AVX512_SPMM,
    CPU_AVX2,
    CPU_PORTABLE,
    CUDA_GEMV,
    CUDA_DECODE_MMA,
    CUDA_GEMM_FP32,
)
DENSE_KERNELS: tuple[DenseKernel, ...] = (CPU_DENSE, CUDA_DENSE_MMA, CUDA_DENSE)  # the first that takes a layer counts
KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (*SPARSE_KERNELS, *DENSE_KERNELS)}
RULES: tuple[Rule, ...] = (
    CPU_ATTENTION,
    CPU_TRANSPOSE,
    CPU_ELEMENTWISE,
    CPU_MATMUL,
    CPU_COLUMNWISE,
    CPU_ROWWISE,
)  # the first that takes a function counts

__all__ = [
    "DENSE_KERNELS",
    "KERNELS",
    "RULES",
    "SPARSE_KERNELS",
    "DenseKernel",
    "Kernel",
    "Machine",
    "Rule",
    "SparseKernel",
    "Workload",
]
