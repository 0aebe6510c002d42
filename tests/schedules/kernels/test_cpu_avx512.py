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
from tvm_balanced.schedules.tir import prefetch, tiling

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_avx512"]


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize(("pattern", "k", "n"), [("2:16", 1500, 64), ("4:32", 784, 64), ("8:64", 40, 64), ("2:16", 256, 1000)])
@pytest.mark.parametrize("m", [1, 9])
def test_ragged_and_covered(pattern, k, n, m, rng):
    weight = reference.balanced(n, k, P(pattern), rng)
    stored = KERNEL.fit(detect(weight))
    assert stored is not None
    bias, x = rng.standard_normal(n).astype(np.float32), rng.standard_normal((m, k)).astype(np.float32)
    run = reference.compile_kernel("cpu_avx512", weight, stored, bias, m)
    assert reference.relative_error(run(x), reference.dense(x, weight, bias)) < 1e-5


def test_layout_is_the_documented_one(rng):
    """values[g, s] and nibble s % 8 of indices[g, s // 8] are slot s of rows 16 g to 16 g + 15."""
    weight = reference.balanced(32, 64, P("2:16"), rng)
    encoded = encode(weight, P("2:16"))
    values, indices = KERNEL.pack(encoded)
    assert (values.shape, indices.shape) == ((2, 8, 16), (2, 1, 16))
    assert KERNEL.pack_bias(np.ones(20, np.float32)).tolist() == [[1] * 16, [1] * 4 + [0] * 12]
    for row, slot in ((0, 0), (5, 3), (17, 7), (31, 4)):
        group, lane, block = row // 16, row % 16, slot // 2
        assert values[group, slot, lane] == encoded.values[row, block, slot % 2]
        assert indices.view(np.uint32)[group, slot // 8, lane] >> (4 * (slot % 8)) & 15 == encoded.indices[row, block, slot % 2]


def test_layout_of_blocks_of_32_is_the_documented_one(rng):
    """Six indices of 5 bits a word."""
    weight = reference.balanced(32, 96, P("4:32"), rng)
    encoded = encode(weight, P("4:32"))
    values, indices = KERNEL.pack(encoded)
    assert (values.shape, indices.shape) == ((2, 12, 16), (2, 2, 16))
    for row, slot in ((0, 0), (5, 3), (17, 7), (31, 11)):
        group, lane, block = row // 16, row % 16, slot // 4
        assert values[group, slot, lane] == encoded.values[row, block, slot % 4]
        assert indices.view(np.uint32)[group, slot // 6, lane] >> (5 * (slot % 6)) & 31 == encoded.indices[row, block, slot % 4]


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize("pattern", ["1:32", "2:32", "3:32", "4:32", "6:32", "8:32", "12:32", "8:64"])
@pytest.mark.parametrize(("m", "k"), [(1, 1500), (9, 784), (None, 95)])
@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_blocks_of_32(pattern, m, k, dtype, error, rng):
    weight = reference.balanced(64, k, P(pattern), rng)
    stored = KERNEL.fit(detect(weight))
    assert stored.block == 32
    bias, x = rng.standard_normal(64).astype(np.float32), rng.standard_normal((m or 5, k)).astype(np.float32)
    run = reference.compile_kernel("cpu_avx512", weight, stored, bias, m, dtype=dtype)
    assert reference.relative_error(run(x), reference.dense(x, weight, bias)) < error


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize(
    ("pattern", "dtype"), [("1:16", "float32"), ("3:16", "float32"), ("4:32", "float32"), ("8:16", "float16")]
)
def test_weights_that_are_fetched(pattern, dtype, rng, monkeypatch):
    """In a stream and spread over tiles of rows of x, whose number is known or not; K and N are no whole blocks."""
    monkeypatch.setattr(prefetch, "LARGE_BYTES", 0)
    monkeypatch.setattr(tiling, "TOGETHER_BYTES", 1)  # several sets, each of which fetches the next
    weight = reference.rounded(reference.balanced(72, 300, P(pattern), rng), dtype)
    assert KERNEL.fit(detect(weight)) == P(pattern)
    for static in (None, 1, 3, 7, 8, 11, 16, 40):
        run = reference.compile_kernel("cpu_avx512", weight, P(pattern), m=static, residual=True, activation="relu", dtype=dtype)
        for m in [static] if static else (1, 2, 5, 9, 12, 13, 16, 17, 40):
            x, residual = (reference.rounded(rng.standard_normal((m, k)).astype(np.float32), dtype) for k in (300, 72))
            want = reference.dense(x, weight, None, "relu", residual)
            assert reference.relative_error(run(x, residual), want) < (1e-5 if dtype == "float32" else 2e-3), (static, m)


def test_bytes_a_nonzero_are_four_and_a_half(rng):
    values, indices = KERNEL.pack(encode(reference.balanced(64, 256, P("2:16"), rng), P("2:16")))
    assert (values.nbytes + indices.nbytes) / (64 * 256 / 8) == 4.5


@pytest.mark.parametrize(("needed", "stored"), [("5:16", "6:16"), ("7:16", "8:16"), ("9:16", "12:16"), ("1:16", "1:16")])
def test_fit_rounds_up_to_a_count_that_packs(needed, stored, rng):
    assert KERNEL.fit(detect(reference.balanced(64, 128, P(needed), rng))) == P(stored)


@pytest.mark.parametrize(
    ("needed", "stored"), [("4:32", "4:32"), ("5:32", "6:32"), ("4:64", "4:32"), ("2:16", "2:16"), ("13:32", "12:16")]
)
def test_fit_takes_the_block_that_costs_less(needed, stored, rng):
    assert KERNEL.fit(detect(reference.balanced(64, 512, P(needed), rng))) == P(stored)


def test_fit_takes_no_block_longer_than_a_row(rng):
    assert KERNEL.fit(detect(reference.balanced(64, 31, P("2:16"), rng))).block == 16


def test_fit_has_nothing_for_a_dense_weight(rng):
    assert KERNEL.fit(detect(rng.standard_normal((16, 64)).astype(np.float32))) is None


def test_refuses_what_it_cannot_compute():
    avx2 = tvm.target.Target({"kind": "llvm", "mcpu": "haswell"})
    avx512 = tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512"})
    assert "AVX-512" in KERNEL.refuses(avx2, 64, 64, "float32")
    assert "float64" in KERNEL.refuses(avx512, 64, 64, "float64")
    assert "K = 15" in KERNEL.refuses(avx512, 64, 15, "float32")
    assert KERNEL.refuses(avx512, 1, 16, "float32") is None


@pytest.mark.avx512
def test_inner_loop_is_permutes_and_multiply_adds_with_few_spills():
    workload = Workload("cpu_avx512", 64, 3072, 768, 2, 16)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    lines = build(function, host_target()).mod.inspect_source("asm").splitlines()
    permutes = sum("vperm" in line and "zmm" in line for line in lines)
    multiplies = sum("vfmadd" in line and "zmm" in line for line in lines)
    assert permutes == multiplies == 128  # 8 steps by 4 rows by 4 groups
    assert not any("gather" in line for line in lines)
    spills = sum("zmm" in line and "(%rsp)" in line for line in lines)
    assert spills <= 16  # 10 with LLVM 22: 32 registers hold 16 sums, 4 vectors of x, and indices with their shifted copies


@pytest.mark.avx512
def test_inner_loop_of_blocks_of_32_permutes_two_registers_at_once():
    workload = Workload("cpu_avx512", 64, 3072, 768, 4, 32)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    lines = build(function, host_target()).mod.inspect_source("asm").splitlines()
    permutes = sum(("vpermi2ps" in line or "vpermt2ps" in line) and "zmm" in line for line in lines)
    assert permutes == sum("vfmadd" in line and "zmm" in line for line in lines) == 192  # 12 steps by 4 rows by 4 groups


def test_scheduled_for_threads():
    workload = Workload("cpu_avx512", 8, 64, 64, 2, 16)
    avx512 = tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512"})
    script = KERNEL.schedule(KERNEL.prim_func(workload), workload, avx512).script()
    assert "T.parallel" in script
    assert "permvar" in script
