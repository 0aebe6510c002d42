import numpy as np
import pytest
import tvm
from support import eight_bits, reference

from tvm_balanced.compiler.build import build
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_features, host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.kernels.cpu_avx512_i8 import FEATURES

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_avx512_i8"]
NEEDS = pytest.mark.skipif(not set(FEATURES) <= host_features(), reason="this CPU has no AVX-512 VBMI and VNNI")


@NEEDS
@pytest.mark.grid
@pytest.mark.parametrize("pattern", ["1:16", "2:16", "3:16", "4:16", "8:16", "12:16", "4:64", "12:64", "32:64"])
@pytest.mark.parametrize("m", [1, 9, None])
def test_sums_are_those_of_integers_bit_for_bit(pattern, m, rng):
    weight = reference.balanced(40, 100, P(pattern), rng)
    weight[3] = 0  # a row without a scale
    run = reference.compile_kernel("cpu_avx512_i8", weight, P(pattern), m=m)
    x = eight_bits.on_steps(m or 7, 100, rng)
    np.testing.assert_array_equal(run(x), eight_bits.dense(x, weight))
    x = rng.standard_normal((m or 7, 100)).astype(np.float32)
    x[0] *= 1000
    x[-1] = np.abs(x[-1])
    assert (np.abs(run(x) - reference.dense(x, weight)) <= eight_bits.allowed_error(x, weight)).all()


@NEEDS
@pytest.mark.grid
@pytest.mark.parametrize(("n", "k"), [(16, 16), (33, 64), (100, 1000), (16, 48), (768, 768)])
def test_ragged_shapes_with_epilogue(n, k, rng):
    weight, bias = reference.balanced(n, k, P("2:16"), rng), rng.standard_normal(n).astype(np.float32)
    x, residual = rng.standard_normal((5, k)).astype(np.float32), rng.standard_normal((5, n)).astype(np.float32)
    run = reference.compile_kernel("cpu_avx512_i8", weight, P("2:16"), bias, 5, "gelu", residual=True)
    assert reference.relative_error(run(x, residual), reference.dense(x, weight, bias, "gelu", residual)) < 2e-2


@NEEDS
def test_a_row_of_zeros(rng):
    weight, x = reference.balanced(16, 64, P("2:16"), rng), np.zeros((2, 64), np.float32)
    assert (reference.compile_kernel("cpu_avx512_i8", weight, P("2:16"), m=2)(x) == 0).all()


@NEEDS
def test_inner_loop_is_byte_permutes_and_dot_products():
    workload = Workload("cpu_avx512_i8", 64, 3072, 768, 2, 16)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    lines = build(function, host_target()).mod.inspect_source("asm").splitlines()
    assert sum("vpermb" in line for line in lines) == sum("vpdpbusd" in line for line in lines) == 32  # 2 steps of 4x4 sums


def test_layout_is_the_documented_one(rng):
    encoded = encode(reference.balanced(32, 128, P("2:16"), rng), P("2:16"))
    values, indices, scales, totals = KERNEL.pack(encoded)
    assert (values.shape, indices.shape, scales.shape, totals.shape) == ((2, 4, 64), (2, 2, 64), (2, 16), (2, 16))
    for row, block, slot in ((0, 0, 0), (5, 3, 1), (17, 7, 0), (31, 4, 1)):
        group, lane, step, byte = row // 16, row % 16, block // 4 * 2 + slot, block % 4
        step_of_row = np.abs(encoded.values[row]).max() / 127
        assert values[group, step, 4 * lane + byte] == np.rint(encoded.values[row, block, slot] / step_of_row)
        assert indices[group, step // 2, 4 * lane + byte] >> 4 * (step % 2) & 15 == encoded.indices[row, block, slot]
    assert totals[1, 0] == values[1, :, :4].astype(int).sum()


def test_layout_of_wide_windows_is_the_documented_one(rng):
    encoded = encode(reference.balanced(40, 150, P("8:64"), rng), P("8:64"))
    values, indices, scales, totals = KERNEL.pack(encoded)
    assert (values.shape, indices.shape, scales.shape, totals.shape) == ((4, 6, 64), (4, 6, 64), (4, 16), (4, 16))
    for row, block, slot in ((0, 0, 0), (5, 1, 5), (17, 2, 2), (39, 1, 7)):
        place = row // 16, block * 2 + slot // 4, 4 * (row % 16) + slot % 4
        step_of_row = np.abs(encoded.values[row]).max() / 127
        assert values[place] == np.rint(encoded.values[row, block, slot] / step_of_row)
        assert indices[place] == encoded.indices[row, block, slot]
    assert totals[1, 0] == values[1, :, :4].astype(int).sum()


@pytest.mark.parametrize(
    ("pattern", "stored"),
    [("2:16", "2:16"), ("4:16", "4:16"), ("2:32", "4:64"), ("4:32", "8:64"), ("8:64", "8:64"), ("20:64", "24:64")],
)
def test_blocks_longer_than_sixteen_are_stored_in_wide_windows(pattern, stored, rng):
    weight = reference.balanced(64, 768, P(pattern), rng)
    assert KERNEL.fit(detect(weight)) == P(stored)


def test_bytes_a_nonzero_are_one_and_a_half(rng):
    weight = reference.balanced(64, 256, P("2:16"), rng)
    of_rows = 64 * 8
    assert sum(a.nbytes for a in KERNEL.pack(encode(weight, P("2:16")))) == np.count_nonzero(weight) * 1.5 + of_rows


def test_refuses_what_it_cannot_compute():
    assert "VNNI" in KERNEL.refuses(tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512"}), 64, 64, "float32")
    assert KERNEL.refuses(tvm.target.Target({"kind": "llvm", "mcpu": "znver4"}), 64, 64, "float32") is None
    assert "K = 15" in KERNEL.refuses(tvm.target.Target({"kind": "llvm", "mcpu": "znver4"}), 64, 15, "float32")
