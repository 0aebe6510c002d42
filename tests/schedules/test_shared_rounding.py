"""The rounding of x apart from a kernel: NumPy's numbers, and with the rest of the kernel the bits of the whole."""

from dataclasses import replace

import numpy as np
import pytest
import tvm
import tvm_ffi
from support import eight_bits

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS, Workload, shared_rounding
from tvm_balanced.schedules.base.rounding import split_rounding
from tvm_balanced.testing.operands import draw

HERE = [name for name, k in KERNELS.items() if name.endswith("_i8") and k.refuses(host_target(), 64, 64, "float32") is None]


def workload(name, m=6, **more):
    return Workload(name, m, 24, 100, *((1, 1) if KERNELS[name] in DENSE_KERNELS else (3, 16)), **more)


def called(func, *arrays, outputs):
    made = [tvm.runtime.tensor(np.zeros(shape, dtype)) for shape, dtype in outputs]
    main = build(func.with_attr("global_symbol", "main"), host_target())["main"]
    main(*(tvm.runtime.tensor(array) for array in arrays), *made)
    return [tensor.numpy() for tensor in made]


def shapes(func):
    return [([int(dim) for dim in param.shape], str(param.dtype)) for param in func.params[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_both_parts_give_the_bits_of_the_whole(name, rng):
    of, kernel = workload(name, residual=True, activation="relu"), KERNELS[name]
    x, *rest = draw(of).given
    x[2] *= 1000
    rounding = shared_rounding.prim_func(of)
    rows = called(shared_rounding.schedule(rounding, of, host_target()), x, outputs=shapes(rounding))
    parts = [kernel.schedule(kernel.prim_func(one), one, host_target()) for one in (of, replace(of, rounded=True))]
    result = [((6, 24), "float32")]
    (want,), (got,) = called(parts[0], x, *rest, outputs=result), called(parts[1], *rows, *rest, outputs=result)
    np.testing.assert_array_equal(got, want)


@pytest.mark.skipif("cpu_avx512_i8" not in HERE, reason="this CPU has no AVX-512 VBMI and VNNI")
def test_rows_are_numpys(rng):
    of = workload("cpu_avx512_i8")
    x = eight_bits.on_steps(6, 100, rng)
    x[4] = 0
    rounding = shared_rounding.prim_func(of)
    values, step, zero = called(shared_rounding.schedule(rounding, of, host_target()), x, outputs=shapes(rounding))
    want, steps, zeros = eight_bits.rounded_rows(x)
    np.testing.assert_array_equal(values[:, :100], want)
    np.testing.assert_array_equal(values[:, 100:], np.broadcast_to(zeros, (6, values.shape[1] - 100)))
    np.testing.assert_array_equal(step[:, None], steps)
    np.testing.assert_array_equal(zero[:, None], zeros)


@pytest.mark.skipif("cpu_avx512_i8" not in HERE, reason="this CPU has no AVX-512 VBMI and VNNI")
def test_ends_that_are_half_a_step_off_do_not_leave_the_byte(rng):
    """A smallest value that was rounded to -1 would be 255."""
    m = 254 * 64
    of = workload("cpu_avx512_i8", m=m)
    x = rng.uniform(-0.4, 1, (m, 100)).astype(np.float32)
    x[:, 0] = -(np.arange(m) % 254 + 0.5)
    x[:, 1] = 254 + x[:, 0]
    moved = x[:, :2].view(np.int32)
    moved += rng.integers(-3, 4, moved.shape, dtype=np.int32)  # by a few of the last bits
    rounding = shared_rounding.prim_func(of)
    values, _, zero = called(shared_rounding.schedule(rounding, of, host_target()), x, outputs=shapes(rounding))
    assert values[:, 0].max() == 0
    assert values[:, 1].min() >= 253
    np.testing.assert_array_equal(np.abs(zero + x[:, 0]) < 0.51, True)


def test_kernels_that_round_alike_have_equal_functions():
    pairs = workload("cpu_dense_i8"), replace(workload("cpu_dense_i8"), n=48), workload("cpu_portable_i8")
    hashes = [tvm_ffi.structural_hash(shared_rounding.prim_func(of)) for of in pairs]
    assert hashes[0] == hashes[1] != hashes[2]


def test_other_kernels_have_no_such_part():
    assert shared_rounding.prim_func(workload("cpu_dense")) is None
    assert split_rounding(KERNELS["cpu_avx512_w8"].prim_func(workload("cpu_avx512_w8"))) is None


def test_the_title_says_so():
    assert workload("cpu_dense_i8", rounded=True).title.endswith("of rounded x")
    assert Workload.from_attr(workload("cpu_dense_i8", rounded=True).to_attr()).rounded
    assert "rounded" not in workload("cpu_dense_i8").to_attr()
