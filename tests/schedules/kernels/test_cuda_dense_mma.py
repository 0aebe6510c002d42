import numpy as np
import pytest
from support import reference

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS, Workload

KERNEL = KERNELS["cuda_dense_mma"]
H200 = cuda_target("h200")


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize(("m", "n", "k"), [(1, 32, 128), (9, 48, 64), (5, 33, 700), (70, 16, 256), (16, 1, 16)])
def test_against_float64(m, n, k, rng):
    weight, bias = rng.standard_normal((n, k)).astype("float32"), rng.standard_normal(n).astype("float32")
    x, residual = rng.standard_normal((m, k)).astype("float32"), rng.standard_normal((m, n)).astype("float32")
    workload = Workload(KERNEL.name, m, n, k, 1, 1, "bfloat16", "relu", residual=True)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x, bias, residual))
    exact = [reference.rounded(a, "bfloat16") for a in (x, weight, bias)]
    want = reference.dense(*exact, "relu", reference.rounded(residual, "bfloat16"))
    assert reference.relative_error(got, want) < 4e-3  # y itself is rounded to 8 bits


@pytest.mark.pocl
@pytest.mark.parametrize("m", [1, 40])
def test_rows_known_only_at_the_call(m, rng):
    weight, x = rng.standard_normal((32, 128)).astype("float32"), rng.standard_normal((m, 128)).astype("float32")
    workload = Workload(KERNEL.name, None, 32, 128, 1, 1, "bfloat16", tile=16)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x))
    want = reference.dense(reference.rounded(x, "bfloat16"), reference.rounded(weight, "bfloat16"))
    assert reference.relative_error(got, want) < 4e-3


@pytest.mark.slow
@pytest.mark.nvcc
@pytest.mark.parametrize(("m", "dtype"), [(1, "float16"), (64, "bfloat16"), (1024, "float16"), (None, "bfloat16")])
def test_every_weight_goes_to_tensor_cores_by_16_bytes(m, dtype):
    workload = Workload(KERNEL.name, m, 8192, 8192, 1, 1, dtype)
    source = cuda_source(KERNEL.schedule(KERNEL.prim_func(workload), workload, H200), "sm_90")
    assert "mma.sync" in source
    for used in nvcc.resources(source, "sm_90").values():
        assert used.spilled == 0
    assert "*(uint4*)" in source
    assert "positions" not in source


def test_its_weight_is_stored_once():
    """Two bytes per weight, and whole tiles."""
    (values,) = KERNEL.pack(np.zeros((48, 130), "float16"))
    assert values.nbytes == 2 * 48 * 192
