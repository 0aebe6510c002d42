import re

import numpy as np
import pytest
import tvm
from support import eight_bits, reference

from tvm_balanced.compiler.build import build
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.layer_plan import DenseLayer
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_features, host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.selection.rooflines import roofline_of

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_avx2_i8"]
CASES = [("x86-64-v3", 1), ("x86-64-v3", 9), ("x86-64-v3", None), ("alderlake", 5), ("cascadelake", 2)]
PRODUCTS = ("vpshufb", "vpsignb", "vpmaddubsw", "vpmaddwd", "vpabsb")
TAKEN = [("x86-64-v3", "cpu_avx2_i8"), ("znver4", "cpu_avx512_i8"), ("cascadelake", "cpu_avx2_i8")]
PATTERNS = ["1:16", "2:16", "3:16", "4:16", "6:16", "8:16", "12:16"]
NEEDS = {"x86-64-v3": "avx2", "alderlake": "avxvnni", "cascadelake": "avx512vnni"}  # each with another dot product


def target(cpu):
    return tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": cpu, "num-cores": 1})


AVX2 = target("x86-64-v3")


def needs(cpu):
    if NEEDS[cpu] not in host_features():
        pytest.skip(f"this CPU has no {NEEDS[cpu]}")


def innermost_loop(cpu, m, pattern, what):
    """The instructions of the shortest loop that has `what`."""
    workload = Workload("cpu_avx2_i8", m, 3072, 768, P(pattern).nnz, 16)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, target(cpu)).with_attr("global_symbol", "main")
    lines = build(function, target(cpu)).mod.inspect_source("asm").splitlines()
    labels = {line.split(":")[0]: at for at, line in enumerate(lines) if line.startswith(".L")}
    jumps = [(labels.get(jump[1], at), at) for at, line in enumerate(lines) if (jump := re.match(r"\tj\w+\t(\.L\w+)", line))]
    loops = [lines[first:last] for first, last in jumps if first < last]
    return min((loop for loop in loops if any(what in line for line in loop)), key=len)


@pytest.mark.avx2
@pytest.mark.grid
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("cpu", "m"), CASES)
def test_sums_are_those_of_integers_bit_for_bit(cpu, m, pattern, rng):
    needs(cpu)
    weight = reference.balanced(40, 100, P(pattern), rng)
    weight[3] = 0  # a row without a scale
    run = reference.compile_kernel("cpu_avx2_i8", weight, P(pattern), m=m, target=target(cpu))
    for count in (m,) if m else (1, 2, 3, 7):
        x = eight_bits.on_steps(count, 100, rng)
        np.testing.assert_array_equal(run(x), eight_bits.dense(x, weight))
        x = rng.standard_normal((count, 100)).astype(np.float32)
        x[0] *= 1000
        x[-1] = np.abs(x[-1])
        assert (np.abs(run(x) - reference.dense(x, weight)) <= eight_bits.allowed_error(x, weight)).all()


@pytest.mark.avx2
def test_the_largest_sums_fit(rng):
    """vpmaddubsw would saturate at 2 * 254 * 127, and a byte of 255 would be -128 when it is moved."""
    needs("x86-64-v3")
    weight = np.zeros((16, 64), np.float32)
    weight[:, ::4] = np.where(np.arange(16)[:, None] % 2, -1.0, 1.0)
    run = reference.compile_kernel("cpu_avx2_i8", weight, P("4:16"), m=4, target=AVX2)
    x = np.full((4, 64), 3.0, np.float32)
    x[1] *= -1
    x[2, ::8] = -3.0
    x[3] = 253.5  # `zero` is half a step off
    x[3, 1] = -0.5
    np.testing.assert_array_equal(run(x), eight_bits.dense(x, weight))
    np.testing.assert_allclose(run(x), reference.dense(x, weight), rtol=5e-3)


@pytest.mark.avx2
@pytest.mark.grid
@pytest.mark.parametrize(("n", "k"), [(16, 16), (33, 64), (100, 1000), (1, 48)])
def test_ragged_shapes_with_epilogue(n, k, rng):
    needs("x86-64-v3")
    weight, bias = reference.balanced(n, k, P("2:16"), rng), rng.standard_normal(n).astype(np.float32)
    x, residual = rng.standard_normal((5, k)).astype(np.float32), rng.standard_normal((5, n)).astype(np.float32)
    run = reference.compile_kernel("cpu_avx2_i8", weight, P("2:16"), bias, 5, "gelu", target=AVX2, residual=True)
    sums = eight_bits.dense(x, weight).astype(np.float64) + bias + residual
    assert np.abs(run(x, residual) - reference.ACTIVATIONS["gelu"](sums)).max() < 1e-4 * np.abs(sums).max()


@pytest.mark.avx2
def test_bits_do_not_depend_on_threads(rng):
    needs("x86-64-v3")
    two = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3", "num-cores": 2})
    weight, x = reference.balanced(256, 512, P("4:16"), rng), rng.standard_normal((70, 512)).astype(np.float32)
    run, given = reference.compile_kernel("cpu_avx2_i8", weight, P("4:16"), m=70, target=two), []
    for threads in (1, 2):
        use_threads(threads)
        given.append(run(x))
    np.testing.assert_array_equal(*given)


@pytest.mark.parametrize(("m", "pattern", "shuffles"), [(1, "2:16", 2), (64, "2:16", 2), (64, "4:16", 1)])
def test_inner_loop_is_shuffles_and_products_without_spills(m, pattern, shuffles):
    loop = innermost_loop("x86-64-v3", m, pattern, "vpmaddubsw")
    found = {name: sum(f"\t{name}\t" in line for line in loop) for name in PRODUCTS}
    assert found["vpshufb"] == shuffles * found["vpmaddubsw"] > 0
    assert found["vpsignb"] == found["vpmaddwd"] == found["vpmaddubsw"]
    assert found["vpabsb"] * min(m, 4) == found["vpmaddubsw"]  # rows of x share what is made of the values
    assert sum(bool(re.search(r"v\w+\t%ymm\d+, .*%rsp", line)) for line in loop) <= 1


def test_avx_vnni_by_assembly():
    loop = innermost_loop("alderlake", 64, "4:16", "vpdpbusd")
    products = sum("{vex}" in line and "vpdpbusd" in line for line in loop)
    assert products == sum("vpshufb" in line for line in loop) > 0
    assert not any("vpmadd" in line or "vpsign" in line for line in loop)


def test_layout_is_the_documented_one(rng):
    encoded = encode(reference.balanced(32, 128, P("3:16"), rng), P("3:16"))
    values, indices, scales, totals = KERNEL.pack(encoded)
    assert (values.shape, indices.shape, scales.shape, totals.shape) == ((2, 6, 64), (2, 3, 64), (2, 16), (2, 16))
    for row, block, slot in ((0, 0, 0), (5, 3, 1), (17, 7, 0), (31, 4, 2)):
        group, lane, step, byte = row // 16, row % 16, (block * 3 + slot) // 4, (block * 3 + slot) % 4
        step_of_row = np.abs(encoded.values[row]).max() / 127
        assert values[group, step, 4 * lane + byte] == np.rint(encoded.values[row, block, slot] / step_of_row)
        assert indices[group, step // 2, 4 * lane + byte] >> 4 * (step % 2) & 15 == encoded.indices[row, block, slot]
    assert totals[1, 0] == values[1, :, :4].astype(int).sum()


def test_bytes_a_nonzero_are_one_and_a_half(rng):
    weight = reference.balanced(64, 256, P("2:16"), rng)
    assert sum(a.nbytes for a in KERNEL.pack(encode(weight, P("2:16")))) == np.count_nonzero(weight) * 1.5 + 64 * 8


@pytest.mark.parametrize(("cpu", "kernel"), TAKEN)
def test_the_verdict_takes_it_where_8_bits_are_allowed(cpu, kernel, rng):
    layer = DenseLayer("fc", 64, 768, 768, "float32", detect(reference.balanced(768, 768, P("4:16"), rng)))
    selector = KernelSelector(target(cpu), roofline_of(target(cpu)), precision=lambda _layer: "int8")
    assert selector(layer)[0].kernel == kernel
    assert "int8" not in KERNELS[KernelSelector(target(cpu), roofline_of(target(cpu)))(layer)[0].kernel].precision


def test_refuses_what_it_cannot_compute():
    assert "AVX2" in KERNEL.refuses(target("x86-64-v2"), 64, 64, "float32")
    assert "AVX2" in KERNEL.refuses(tvm.target.Target({"kind": "cuda", "arch": "sm_90"}), 64, 64, "float32")
    assert "float16" in KERNEL.refuses(AVX2, 64, 64, "float16")
    assert "K = 15" in KERNEL.refuses(AVX2, 64, 15, "float32")
    assert "65536" in KERNEL.refuses(AVX2, 64, 65537, "float32")
    assert KERNEL.refuses(host_target(), 1, 16, "float32") is None or "avx2" not in host_features()


def test_a_step_of_several_blocks_is_modelled_longer():
    machine = roofline_of(target("x86-64-v3"), 1)

    def seconds(nnz):
        return KERNEL.seconds(Workload(KERNEL.name, 128, 768, 3072, nnz, 16), 128, machine) / nnz

    assert seconds(4) == pytest.approx(seconds(8)) == pytest.approx(seconds(12))
    assert seconds(4) < 0.9 * seconds(6) < 0.9 * 0.9 * seconds(2)
    assert seconds(2) == pytest.approx(seconds(3))
