import numpy as np
import pytest
import tvm
from support import reference

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, DenseKernel, Workload, multi_kernel
from tvm_balanced.schedules.multi_kernel import Variant

PATTERN = BalancedPattern(4, 16)
N, K = 40, 72


def variants(*parts, n=N, k=K, dtype="float32", **options):
    """Variants of a layer from (kernel, first M, last M) each."""
    return tuple(
        Variant(
            Workload(name, None, n, k, *((1, 1) if isinstance(KERNELS[name], DenseKernel) else (4, 16)), dtype, **options),
            RowRange(first, last),
        )
        for name, first, last in parts
    )


THREE = variants(("cpu_portable", 1, 2), ("cpu_dense", 3, 9), ("cpu_avx2", 10, None), activation="relu", residual=True)


def packed(variant, weight, bias):
    kernel = variant.kernel
    parts = kernel.pack(weight) if isinstance(kernel, DenseKernel) else kernel.pack(encode(weight, variant.workload.pattern))
    return [*parts, kernel.pack_bias(bias)]


def build(parts):
    func = multi_kernel.schedule(multi_kernel.prim_func(parts), host_target())
    return tvm.compile(func.with_attr("global_symbol", "main"), host_target())["main"]


@pytest.mark.slow
@pytest.mark.avx2
def test_every_m_is_right_and_comes_from_its_kernel(rng):
    """Each kernel's weight is another, so that the result tells which was used."""
    weights = [reference.balanced(N, K, PATTERN, rng) for _ in THREE]
    biases = [rng.standard_normal(N).astype(np.float32) for _ in THREE]
    arguments = [a for s, w, b in zip(THREE, weights, biases, strict=True) for a in packed(s, w, b)]
    tensors = [tvm.runtime.tensor(a) for a in arguments]
    main = build(THREE)
    for m in range(1, 20):
        x, residual = (rng.standard_normal((m, width)).astype(np.float32) for width in (K, N))
        y = tvm.runtime.tensor(np.full((m, N), np.nan, np.float32))
        main(tvm.runtime.tensor(x), *tensors, tvm.runtime.tensor(residual), y)
        place = 0 if m <= 2 else 1 if m <= 9 else 2
        want = reference.dense(x, weights[place], biases[place], "relu", residual)
        assert reference.relative_error(y.numpy(), want) < 1e-5, m


def test_one_variant_is_the_kernels_own_function():
    (variant,) = variants(("cpu_portable", 1, None))
    func = multi_kernel.prim_func((variant,))
    assert multi_kernel.VARIANTS_ATTR not in func.attrs
    tvm.ir.assert_structural_equal(func, variant.kernel.prim_func(variant.workload))
    scheduled = variant.kernel.schedule(func, variant.workload, host_target())
    tvm.ir.assert_structural_equal(multi_kernel.schedule(func, host_target()), scheduled)


def test_another_function_is_left_alone():
    func = THREE[0].kernel.prim_func(THREE[0].workload).without_attr("tvm_balanced.workload")
    assert multi_kernel.schedule(func, host_target()) is None


def test_small_tiles_are_those_of_its_rows():
    (variant,) = variants(("cpu_dense", 2, 5))
    assert variant.small_tiles == (2, 4, 6)
    (variant,) = variants(("cpu_dense", 17, None))
    assert variant.small_tiles == ()


@pytest.mark.slow
@pytest.mark.nvcc
def test_gpu_kernels_are_compiled_for_the_rows_they_get():
    h200 = cuda_target("h200")
    parts = variants(("cuda_gemv", 1, 2), ("cuda_decode_mma", 3, 64), ("cuda_dense_mma", 65, None), n=64, k=128, dtype="float16")
    source = cuda_source(multi_kernel.schedule(multi_kernel.prim_func(parts), h200), "sm_80")
    # gemv has tiles of 1 and 2 and no M left for its default; decode_mma of 8, 16, 32 and its default; dense_mma its default
    assert len(nvcc.resources(source, "sm_80")) == 2 + 4 + 1
