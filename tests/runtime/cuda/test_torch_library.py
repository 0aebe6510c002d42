import sys

import pytest

from tvm_balanced.runtime.cuda import torch_library


def test_torch_is_asked_where_it_runs_on_the_same_stream(monkeypatch):
    assert torch_library.usable("llvm")
    assert not torch_library.usable("cuda"), "torch has not used a GPU, so its stream is not that of calls"
    monkeypatch.delitem(sys.modules, "torch")
    assert not torch_library.usable("llvm")


@pytest.mark.parametrize("off", [torch_library.SWITCH, "TVM_BALANCED_DENSE"])
def test_one_switch_is_for_everything_and_another_for_one_kind(off, monkeypatch):
    monkeypatch.setenv(off, torch_library.OWN)
    assert not torch_library.usable("llvm", "TVM_BALANCED_DENSE")
    assert torch_library.usable("llvm") == (off != torch_library.SWITCH)
    monkeypatch.setenv(off, "")
    assert torch_library.usable("llvm", "TVM_BALANCED_DENSE")
