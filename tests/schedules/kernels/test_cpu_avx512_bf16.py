import ml_dtypes
import numpy as np
import pytest
import tvm
from support import reference

from tvm_balanced.compiler.build import build
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_avx512_bf16"]
AVX512_BF16 = tvm.target.Target({"kind": "llvm", "mcpu": "znver4"})
needs_bf16 = pytest.mark.skipif(
    KERNEL.refuses(host_target(), 64, 64, "bfloat16") is not None, reason="needs a CPU with AVX-512 BF16"
)


@needs_bf16
@pytest.mark.grid
@pytest.mark.parametrize("k", [32, 40, 48, 50, 64, 80, 83, 256])
@pytest.mark.parametrize("m", [1, 9])
def test_whole_odd_and_cut_windows(k, m, rng):
    weight = reference.rounded(reference.balanced(70, k, P("3:16"), rng), "bfloat16")
    x, bias = (reference.rounded(rng.standard_normal(s).astype(np.float32), "bfloat16") for s in ((m, k), 70))
    run = reference.compile_kernel("cpu_avx512_bf16", weight, P("3:16"), bias, m, dtype="bfloat16")
    assert reference.relative_error(run(x), reference.dense(x, weight, bias)) < 8e-3


@needs_bf16
@pytest.mark.grid
@pytest.mark.parametrize("pattern", ["2:32", "4:32", "5:32", "8:32", "12:32", "8:64"])
@pytest.mark.parametrize(("m", "k"), [(1, 256), (9, 83), (None, 32)])
def test_blocks_of_32(pattern, m, k, rng):
    weight = reference.rounded(reference.balanced(70, k, P(pattern), rng), "bfloat16")
    stored = KERNEL.fit(detect(weight))
    assert stored.block == 32
    x = reference.rounded(rng.standard_normal((m or 5, k)).astype(np.float32), "bfloat16")
    run = reference.compile_kernel("cpu_avx512_bf16", weight, stored, m=m, dtype="bfloat16")
    assert reference.relative_error(run(x), reference.dense(x, weight)) < 8e-3


def test_layout_of_blocks_of_32_is_the_documented_one(rng):
    """Pairs of slots of one block, three indices of 5 bits a word."""
    weight = reference.balanced(20, 96, P("4:32"), rng).astype(ml_dtypes.bfloat16)
    encoded = encode(weight, P("4:32"))
    values, indices = KERNEL.pack(encoded)
    assert values.shape == (2, 6, 32)
    assert indices.shape == (2, 2, 32)
    for row, block, slot in ((0, 0, 0), (3, 1, 3), (18, 2, 2)):
        group, lane, step, second = row // 16, row % 16, block * 2 + slot // 2, slot % 2
        assert values[group, step, 2 * lane + second] == encoded.values[row, block, slot]
        index = indices[group, step // 3, 2 * lane + second] >> (5 * (step % 3)) & 31
        assert index == encoded.indices[row, block, slot]


@pytest.mark.parametrize(
    ("needed", "stored"), [("4:32", "4:32"), ("5:32", "6:32"), ("4:64", "4:32"), ("2:16", "2:16"), ("13:32", "12:16")]
)
def test_fit_takes_the_block_that_costs_less(needed, stored, rng):
    weight = reference.balanced(64, 512, P(needed), rng)
    assert KERNEL.fit(detect(weight)) == P(stored)


def test_layout_is_the_documented_one(rng):
    weight = reference.balanced(20, 64, P("2:16"), rng).astype(ml_dtypes.bfloat16)
    encoded = encode(weight, P("2:16"))
    values, indices = KERNEL.pack(encoded)
    assert values.shape == (2, 4, 32)
    assert indices.shape == (2, 1, 32)
    for row, window, slot, second in ((0, 0, 0, 0), (3, 1, 1, 1), (18, 0, 1, 1)):
        group, lane, step = row // 16, row % 16, window * 2 + slot
        assert values[group, step, 2 * lane + second] == encoded.values[row, 2 * window + second, slot]
        nibble = indices[group, step // 4, 2 * lane + second] >> (4 * (step % 4)) & 15
        assert nibble == encoded.indices[row, 2 * window + second, slot]


def test_bytes_a_nonzero_are_two_and_a_half(rng):
    weight = reference.balanced(64, 256, P("2:16"), rng).astype(ml_dtypes.bfloat16)
    assert sum(a.nbytes for a in KERNEL.pack(encode(weight, P("2:16")))) == np.count_nonzero(weight) * 2.5


def test_refuses_what_it_cannot_compute():
    assert "float32" in KERNEL.refuses(AVX512_BF16, 64, 64, "float32")
    assert "less than one window" in KERNEL.refuses(AVX512_BF16, 64, 31, "bfloat16")
    older = tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512"})
    assert "AVX-512 BF16" in KERNEL.refuses(older, 64, 64, "bfloat16")
    assert KERNEL.refuses(AVX512_BF16, 64, 64, "bfloat16") is None


def test_inner_loop_is_word_permutes_and_dot_products():
    workload = Workload("cpu_avx512_bf16", 64, 256, 256, 2, 16, "bfloat16")
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, AVX512_BF16).with_attr("global_symbol", "main")
    assembly = build(function, AVX512_BF16).mod.inspect_source("asm")
    assert assembly.count("vpermw") >= 64  # 4 steps of 8 rows by 2 groups
    assert assembly.count("vpermw") == assembly.count("vdpbf16ps")
    assert "tvm_balanced_dpbf16ps@PLT" not in assembly
    assert "gather" not in assembly


def test_inner_loop_of_blocks_of_32_masks_no_index():
    workload = Workload("cpu_avx512_bf16", 64, 256, 384, 4, 32, "bfloat16")
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, AVX512_BF16).with_attr("global_symbol", "main")
    assembly = build(function, AVX512_BF16).mod.inspect_source("asm")
    assert assembly.count("vpermw") == assembly.count("vdpbf16ps") >= 48
    assert "vpternlog" not in assembly  # it would mask and offset the indices of blocks of 16
