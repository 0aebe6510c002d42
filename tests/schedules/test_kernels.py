"""Properties of every kernel that computes a dense layer: correct for random shapes, patterns and epilogues."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import reference
from support.sample import examples, sample

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS, SPARSE_KERNELS, Workload
from tvm_balanced.schedules.tir.activations import ACTIVATIONS

# (kernel, dtype) that can run on this machine
HERE = [
    (name, dtype)
    for name, kernel in KERNELS.items()
    for dtype in kernel.dtypes
    if kernel.refuses(host_target(), 64, 64, dtype) is None
]
# By day each kernel and each dtype; random layers and the kernels' own tests have other pairs of them.
OF_DAY = [HERE[place] for place in sample([{"kernel": name, "dtype": dtype} for name, dtype in HERE])]
COMPILED = [pytest.param(*case, marks=[pytest.mark.nightly] * (case not in OF_DAY)) for case in HERE]
SPARSE = sorted({name for name, _ in HERE} & {kernel.name for kernel in SPARSE_KERNELS})
ERROR = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}  # relative to the largest result; y is rounded to half precision
STORED = ERROR | {"float32": 0.0}  # the part of it beyond reference.allowed_error
P = BalancedPattern.parse


def allowed(name, dtype):
    return max(ERROR[dtype], KERNELS[name].tolerance or 0)


@pytest.mark.slow
@settings(max_examples=examples(40))
@given(
    here=st.sampled_from(HERE),
    n=st.integers(1, 150),
    k=st.integers(32, 200),
    m=st.integers(1, 35),
    nnz=st.sampled_from([1, 2, 3, 4, 6, 8, 12]),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    has_bias=st.booleans(),
    has_residual=st.booleans(),
    seed=st.integers(0, 9),
)
@example(("cpu_portable", "float32"), 1, 16, 1, 1, "none", False, False, 0)
@example(("cpu_dense", "float32"), 1, 1, 1, 1, "none", True, True, 0)
@example(("cpu_avx512", "bfloat16"), 1, 32, 1, 1, "gelu", False, False, 0)
@example(("cpu_avx512", "bfloat16"), 20, 32, 2, 1, "gelu", True, True, 0)
@example(("cpu_avx512_bf16", "bfloat16"), 20, 32, 2, 2, "gelu", True, True, 0)
def test_random_layers(here, n, k, m, nnz, activation, has_bias, has_residual, seed):
    if here not in HERE:  # an explicit example of a kernel that this CPU cannot run
        return
    (name, dtype), rng = here, np.random.default_rng(seed)
    weight = reference.rounded(reference.balanced(n, k, P(f"{nnz}:16"), rng), dtype)
    bias = rng.standard_normal(n).astype(np.float32) if has_bias else None
    x = rng.standard_normal((m, k)).astype(np.float32)
    residual = [rng.standard_normal((m, n)).astype(np.float32)] if has_residual else []
    run = reference.compile_kernel(name, weight, P(f"{nnz}:16"), bias, m, activation, residual=has_residual, dtype=dtype)
    exact = [reference.rounded(a, dtype) for a in (x, bias, *residual)]
    want = reference.dense(exact[0], weight, exact[1], activation, *exact[2:])
    of_the_sum = reference.allowed_error(exact[0], weight, exact[1], activation, *exact[2:])
    of_storage = max(STORED[dtype], KERNELS[name].tolerance or 0) * np.abs(want).max()
    assert (np.abs(run(x, *residual) - want) <= of_the_sum + of_storage).all()


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize(("name", "dtype"), COMPILED)
def test_one_function_serves_any_number_of_rows(name, dtype, rng):
    weight = reference.rounded(reference.balanced(72, 100, P("3:16"), rng), dtype)
    bias = reference.rounded(rng.standard_normal(72).astype(np.float32), dtype)
    run = reference.compile_kernel(name, weight, P("3:16"), bias, None, "gelu", dtype=dtype)
    for m in (1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 100):
        x = reference.rounded(rng.standard_normal((m, 100)).astype(np.float32), dtype)
        assert reference.relative_error(run(x), reference.dense(x, weight, bias, "gelu")) < allowed(name, dtype), m


@pytest.mark.grid
@pytest.mark.parametrize(("name", "dtype"), COMPILED)
@pytest.mark.parametrize("n", [1, 17, 33])
def test_a_lane_alone_is_stored_alone(name, dtype, n, rng):
    """In bfloat16 LLVM would store four bytes, and overwrite the first result of the next row of x with 0."""
    weight = reference.rounded(reference.balanced(n, 64, P("4:16"), rng), dtype)
    x, residual = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 64), (5, n)))
    run = reference.compile_kernel(name, weight, P("4:16"), None, 5, residual=True, dtype=dtype)
    want = reference.dense(reference.rounded(x, dtype), weight, None, "none", reference.rounded(residual, dtype))
    assert np.abs(run(x, residual) - want).max() < allowed(name, dtype) * np.abs(want).max()


@pytest.mark.parametrize(("name", "dtype"), HERE)
def test_packed_layout_does_not_depend_on_rows(name, dtype, rng):
    """A tuning log, and one copy of the weights, must serve every M."""
    kernel = KERNELS[name]
    shapes = []
    for m in (1, 64, None):
        function = kernel.prim_func(Workload(name, m, 64, 64, *((1, 1) if kernel in DENSE_KERNELS else (2, 16)), dtype))
        shapes.append([[int(d) for d in p.ty.shape] for p in function.params[1:-1]])
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("name", sorted({name for name, _ in HERE}))
def test_parts_name_what_pack_returns(name, rng):
    kernel = KERNELS[name]
    weight = reference.balanced(32, 64, P("2:16"), rng)
    packed = kernel.pack(weight) if kernel in DENSE_KERNELS else kernel.pack(reference.encode(weight, P("2:16")))
    assert len(kernel.parts) == len(packed)


@pytest.mark.parametrize("name", SPARSE)
def test_times_are_modelled_longer_for_more_work(name):
    from tvm_balanced.selection.rooflines import roofline_of

    machine = roofline_of(host_target())

    def seconds(m, nnz):
        return KERNELS[name].seconds(Workload(name, m, 512, 512, nnz, 16), m, machine)

    assert 0 < seconds(64, 2) < seconds(64, 4)
    assert seconds(16, 2) < seconds(256, 2)


def test_workload_travels_with_its_function():
    workload = Workload("cpu_portable", 4, 32, 64, 2, 16, activation="relu")
    assert Workload.of(KERNELS["cpu_portable"].prim_func(workload)) == workload
