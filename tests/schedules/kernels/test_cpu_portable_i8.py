import numpy as np
import pytest
import tvm
from support import eight_bits, reference

from tvm_balanced.compiler.build import build
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.kernels.cpu_portable import k_tiles
from tvm_balanced.schedules.kernels.cpu_portable_i8 import MOST_SLOTS

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_portable_i8"]
CASES = [("1:16", 40, 100), ("3:8", 33, 1000), ("5:32", 17, 300), ("1:2", 17, 600), ("7:200", 20, 700), ("250:256", 1, 2000)]


def target(cpu):
    return tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": cpu, "num-cores": 1})


@pytest.mark.avx2
@pytest.mark.grid
@pytest.mark.parametrize(("pattern", "n", "k"), CASES)
@pytest.mark.parametrize(("cpu", "m"), [("x86-64-v3", 1), ("x86-64-v3", None), ("x86-64", 9)])
def test_sums_are_those_of_integers_bit_for_bit(cpu, m, pattern, n, k, rng):
    weight = reference.balanced(n, k, P(pattern), rng)
    weight[-1] = 0  # a row without a scale
    run = reference.compile_kernel("cpu_portable_i8", weight, P(pattern), m=m, target=target(cpu))
    for count in (m,) if m else (1, 3, 70):
        x = eight_bits.on_steps(count, k, rng)
        np.testing.assert_array_equal(run(x), eight_bits.dense(x, weight))
        x = rng.standard_normal((count, k)).astype(np.float32)
        x[0] *= 1000
        assert (np.abs(run(x) - reference.dense(x, weight)) <= eight_bits.allowed_error(x, weight)).all()


def test_the_largest_sums_are_exact(rng):
    """2048 products, nearly all at their largest: no float32 holds their sum exactly, but those of tiles."""
    weight = np.ones((16, 2048), np.float32)
    weight[:, -1] = 1 / 127
    x = np.full((1, 2048), 254.0, np.float32)
    x[0, 1] = 1.0
    run = reference.compile_kernel("cpu_portable_i8", weight, P("256:256"), m=1)
    np.testing.assert_array_equal(run(x), eight_bits.dense(x, weight))


@pytest.mark.parametrize("block", [2, 3, 7, 16, 100, 128, 255, 256])
def test_no_tile_has_more_slots_than_are_exact(block):
    for k in (block, 700, 4096, 65536):
        _, blocks = k_tiles(BalancedPattern(block, block), k)
        assert blocks * block <= MOST_SLOTS


def test_epilogue(rng):
    weight, bias = reference.balanced(33, 100, P("2:8"), rng), rng.standard_normal(33).astype(np.float32)
    x, residual = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 100), (5, 33)))
    run = reference.compile_kernel("cpu_portable_i8", weight, P("2:8"), bias, 5, "gelu", residual=True)
    sums = eight_bits.dense(x, weight).astype(np.float64) + bias + residual
    assert np.abs(run(x, residual) - reference.ACTIVATIONS["gelu"](sums)).max() < 1e-4 * np.abs(sums).max()


def test_inner_loop_is_multiply_adds_without_stores():
    workload, cpu = Workload("cpu_portable_i8", 64, 768, 768, 4, 16), target("x86-64-v3")
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, cpu).with_attr("global_symbol", "main")
    loop = reference.innermost_loop(build(function, cpu).mod.inspect_source("asm").splitlines())
    products = sum("vfmadd" in line for line in loop)
    assert products % 8 == 0 < products
    assert sum("vcvt" in line for line in loop) * 8 <= products  # a value is converted once for eight vectors of x
    assert not any("\tvmov" in line and "ymm" in line for line in loop)


def test_bytes_a_slot_are_two(rng):
    values, indices, scales = KERNEL.pack(encode(reference.balanced(64, 256, P("2:16"), rng), P("2:16")))
    assert values.nbytes == indices.nbytes == 64 * 256 * 2 // 16
    assert scales.shape == (4, 16)


def test_refuses_what_it_cannot_compute():
    assert "65536" in KERNEL.refuses(target("x86-64"), 64, 65537, "float32")
    assert "float16" in KERNEL.refuses(target("x86-64"), 64, 64, "float16")
    assert "not a CPU" in KERNEL.refuses(tvm.target.Target({"kind": "cuda", "arch": "sm_90"}), 64, 64, "float32")
    assert KERNEL.refuses(target("x86-64"), 1, 1, "float32") is None
