import numpy as np
import pytest
from support import reference

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.layer_plan import DenseLayer
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.selection.rooflines import roofline_of

KERNEL = KERNELS["cuda_gemv_w8"]
H200 = cuda_target("h200")
P = BalancedPattern.parse


def rounded(weight):
    """A weight as the kernel stores it, and its scales, by Python's arithmetic."""
    largest = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
    fraction, exponent = np.frexp(largest)
    scale = np.ldexp(np.ceil(fraction.astype(np.float64) * 256) / 256, exponent)
    return np.rint(weight / np.where(scale > 0, scale, 1)) * scale, scale


def run(m, n, k, pattern, rng, dtype="float32", **options):
    weight, bias = reference.balanced(n, k, P(pattern), rng), rng.standard_normal(n).astype(np.float32)
    weight[3] = 0  # a row without a scale
    weight[5] *= 1e-20
    weight = reference.rounded(weight, dtype)
    x = rng.standard_normal((m, k)).astype(np.float32)
    workload = Workload("cuda_gemv_w8", m, n, k, P(pattern).nnz, P(pattern).block, dtype, **options)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x, bias))
    exact = reference.rounded(x, dtype), rounded(weight)[0], reference.rounded(bias, dtype)
    return reference.relative_error(got, reference.dense(*exact, workload.activation))


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize("pattern", ["1:16", "3:16", "8:16", "4:32", "3:64"])
@pytest.mark.parametrize("m", [1, 4, 9])
def test_computes_with_the_rounded_weight(pattern, m, rng):
    assert run(m, 40, 300, pattern, rng, activation="relu") < 1e-6


@pytest.mark.pocl
def test_bfloat16_with_sums_in_float32(rng):
    assert run(2, 64, 1024, "2:16", rng, "bfloat16") < 4e-3  # y itself is rounded to 8 bits


@pytest.mark.pocl
def test_values_are_exact_and_do_not_overflow(rng):
    """Products of a value and 2^126, where 127 times it would be infinite."""
    weight = reference.balanced(32, 64, P("2:16"), rng)
    x = np.eye(8, 64, dtype=np.float32) * np.float32(2.0**126)
    workload = Workload("cuda_gemv_w8", 8, 32, 64, 2, 16)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x))
    assert (got == rounded(weight)[0].T[:8].astype(np.float32) * np.float32(2.0**126)).all()


def test_layout_is_the_documented_one(rng):
    weight = reference.balanced(64, 256, P("2:16"), rng)
    encoded = encode(weight, P("2:16"))
    values, positions, scales = KERNEL.pack(encoded)
    assert (values.shape, values.dtype, positions.shape, scales.shape) == ((2, 4, 32, 2), np.uint32, (2, 4, 32), (2, 32))
    _, scale = rounded(weight)
    assert (scales.reshape(-1, 1) == scale).all()
    for row, slot in ((0, 0), (5, 3), (33, 7), (63, 31)):
        stored = int(values[row // 32, slot // 8, row % 32, slot % 8 // 4]) >> slot % 4 * 8 & 255
        assert stored - 128 == np.rint(encoded.values[row, slot // 2, slot % 2] / scale[row, 0])


@pytest.mark.parametrize(("pattern", "expected"), [("2:16", 1.5), ("8:16", 1.25), ("4:32", 2.0)])
def test_bytes_a_nonzero(pattern, expected, rng):
    values, positions, scales = KERNEL.pack(encode(reference.balanced(64, 1024, P(pattern), rng), P(pattern)))
    assert (values.nbytes + positions.nbytes) / (64 * 1024 * P(pattern).nnz / P(pattern).block) == expected
    assert scales.nbytes == 64 * 4


@pytest.mark.parametrize("dtype", KERNEL.dtypes)
def test_fewer_bytes_are_modelled_as_less_time(dtype):
    machine = roofline_of(H200)
    exact, eight = (
        kernel.seconds(Workload(kernel.name, 1, 28672, 8192, 2, 16, dtype), 1, machine)
        for kernel in (KERNELS["cuda_gemv"], KERNEL)
    )
    assert 0.3 * exact < eight < exact


@pytest.mark.slow
@pytest.mark.nvcc
@pytest.mark.grid
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(("m", "nnz", "registers"), [(1, 2, 48), (1, 8, 56), (4, 2, 64)])
def test_machine_code(m, nnz, registers, arch):
    workload = Workload("cuda_gemv_w8", m, 28672, 8192, nnz, 16, "float16")
    source = cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), arch)
    found, text = nvcc.resources_and_ptx(source, arch)
    (used,) = found.values()
    assert (used.spilled, used.stack) == (0, 0)
    assert used.registers <= registers
    assert "ld.global.nc.v2" in text
    assert "cvt.rn.f32.s" not in text  # a conversion takes as long as two other instructions
    assert text.count("prmt.b32") >= 8


def test_refuses_what_it_cannot_compute():
    assert "not a GPU" in KERNEL.refuses(H200.host, 64, 64, "float16")
    assert KERNEL.refuses(H200, 64, 64, "float16") is None


def test_taken_where_8_bits_are_allowed():
    layer = DenseLayer("layer", 1, 8192, 8192, "float16", Detection((8192, 8192), 8192 * 8192 // 8, {16: 2}))
    chosen = [
        KernelSelector(H200, roofline_of(H200), precision=lambda _, allowed=allowed: allowed)(layer)
        for allowed in ("float32", "int8")
    ]
    assert [[bucket.kernel for bucket in buckets] for buckets in chosen] == [["cuda_gemv"], ["cuda_gemv_w8"]]
