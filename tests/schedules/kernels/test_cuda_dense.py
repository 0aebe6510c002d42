import pytest
from support import reference

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS, Workload

KERNEL = KERNELS["cuda_dense"]
H200 = cuda_target("h200")


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize("m", [1, 5, 40])
def test_against_float64(m, rng):
    weight, x = rng.standard_normal((48, 96)).astype("float32"), rng.standard_normal((m, 96)).astype("float32")
    workload = Workload("cuda_dense", m, 48, 96, 1, 1, activation="relu")
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x))
    assert reference.relative_error(got, reference.dense(x, weight, activation="relu")) < 1e-5


@pytest.mark.nvcc
@pytest.mark.grid
@pytest.mark.parametrize(("m", "dtype"), [(1, "float16"), (64, "bfloat16"), (None, "float32"), (300, "float32")])
def test_compiles(m, dtype):
    workload = Workload("cuda_dense", m, 256, 512, 1, 1, dtype, residual=True)
    source = cuda_source(KERNEL.schedule(KERNEL.prim_func(workload), workload, H200), "sm_90")
    assert all(used.spilled == 0 for used in nvcc.resources(source, "sm_90").values())
