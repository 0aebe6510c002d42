import numpy as np
import pytest
import tvm
from support import reference

from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.detection import detect
from tvm_balanced.core.layer_plan import DenseLayer
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.selection.break_even import sample
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.selection.rooflines import roofline_of

AVX512 = tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2})
AVX2 = tvm.target.Target({"kind": "llvm", "mcpu": "haswell", "num-cores": 2})


def buckets(weight, m=64, target=AVX512, dtype="float32", kernels=None, copies=3, rows=EVERY_M):
    n, k = weight.shape
    layer = DenseLayer("fc", m, n, k, dtype, detect(weight), rows)
    return KernelSelector(target, roofline_of(target), kernels, copies=copies)(layer)


def only(weight, *args, **options):
    """The one bucket of a layer."""
    (bucket,) = buckets(weight, *args, **options)
    return bucket


def pruned(text, rng, n=128, k=256):
    return reference.balanced(n, k, BalancedPattern.parse(text), rng)


def test_sparse_where_it_pays(rng):
    bucket = only(pruned("2:16", rng))
    assert (bucket.kernel, str(bucket.pattern), bucket.verdict.source) == ("cpu_avx512", "2:16", "modelled")
    assert bucket.verdict.speedup > 3
    assert "faster than dense at M = 64" in bucket.verdict.reason


def test_dense_where_sparsity_does_not_pay(rng):
    bucket = only(pruned("15:16", rng))
    assert bucket.kernel == "cpu_dense"
    assert not bucket.sparse
    assert "the time of dense" in bucket.verdict.reason


def test_dense_without_zeros(rng):
    bucket = only(rng.standard_normal((32, 64)).astype(np.float32))
    assert (bucket.kernel, bucket.verdict.reason) == ("cpu_dense", "the weight has no zeros")


def test_dense_where_no_block_saves_anything(rng):
    weight = rng.standard_normal((512, 512)).astype(np.float32)
    weight[rng.random(weight.shape) < 0.02] = 0
    assert only(weight).kernel == "cpu_dense"


@pytest.mark.parametrize("m", [1, 8, 64, 1024, None])
def test_sparser_is_never_modelled_slower(m, rng):
    speedups = [only(pruned(f"{nnz}:16", rng), m).verdict.speedup for nnz in (8, 4, 2, 1)]
    assert speedups == sorted(speedups)


@pytest.mark.slow
def test_one_copy_must_win_at_every_m(rng):
    weight = pruned("8:16", rng, 512, 512)
    each = [only(weight, m).verdict.speedup for m in sample(EVERY_M)]
    assert only(weight, None, copies=1).verdict.speedup == pytest.approx(min(each))
    assert "every M" in only(weight, None, copies=1).verdict.reason


def test_kernels_share_the_rows_of_a_layer(rng):
    """At half the weights AVX2 wins while weights come from memory, then dense, until there are rows to fill long tiles with."""
    weight = pruned("8:16", rng, 512, 512)
    parts = buckets(weight, None, AVX2)
    gathers, dense, portable = parts
    assert [part.kernel for part in parts] == ["cpu_avx2", "cpu_dense", "cpu_portable"]
    assert dense.pattern is None
    few, some, many = (part.rows for part in parts)
    assert (few.first, some.first, many.first, many.last) == (1, few.last + 1, some.last + 1, None)
    for m in (1, few.last, some.first, 8, 64, 4096):
        assert only(weight, m, AVX2).kernel == next(part.kernel for part in parts if m in part.rows)
    assert f"every M up to {few.last}, one of 3 copies of the weight" in gathers.verdict.reason
    assert f"some M from {some.first} to {some.last}, one of 3 copies" in dense.verdict.reason
    assert f"every M from {many.first}, one of 3 copies" in portable.verdict.reason
    assert only(weight, None, AVX2, copies=1).rows == EVERY_M


def test_rows_that_a_model_never_has_do_not_count(rng):
    weight = pruned("8:16", rng, 512, 512)
    for rows, kernel in ((RowRange(1, 2), "cpu_avx2"), (RowRange(128), "cpu_portable")):
        assert only(weight, None, AVX2, rows=rows).kernel == kernel


def test_without_avx512_the_portable_kernel(rng):
    assert only(pruned("4:16", rng, 512, 512), target=AVX2).kernel == "cpu_portable"


def test_other_dtypes_are_left_to_tvm(rng):
    bucket = only(pruned("2:16", rng), dtype="float64")
    assert bucket.kernel is None
    assert "float64" in bucket.verdict.reason


def test_half_precision_has_kernels_of_its_own_or_float32_arithmetic(rng):
    znver4 = tvm.target.Target({"kind": "llvm", "mcpu": "znver4"})
    assert only(pruned("2:16", rng), target=znver4, dtype="bfloat16").kernel == "cpu_avx512_bf16"
    assert only(pruned("2:16", rng), target=AVX512, dtype="bfloat16").kernel == "cpu_avx512"
    assert only(pruned("2:16", rng), target=AVX512, dtype="float16").kernel == "cpu_avx512"
    dense = only(pruned("2:16", rng), target=AVX2, dtype="float16")
    assert dense.kernel == "cpu_dense"
    assert "float16" in dense.verdict.reason


def test_padding_is_named(rng):
    bucket = only(pruned("2:32", rng, 64, 512))
    assert bucket.sparse
    if str(bucket.pattern) != "2:32":
        assert "stored as" in bucket.verdict.reason
        assert "padding" in bucket.verdict.reason


def test_forced(rng):
    assert only(pruned("2:16", rng), kernels={"f*": "cpu_dense"}).verdict.source == "forced"
    assert only(pruned("2:16", rng), kernels={"other": "cpu_dense"}).verdict.source == "modelled"
    assert only(pruned("2:16", rng), kernels={"fc": "none"}).kernel is None
    assert only(pruned("2:16", rng), kernels={"fc": "cpu_portable"}).kernel == "cpu_portable"
    assert only(np.ones((16, 32), np.float32), kernels={"fc": "cpu_portable"}).kernel == "cpu_dense"
    with pytest.raises(TargetError, match="no AVX-512"):
        only(pruned("2:16", rng), target=AVX2, kernels={"fc": "cpu_avx512"})
    with pytest.raises(TargetError, match="unknown"):
        only(pruned("2:16", rng), kernels={"fc": "magic"})


@pytest.mark.parametrize(
    ("m", "dtype", "kernel"),
    [
        (1, "float32", "cuda_gemv"),
        (64, "float32", "cuda_gemm_fp32"),
        (1, "float16", "cuda_gemv"),
        (16, "bfloat16", "cuda_decode_mma"),
    ],
)
def test_kernels_of_a_gpu(m, dtype, kernel, rng):
    weight = pruned("1:16", rng, 256, 512)
    layer = DenseLayer("layer", m, 4096, 8192, dtype, detect(weight))
    (bucket,) = KernelSelector.of(cuda_target("h200"))(layer)
    assert (bucket.kernel, bucket.verdict.source) == (kernel, "modelled")
    assert "2:4-compatible" in bucket.verdict.reason


def test_dense_on_a_gpu_where_rows_are_many(rng):
    for dtype, kernel in (("float16", "cuda_dense_mma"), ("bfloat16", "cuda_dense_mma"), ("float32", "cuda_dense")):
        layer = DenseLayer("layer", 4096, 4096, 4096, dtype, detect(pruned("8:16", rng, 256, 512)))
        assert KernelSelector.of(cuda_target("h200"))(layer)[0].kernel == kernel


def test_kernels_share_the_rows_of_a_layer_on_a_gpu(rng):
    layer = DenseLayer("layer", None, 4096, 4096, "float32", detect(pruned("8:16", rng, 256, 512)))
    parts = KernelSelector.of(cuda_target("h200"))(layer)
    assert [part.sparse for part in parts] == [True] * (len(parts) - 1) + [False]
    assert parts[-1].kernel == "cuda_dense"


def test_one_copy_of_a_weight_serves_every_m_on_a_gpu(rng):
    layer = DenseLayer("layer", None, 16384, 8192, "float16", detect(pruned("4:16", rng, 256, 512)))
    (bucket,) = KernelSelector.of(cuda_target("h200"), copies=1)(layer)
    assert bucket.kernel == "cuda_decode_mma"
    assert "every M up to 32" in bucket.verdict.reason


def test_reasons_name_only_kernels_of_the_target(rng):
    layer = DenseLayer("layer", 4, 64, 64, "float64", detect(pruned("2:16", rng, 64, 64)))
    assert "cuda" not in KernelSelector.of(host_target())(layer)[0].verdict.reason


def test_a_weight_that_stays_in_the_cache_is_not_thought_to_come_from_memory(rng):
    """In a loop over time arithmetic counts: cpu_avx512_i8 and cpu_avx512_w8 read as many bytes."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": "znver4", "num-cores": 2})
    found = detect(pruned("4:16", rng, 1024, 256))
    once, looped, large = (
        KernelSelector(target, roofline_of(target), precision=lambda _: "int8")(layer)[0]
        for layer in (
            DenseLayer("fc", 1, 1024, 256, "float32", found),
            DenseLayer("fc", 1, 1024, 256, "float32", found, in_loop=True),
            DenseLayer("fc", 1, 1 << 16, 256, "float32", found, in_loop=True),
        )
    )
    assert (once.kernel, looped.kernel, large.kernel) == ("cpu_avx512_w8", "cpu_avx512_i8", "cpu_avx512_w8")
