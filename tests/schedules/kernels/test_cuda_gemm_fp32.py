import numpy as np
import pytest
from support import reference

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.kernels.cuda_gemm_fp32 import SHARED_BYTES, _stages
from tvm_balanced.schedules.layouts.row_panels import chunk
from tvm_balanced.schedules.layouts.warp_panels import count_chunks
from tvm_balanced.testing import opencl

KERNEL = KERNELS["cuda_gemm_fp32"]
H200 = cuda_target("h200")


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize(
    ("m", "n", "k", "nnz"), [(16, 64, 256, 2), (33, 100, 1000, 2), (70, 64, 512, 1), (3, 64, 512, 3), (64, 33, 70, 4)]
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_against_float64(m, n, k, nnz, symbolic, rng):
    pattern = BalancedPattern(nnz, 16)
    weight, bias = reference.balanced(n, k, pattern, rng), rng.standard_normal(n).astype(np.float32)
    x, residual = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((m, n)).astype(np.float32)
    workload = Workload("cuda_gemm_fp32", None if symbolic else m, n, k, nnz, 16, activation="silu", residual=True)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x, bias, residual))
    assert reference.relative_error(got, reference.dense(x, weight, bias, "silu", residual)) < 2e-6


def test_shares_a_weight_with_cuda_gemv():
    assert KERNEL.pack.__func__ is KERNELS["cuda_gemv"].pack.__func__


def test_a_warp_computes_eight_rows_of_x():
    workload = Workload("cuda_gemm_fp32", 64, 4096, 4096, 2, 16)
    assert opencl.launch(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200)) == ((1, 128, 1), (32, 8, 1))


@pytest.mark.parametrize(("m", "apart"), [(9, 36), (16, 36), (33, 68), (64, 68)])
@pytest.mark.parametrize("k", [3072, 4096, 12288])
def test_a_stage_fits_half_of_what_every_gpu_has(m, apart, k):
    """The distance between columns is `apart` words, four more than a multiple of the banks."""
    workload = Workload("cuda_gemm_fp32", m, 4096, k, 2, 16)
    stages, steps = _stages(workload, KERNEL.split_rows(workload).size)
    columns = count_chunks(k, 2) // stages * chunk(2)[1] * 16
    assert steps * chunk(2)[1] * 16 == columns
    assert columns * apart * 4 <= SHARED_BYTES // 2


@pytest.mark.nvcc
@pytest.mark.parametrize("nnz", [1, 2])
def test_machine_code(nnz):
    workload = Workload("cuda_gemm_fp32", 64, 4096, 4096, nnz, 16)
    source = cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), "sm_80")
    found, text = nvcc.resources_and_ptx(source, "sm_80")
    (used,) = found.values()
    assert (used.spilled, used.stack) == (0, 0)
    assert used.registers <= 96
    assert "ld.shared.v4.f32" in text


def test_takes_float32_alone():
    assert "float16" in KERNEL.refuses(H200, 64, 64, "float16")
