"""The kernels, one file each. See `kernel.Kernel` for what a kernel is."""

from tvm_balanced.schedules.cpu_avx512 import CPU_AVX512
from tvm_balanced.schedules.cpu_dense import CPU_DENSE
from tvm_balanced.schedules.cpu_portable import CPU_PORTABLE
from tvm_balanced.schedules.kernel import DenseKernel, Kernel, SparseKernel, Workload
from tvm_balanced.schedules.machine import Machine

SPARSE_KERNELS: tuple[SparseKernel, ...] = (CPU_AVX512, CPU_PORTABLE)
DENSE_KERNELS: tuple[DenseKernel, ...] = (CPU_DENSE,)
KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (*SPARSE_KERNELS, *DENSE_KERNELS)}

__all__ = ["DENSE_KERNELS", "KERNELS", "SPARSE_KERNELS", "DenseKernel", "Kernel", "Machine", "SparseKernel", "Workload"]
