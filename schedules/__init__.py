"""Kernels for dense layers and rules for everything else, one file each; see `kernel.Kernel` and `rule.Rule`."""

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules.base.kernel import DenseKernel, Kernel, SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.rule import Rule
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.kernels.cpu_avx2 import CPU_AVX2
from tvm_balanced.schedules.kernels.cpu_avx2_i8 import CPU_AVX2_I8
from tvm_balanced.schedules.kernels.cpu_avx512 import CPU_AVX512
from tvm_balanced.schedules.kernels.cpu_avx512_bf16 import CPU_AVX512_BF16
from tvm_balanced.schedules.kernels.cpu_avx512_i8 import CPU_AVX512_I8
from tvm_balanced.schedules.kernels.cpu_avx512_spmm import CPU_AVX512_SPMM
from tvm_balanced.schedules.kernels.cpu_avx512_w4 import CPU_AVX512_W4
from tvm_balanced.schedules.kernels.cpu_avx512_w8 import CPU_AVX512_W8
from tvm_balanced.schedules.kernels.cpu_avx512_w16 import CPU_AVX512_W16
from tvm_balanced.schedules.kernels.cpu_conv_dense import CPU_CONV_DENSE
from tvm_balanced.schedules.kernels.cpu_conv_dense_i8 import CPU_CONV_DENSE_I8
from tvm_balanced.schedules.kernels.cpu_conv_depthwise import CPU_CONV_DEPTHWISE
from tvm_balanced.schedules.kernels.cpu_conv_sparse import CPU_CONV_SPARSE
from tvm_balanced.schedules.kernels.cpu_conv_sparse_avx2_i8 import CPU_CONV_SPARSE_AVX2_I8
from tvm_balanced.schedules.kernels.cpu_conv_sparse_i8 import CPU_CONV_SPARSE_I8
from tvm_balanced.schedules.kernels.cpu_dense import CPU_DENSE
from tvm_balanced.schedules.kernels.cpu_dense_i8 import CPU_DENSE_I8
from tvm_balanced.schedules.kernels.cpu_neon import CPU_NEON
from tvm_balanced.schedules.kernels.cpu_neon_i8 import CPU_NEON_I8
from tvm_balanced.schedules.kernels.cpu_portable import CPU_PORTABLE
from tvm_balanced.schedules.kernels.cpu_portable_i8 import CPU_PORTABLE_I8
from tvm_balanced.schedules.kernels.cuda_conv_dense import CUDA_CONV_DENSE
from tvm_balanced.schedules.kernels.cuda_decode_mma import CUDA_DECODE_MMA
from tvm_balanced.schedules.kernels.cuda_decode_wgmma import CUDA_DECODE_WGMMA
from tvm_balanced.schedules.kernels.cuda_dense import CUDA_DENSE
from tvm_balanced.schedules.kernels.cuda_dense_mma import CUDA_DENSE_MMA
from tvm_balanced.schedules.kernels.cuda_gemm_fp32 import CUDA_GEMM_FP32
from tvm_balanced.schedules.kernels.cuda_gemv import CUDA_GEMV
from tvm_balanced.schedules.kernels.cuda_gemv_w8 import CUDA_GEMV_W8
from tvm_balanced.schedules.kernels.cuda_two_of_four import CUDA_TWO_OF_FOUR
from tvm_balanced.schedules.rules.cpu_attention import CPU_ATTENTION
from tvm_balanced.schedules.rules.cpu_columnwise import CPU_COLUMNWISE
from tvm_balanced.schedules.rules.cpu_elementwise import CPU_ELEMENTWISE
from tvm_balanced.schedules.rules.cpu_matmul import CPU_MATMUL
from tvm_balanced.schedules.rules.cpu_pooling import CPU_POOLING
from tvm_balanced.schedules.rules.cpu_rowwise import CPU_ROWWISE
from tvm_balanced.schedules.rules.cpu_transpose import CPU_TRANSPOSE

SPARSE_KERNELS: tuple[SparseKernel, ...] = (
    CPU_AVX512,
    CPU_AVX512_BF16,
    CPU_AVX512_W16,
    CPU_AVX512_W8,
    CPU_AVX512_W4,
    CPU_AVX512_I8,
    CPU_AVX512_SPMM,
    CPU_AVX2,
    CPU_AVX2_I8,
    CPU_NEON,
    CPU_NEON_I8,
    CPU_PORTABLE,
    CPU_PORTABLE_I8,
    CUDA_GEMV,
    CUDA_GEMV_W8,
    CUDA_DECODE_MMA,
    CUDA_DECODE_WGMMA,
    CUDA_GEMM_FP32,
    CUDA_TWO_OF_FOUR,
)
DENSE_KERNELS: tuple[DenseKernel, ...] = (CPU_DENSE, CPU_DENSE_I8, CUDA_DENSE_MMA, CUDA_DENSE)  # the first exact one is used
# The same for convolutions.
CONV_SPARSE_KERNELS: tuple[SparseKernel, ...] = (*CPU_CONV_SPARSE, *CPU_CONV_SPARSE_I8, CPU_CONV_SPARSE_AVX2_I8)
CONV_DENSE_KERNELS: tuple[DenseKernel, ...] = (*CPU_CONV_DENSE, *CPU_CONV_DENSE_I8, CUDA_CONV_DENSE)
DEPTHWISE_KERNELS: tuple[DenseKernel, ...] = CPU_CONV_DEPTHWISE  # for few convolutions, for which they are asked first
CONV_KERNELS: tuple[Kernel, ...] = (*CONV_SPARSE_KERNELS, *DEPTHWISE_KERNELS, *CONV_DENSE_KERNELS)
KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (*SPARSE_KERNELS, *DENSE_KERNELS)}
ALL_KERNELS: dict[str, Kernel] = KERNELS | {kernel.name: kernel for kernel in CONV_KERNELS}
RULES: tuple[Rule, ...] = (
    CPU_ATTENTION,
    CPU_TRANSPOSE,
    CPU_ELEMENTWISE,
    CPU_MATMUL,
    CPU_POOLING,
    CPU_COLUMNWISE,
    CPU_ROWWISE,
)  # the first that applies to a function is used


def dense_kernels(conv: Convolution | None) -> tuple[DenseKernel, ...]:
    """Return the dense kernels for a convolution, or for a dense layer where it is None."""
    return DENSE_KERNELS if conv is None else (*DEPTHWISE_KERNELS, *CONV_DENSE_KERNELS)


def sparse_kernels(conv: Convolution | None) -> tuple[SparseKernel, ...]:
    """Return the sparse kernels for a convolution, or for a dense layer where it is None; those that round are among them."""
    return SPARSE_KERNELS if conv is None else CONV_SPARSE_KERNELS


__all__ = [
    "ALL_KERNELS",
    "CONV_DENSE_KERNELS",
    "CONV_SPARSE_KERNELS",
    "DENSE_KERNELS",
    "DEPTHWISE_KERNELS",
    "KERNELS",
    "RULES",
    "SPARSE_KERNELS",
    "DenseKernel",
    "Kernel",
    "Roofline",
    "Rule",
    "SparseKernel",
    "Workload",
    "dense_kernels",
    "sparse_kernels",
]
