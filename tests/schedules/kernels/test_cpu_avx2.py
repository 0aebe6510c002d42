import re

import numpy as np
import pytest
import tvm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import reference
from support.sample import examples

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.layer_plan import DenseLayer
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.selection.rooflines import roofline_of

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_avx2"]
PATTERNS = ["1:16", "2:16", "3:16", "4:16", "6:16", "8:16", "12:16", "1:8", "2:8", "3:8", "4:8"]
AVX2 = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell", "num-cores": 1})
AVX512 = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "skylake-avx512", "num-cores": 1})


def assembly(m, pattern, n=3072, k=768):
    workload = Workload("cpu_avx2", m, n, k, P(pattern).nnz, P(pattern).block)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, AVX2).with_attr("global_symbol", "main")
    return build(function, AVX2).mod.inspect_source("asm").splitlines()


@pytest.mark.slow
@pytest.mark.avx2
@settings(max_examples=examples(40))
@given(
    n=st.integers(1, 150),
    k=st.integers(16, 200),
    m=st.integers(1, 35),
    pattern=st.sampled_from(PATTERNS),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    has_bias=st.booleans(),
    seed=st.integers(0, 9),
)
@example(1, 16, 1, "1:16", "none", False, 0)
@example(1, 17, 2, "1:8", "none", True, 0)
def test_random_layers_on_avx2(n, k, m, pattern, activation, has_bias, seed):
    check(n, k, m, pattern, activation, has_bias, seed, rows=(m,))


@pytest.mark.slow
@pytest.mark.avx2
@settings(max_examples=10)  # one takes as long to build as eight for a known M
@given(
    n=st.integers(1, 150),
    k=st.integers(16, 200),
    pattern=st.sampled_from(PATTERNS),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    has_bias=st.booleans(),
    seed=st.integers(0, 9),
)
@example(33, 31, "12:16", "gelu", True, 0)
def test_random_layers_of_any_number_of_rows_on_avx2(n, k, pattern, activation, has_bias, seed):
    check(n, k, None, pattern, activation, has_bias, seed, rows=(1, 2, 3, 5, 7, 8, 16, 35))


def check(n, k, m, pattern, activation, has_bias, seed, rows):
    """Build a layer for m rows of x, and compare its results for each number of `rows` with float64."""
    rng = np.random.default_rng(seed)
    weight = reference.balanced(n, k, P(pattern), rng)
    bias = rng.standard_normal(n).astype(np.float32) if has_bias else None
    run = reference.compile_kernel("cpu_avx2", weight, P(pattern), bias, m, activation, AVX2)
    for count in rows:
        x = rng.standard_normal((count, k)).astype(np.float32)
        error = np.abs(run(x) - reference.dense(x, weight, bias, activation))
        assert (error <= reference.allowed_error(x, weight, bias, activation)).all()


def test_layout_is_the_documented_one(rng):
    """values[g, s] and nibble s % 8 of indices[g, s // 8] are slot s of rows 16 g to 16 g + 15."""
    weight = reference.balanced(32, 64, P("1:8"), rng)
    encoded = encode(weight, P("1:8"))
    values, indices = KERNEL.pack(encoded)
    assert (values.shape, indices.shape) == ((2, 8, 16), (2, 1, 16))
    for row, slot in ((0, 0), (5, 3), (17, 7), (31, 4)):
        group, lane = row // 16, row % 16
        assert values[group, slot, lane] == encoded.values[row, slot, 0]
        assert indices.view(np.uint32)[group, 0, lane] >> (4 * slot) & 15 == encoded.indices[row, slot, 0]


@pytest.mark.parametrize(("pattern", "n", "k"), [("2:16", 64, 128), ("3:16", 40, 100), ("12:16", 1, 17)])
def test_one_packed_weight_serves_avx512_too(pattern, n, k, rng):
    encoded = encode(reference.balanced(n, k, P(pattern), rng), P(pattern))
    for ours, theirs in zip(KERNEL.pack(encoded), KERNELS["cpu_avx512"].pack(encoded), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    assert np.array_equal(KERNEL.pack_bias(np.arange(n)), KERNELS["cpu_avx512"].pack_bias(np.arange(n)))


@pytest.mark.parametrize(
    ("zeros", "stored"),
    [("2:16", "2:16"), ("5:16", "6:16"), ("1:8", "1:8"), ("2:8", "2:8"), ("3:8", "3:8"), ("1:4", "2:8"), ("12:16", "12:16")],
)
def test_fit_takes_blocks_of_8_where_they_store_no_more(zeros, stored, rng):
    assert KERNEL.fit(detect(reference.balanced(64, 128, P(zeros), rng))) == P(stored)


def test_fit_has_nothing_for_a_dense_weight(rng):
    assert KERNEL.fit(detect(rng.standard_normal((16, 64)).astype(np.float32))) is None


def test_refuses_what_it_cannot_compute():
    for cpu in ("x86-64", "sandybridge"):
        assert "no AVX2" in KERNEL.refuses(tvm.target.Target({"kind": "llvm", "mcpu": cpu}), 64, 64, "float32")
    without_fma = tvm.target.Target({"kind": "llvm", "mcpu": "haswell", "mattr": ["-fma"]})
    arm = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"})
    for target in (without_fma, arm, tvm.target.Target({"kind": "cuda", "arch": "sm_90"})):
        assert "no AVX2" in KERNEL.refuses(target, 64, 64, "float32")
    assert "float16" in KERNEL.refuses(AVX2, 64, 64, "float16")
    assert "K = 15" in KERNEL.refuses(AVX2, 64, 15, "float32")
    for cpu in ("haswell", "znver3", "x86-64-v3", "skylake-avx512"):
        assert KERNEL.refuses(tvm.target.Target({"kind": "llvm", "mcpu": cpu}), 1, 16, "float32") is None
    assert KERNEL.refuses(parse_target("cpu/x86-64-v3"), 1, 16, "float32") is None


@pytest.mark.grid
@pytest.mark.parametrize("m", [1, 8, None])
@pytest.mark.parametrize(("pattern", "sums"), [("4:16", 32), ("2:16", 32), ("2:8", 64)])
def test_inner_loop_is_permutes_and_multiply_adds(m, pattern, sums):
    lines = assembly(m, pattern)
    loop = reference.innermost_loop(lines)

    def count(word):
        return sum(word in line and "%ymm" in line for line in loop)

    # LLVM emits vpermd instead of vpermps if the index was just computed: they move the same bits.
    assert count("vfmadd") == sums
    assert count("vpermps") + count("vpermd") == sums * P(pattern).block // 8
    assert count("vblendvps") == (sums if P(pattern).block == 16 else 0)
    assert not any("gather" in line or "%zmm" in line for line in lines)
    stores = [line for line in loop if re.search(r"vmov\w+\t%ymm\d+, \d*\(%rsp\)", line)]
    assert len(stores) <= (0 if P(pattern).block == 16 else 12)  # with LLVM 22: none, and 6 to 11


def chosen(m, pattern, n, k, rng, target=AVX2):
    weight = reference.balanced(n, k, P(pattern), rng)
    return KernelSelector(target, roofline_of(target))(DenseLayer("fc", m, n, k, "float32", detect(weight)))[0]


@pytest.mark.grid
@pytest.mark.parametrize(
    ("pattern", "n", "k", "m", "kernel"),
    [
        ("4:16", 3072, 768, 1, "cpu_avx2"),
        ("4:16", 3072, 768, 4, "cpu_avx2"),
        ("4:16", 3072, 768, 8, "cpu_portable"),
        ("4:16", 3072, 768, 64, "cpu_portable"),
        ("2:16", 3072, 768, 4, "cpu_avx2"),
        ("2:16", 3072, 768, 64, "cpu_portable"),
        ("2:16", 768, 3072, 256, "cpu_portable"),
        ("2:8", 3072, 768, 1, "cpu_avx2"),
        ("2:8", 3072, 768, 8, "cpu_avx2"),
        ("2:8", 3072, 768, 64, "cpu_portable"),
        ("2:8", 768, 3072, 256, "cpu_portable"),
        ("8:16", 3072, 768, 4, "cpu_dense"),
        ("8:16", 3072, 768, 64, "cpu_portable"),
        ("4:16", 3072, 768, None, "cpu_avx2"),
        ("12:16", 3072, 768, 64, "cpu_dense"),
    ],
)
def test_the_verdict_is_the_kernel_that_was_measured_faster(pattern, n, k, m, kernel, rng):
    assert chosen(m, pattern, n, k, rng).kernel == kernel


@pytest.mark.parametrize("m", [1, 8, 64, 256, None])
@pytest.mark.parametrize("pattern", ["2:16", "4:16", "2:8"])
def test_avx512_is_preferred_where_it_is(pattern, m, rng):
    expected = "cpu_avx512_spmm" if m is not None and m >= 64 else "cpu_avx512"
    assert chosen(m, pattern, 768, 768, rng, AVX512).kernel == expected


def test_one_row_of_a_large_weight(rng):
    """Measured: 0.82 ms, 1.92 ms and 2.42 ms for 4096x4096, 4:16, cold."""
    machine = roofline_of(AVX2, 1)
    avx2, portable, dense = (
        KERNELS[name].seconds(Workload(name, 1, 4096, 4096, *stored), 1, machine)
        for name, stored in (("cpu_avx2", (4, 16)), ("cpu_portable", (4, 16)), ("cpu_dense", (1, 1)))
    )
    assert avx2 < portable < dense
    assert 1.1 < dense / portable < 1.4
