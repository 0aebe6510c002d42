import time

import pytest

from benchmarks.int8_verdict import PATTERNS, in_turns, targets, workloads


def test_each_target_has_a_sparse_kernel_beside_the_dense_one():
    found = {name: workloads(target, 64, 128, 8) for name, target in targets().items()}
    if "AVX2" not in found:
        pytest.skip("this CPU has no AVX2")
    assert [workload.kernel for workload in found["AVX2"]] == ["cpu_dense_i8", *["cpu_avx2_i8"] * len(PATTERNS)]


def test_calls_take_turns(monkeypatch):
    clock, order = iter(range(1000)), []
    monkeypatch.setattr(time, "thread_time", lambda: float(next(clock)))
    times = in_turns([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert times.shape == (3, 2)
    assert (times == 1).all()
    assert order == [*"aaabbb", *"ababab"]
