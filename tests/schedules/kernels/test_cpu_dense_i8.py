import numpy as np
import pytest
import tvm
from support import eight_bits, reference

from tvm_balanced.compiler.build import build
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_features, host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import KERNELS, Workload

KERNEL = KERNELS["cpu_dense_i8"]
CPUS = {"here": None, "avx2": "x86-64-v3", "sse": "x86-64"}  # each with another dot product
VNNI = pytest.mark.skipif("avx512vnni" not in host_features(), reason="this CPU has no AVX-512 VNNI")


def target(cpu):
    return host_target() if cpu is None else tvm.target.Target({"kind": "llvm", "mcpu": cpu, "num-cores": 2})


def needs(cpu):
    if cpu == "x86-64-v3" and "avx2" not in host_features():
        pytest.skip("this CPU has no AVX2")


@pytest.mark.grid
@pytest.mark.parametrize("cpu", CPUS.values(), ids=CPUS)
@pytest.mark.parametrize(("n", "k", "m"), [(40, 100, 1), (33, 64, 9), (1, 1, 3), (48, 272, None)])
def test_sums_are_those_of_integers_bit_for_bit(cpu, n, k, m, rng):
    needs(cpu)
    weight = rng.standard_normal((n, k)).astype(np.float32)
    weight[-1] = 0  # a row without a scale
    run = reference.compile_kernel("cpu_dense_i8", weight, None, m=m, target=target(cpu))
    for count in (m,) if m else (1, 2, 3, 8, 13, 40):
        x = eight_bits.on_steps(count, k, rng)
        np.testing.assert_array_equal(run(x), eight_bits.dense(x, weight))
        x = rng.standard_normal((count, k)).astype(np.float32)
        assert (np.abs(run(x) - reference.dense(x, weight)) <= eight_bits.allowed_error(x, weight)).all()


def test_the_largest_sums_fit(rng):
    """vpmaddubsw would saturate at 2 * 255 * 127."""
    weight = np.full((16, 64), -1.0, np.float32)
    x = np.full((2, 64), 3.0, np.float32)
    x[1] *= -1
    for cpu in CPUS.values():
        needs(cpu)
        run = reference.compile_kernel("cpu_dense_i8", weight, None, m=2, target=target(cpu))
        np.testing.assert_allclose(run(x), reference.dense(x, weight), rtol=5e-3)


def test_epilogue(rng):
    weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((33, 100), 33))
    x, residual = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 100), (5, 33)))
    run = reference.compile_kernel("cpu_dense_i8", weight, None, bias, 5, "gelu", residual=True)
    sums = eight_bits.dense(x, weight).astype(np.float64) + bias + residual
    assert np.abs(run(x, residual) - reference.ACTIVATIONS["gelu"](sums)).max() < 1e-4 * np.abs(sums).max()


@pytest.mark.parametrize("name", ["cpu_dense_i8", "cpu_avx512_i8"])
def test_bits_do_not_depend_on_threads(name, rng):
    if KERNELS[name].refuses(host_target(), 64, 64, "float32"):
        pytest.skip(f"this CPU cannot run {name}")
    pattern = None if name == "cpu_dense_i8" else BalancedPattern.parse("4:16")
    weight = rng.standard_normal((256, 512)).astype(np.float32) if pattern is None else reference.balanced(256, 512, pattern, rng)
    run, x = reference.compile_kernel(name, weight, pattern, m=70), rng.standard_normal((70, 512)).astype(np.float32)
    given = []
    for threads in (1, 2):
        use_threads(threads)
        given.append(run(x))
    np.testing.assert_array_equal(*given)


@VNNI
def test_inner_loop_is_dot_products():
    workload = Workload("cpu_dense_i8", 64, 3072, 768, 1, 1)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    lines = build(function, host_target()).mod.inspect_source("asm").splitlines()
    assert sum("vpdpbusd" in line for line in lines) == 4 * 16  # four steps of 16 sums
    assert not any("vpmaddwd" in line or "gather" in line for line in lines)  # rounding is vectors, too


def test_avx_vnni_by_assembly():
    """Zen 4 has it not; what LLVM writes for a CPU that does."""
    workload, cpu = Workload("cpu_dense_i8", 64, 256, 256, 1, 1), target("alderlake")
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, cpu).with_attr("global_symbol", "main")
    lines = build(function, cpu).mod.inspect_source("asm").splitlines()
    assert any("{vex}" in line and "vpdpbusd" in line for line in lines)


def test_layout_is_the_documented_one(rng):
    weight = rng.standard_normal((32, 30)).astype(np.float32)
    values, scales, totals = KERNEL.pack(weight)
    assert (values.shape, scales.shape, totals.shape) == ((2, 8, 64), (2, 16), (2, 16))
    numbers, steps = eight_bits.rounded_weight(weight)
    for row, column in ((0, 0), (5, 3), (17, 29), (31, 12)):
        assert values[row // 16, column // 4, row % 16 * 4 + column % 4] == numbers[row, column]
        assert scales[row // 16, row % 16] == steps[row]
        assert totals[row // 16, row % 16] == numbers[row].sum()
    assert not values[:, 7, 2::4].any()  # past the last column


def test_refuses_what_it_cannot_compute():
    assert "float64" in KERNEL.refuses(host_target(), 64, 64, "float64")
    assert "no VNNI" in KERNEL.refuses(target("skylake-avx512"), 64, 64, "float32")
    assert "65536" in KERNEL.refuses(host_target(), 64, 65537, "float32")
    assert "not a CPU" in KERNEL.refuses(tvm.target.Target({"kind": "cuda", "arch": "sm_90"}), 64, 64, "float32")
