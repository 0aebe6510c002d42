import numpy as np
import pytest
import tvm_ffi
from hypothesis import given
from hypothesis import strategies as st
from support import reference

from tvm_balanced.bench.kernel import KernelBenchmark
from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.detection import Detection, detect
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import PatternError, TargetError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import SPARSE_KERNELS, Workload
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.selection.kernel_choice import DenseLayer, KernelSelector
from tvm_balanced.testing.operands import random_weight

P = BalancedPattern.parse


@given(st.integers(1, 40), st.integers(1, 120), st.data())
def test_random_weight_is_valid_and_full(n, k, data):
    block = data.draw(st.integers(1, 40))
    pattern = BalancedPattern(data.draw(st.integers(1, block)), block)
    if pattern.block > k:
        return
    weight = random_weight(n, k, pattern, np.random.default_rng(0))
    weight.validate()
    kept = (pattern.blocks(k) - 1) * pattern.nnz + pattern.kept(pattern.tail(k))
    assert (np.count_nonzero(weight.decode(), axis=1) == kept).all()


def benchmark(**changes):
    settings = {"n": 64, "k": 512, "m": 8, "pattern": P("2:16"), "threads": 1, "regime": "hot", "rounds": 5}
    return KernelBenchmark(**settings | changes)


@pytest.mark.slow
@pytest.mark.avx512
@pytest.mark.xdist_group("reference")  # it is built once
@pytest.mark.parametrize("threads", [1, 2])
def test_the_reference_is_a_rival_in_a_clone(threads):
    rows = {row.name: row for row in benchmark(threads=threads).run()}
    assert set(rows) == {"balanced", "onednn", "eager", "csr", "reference"}
    assert all(row.microseconds > 0 for row in rows.values())


def test_patterns_that_the_reference_does_not_take():
    assert {row.name for row in benchmark(pattern=P("5:20"), k=100).run()} == {"balanced", "onednn", "eager", "csr"}


def test_a_kernel_can_be_chosen():
    for name in ("cpu_portable", "cpu_dense"):
        assert benchmark(kernel=name).run()[0].name == "balanced"
    with pytest.raises(TargetError, match="unknown"):
        benchmark(kernel="magic").run()
    if SPARSE_KERNELS[0].refuses(host_target(), 64, 64, "float32") is None:
        with pytest.raises(PatternError):
            benchmark(kernel="cpu_avx512", pattern=P("16:16")).run()


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.avx512)])
def test_the_kernel_is_that_of_a_compiled_model(dtype):
    plain = benchmark(n=768, k=768, dtype=dtype)
    layer = DenseLayer("", plain.m, plain.n, plain.k, dtype, Detection((plain.n, plain.k), 1, {16: 2}))
    assert plain._kernel().name == KernelSelector.of(host_target(), plain.threads)(layer)[0].kernel


def test_a_dtype_that_no_kernel_takes():
    with pytest.raises(TargetError, match="no kernel that can run here stores 2:16 in float64"):
        benchmark(dtype="float64").run()


@pytest.mark.avx512
def test_the_shipped_schedule_is_taken(monkeypatch):
    plain = benchmark()
    workload = Workload("cpu_avx512", plain.m, plain.n, plain.k, 2, 16)
    space = space_of(workload, host_target())
    tuned = space.at(0) if space.at(0) != space.default else space.at(1)
    assert plain.as_tuned().scheduled is None  # the shipped log has no such layer
    monkeypatch.setattr(TunedSchedules, "__call__", lambda _, asked: tuned if asked == workload else None)
    scheduled = plain.as_tuned().scheduled
    assert tvm_ffi.structural_equal(scheduled.with_attr("global_symbol", "main"), space.replay(tuned))
    assert plain.as_tuned().run()[0].name == "balanced"


def test_weights_of_the_tests_and_of_the_benchmark_agree(rng):
    assert detect(random_weight(64, 128, P("2:16"), rng).decode()).pattern == P("2:16")
    assert detect(reference.balanced(64, 128, P("2:16"), rng)).pattern == P("2:16")
