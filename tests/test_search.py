import sys

import numpy as np
import pytest
import reference
import tvm

from tvm_balanced.encoding import encode
from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.measure import Ratio
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.search import search
from tvm_balanced.targets import host_target

PATTERN = BalancedPattern(2, 16)
KERNEL = next(k for k in KERNELS.values() if k.name != "cpu_dense" and k.refuses(host_target(), 64, 64, "float32") is None)


class AlwaysFaster:
    """Lets what was searched win, so that it is what is checked."""

    @staticmethod
    def speedup(_name, _over):
        return Ratio(2.0, 2.0, 2.0)


def test_the_default_wins_where_nothing_faster_is_found(monkeypatch):
    pytest.importorskip("xgboost")
    monkeypatch.setattr(AlwaysFaster, "speedup", staticmethod(lambda *_: Ratio(0.9, 0.9, 0.9)))
    monkeypatch.setattr("tvm_balanced.search.race", lambda *_, **__: AlwaysFaster)
    workload = Workload(KERNEL.name, 16, 128, 64, 2, 16)
    found = search(workload, host_target(), 2)
    assert not found.won
    default = KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target())
    assert (
        found.func.script().split("T.func_attr")[1].split("\n", 1)[1]
        == default.script().split("T.func_attr")[1].split("\n", 1)[1]
    )


def test_candidates_that_fail_are_said(monkeypatch):
    pytest.importorskip("xgboost")
    monkeypatch.setattr("tvm_balanced.search.time_rotating", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match="none of 2 candidates"):
        search(Workload(KERNEL.name, 16, 128, 64, 2, 16), host_target(), 2)


def test_an_unknown_m_cannot_be_searched():
    with pytest.raises(ValueError, match="M must be known"):
        search(Workload(KERNEL.name, None, 128, 64, 2, 16), host_target(), 2)


@pytest.mark.parametrize("regime", ["hot", "cold"])
def test_metaschedule_finds_a_schedule_that_computes_the_same(regime, rng, monkeypatch):
    pytest.importorskip("xgboost")
    monkeypatch.setattr("tvm_balanced.search.copies", lambda _nbytes, regime: 1 if regime == "hot" else 3)  # not thousands
    monkeypatch.setattr("tvm_balanced.search.race", lambda *_, **__: AlwaysFaster)
    workload = Workload(KERNEL.name, 16, 128, 64, 2, 16)
    found = search(workload, host_target(), 6, regime=regime)
    assert found.won
    assert 0 < len(found.seconds) <= 6
    assert found.seconds == sorted(found.seconds)
    weight = reference.balanced(128, 64, PATTERN, rng)
    x, y = rng.standard_normal((16, 64)).astype(np.float32), tvm.runtime.tensor(np.zeros((16, 128), np.float32))
    packed = [*KERNEL.pack(encode(weight, PATTERN)), KERNEL.pack_bias(np.zeros(128, np.float32))]
    tvm.compile(found.func, host_target())["main"](*map(tvm.runtime.tensor, (x, *packed)), y)
    assert reference.relative_error(y.numpy(), reference.dense(x, weight)) < 1e-5


@pytest.mark.parametrize("package", ["cloudpickle", "psutil", "xgboost"])
def test_a_missing_package_gets_one_sentence(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentFaultError, match=rf"{package} is not installed; run pip install 'tvm-balanced\[tune\]'"):
        search(Workload(KERNEL.name, 16, 128, 64, 2, 16), host_target(), 1)
