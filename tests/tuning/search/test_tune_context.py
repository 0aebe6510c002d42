import subprocess
import sys

import pytest

from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.tuning.search.tune_context import load_intrinsics, random_state


def test_contexts_load_no_intrinsics_and_leave_no_stub():
    """In a process of its own: in this one they may be loaded."""
    program = """
import sys
from tvm_balanced.core.without_torch import without_torch
without_torch()  # which takes longer than all else
from tvm_balanced.runtime.host import host_target
from tvm_balanced.tuning.search.tune_context import tune_context
tune_context(None, host_target())
assert "tvm.s_tir.tensor_intrin" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_no_stub_stands_for_the_intrinsics():
    load_intrinsics()
    assert sys.modules["tvm.s_tir.tensor_intrin"].__file__


@pytest.mark.parametrize("package", ["cloudpickle", "psutil", "xgboost"])
def test_a_missing_package_gets_one_sentence(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentFaultError, match=rf"{package} is not installed; run pip install 'tvm-balanced\[tune\]'"):
        load_intrinsics()


def test_random_states_are_those_that_tvm_accepts():
    states = {random_state(seed, *more) for seed in (0, 1, 2**40) for more in ((), (0,), (8, 1))}
    assert len(states) == 9
    assert all(1 <= state < 2**31 for state in states)
