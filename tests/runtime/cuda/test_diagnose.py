from pathlib import Path

import pytest
import torch
import tvm

from tvm_balanced.compiler.targets import cuda_target, host_gpu
from tvm_balanced.errors import ArtifactError, TargetError
from tvm_balanced.runtime import environment, load
from tvm_balanced.runtime.cuda import diagnose


@pytest.fixture(params=["a device file", "torch"])
def with_driver(request, monkeypatch, tmp_path):
    """A machine with an NVIDIA driver, as shown by a device file or by torch, whose CUDA library does not load."""
    if tvm.cuda(0).exist:
        pytest.skip("TVM sees a GPU")
    (tmp_path / "libtvm_runtime_cuda.so").write_text("no library")
    monkeypatch.setattr(diagnose, "LIBRARY", tmp_path / "libtvm_runtime_cuda.so")
    monkeypatch.setattr(diagnose, "DEVICE", tmp_path if request.param == "a device file" else tmp_path / "none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param == "torch")


def test_without_a_driver_there_is_no_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(diagnose, "DEVICE", tmp_path / "none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert diagnose.fault() is None


def test_the_library_of_the_wheel_is_named():
    assert diagnose.LIBRARY.is_file()


def test_what_keeps_tvms_library_from_loading_is_said(with_driver):
    with pytest.raises(TargetError, match=r"cannot load its CUDA library \(.*libtvm_runtime_cuda.so.*CUDA 13") as error:
        host_gpu()
    assert "\n" not in str(error.value)
    assert any("CUDA 13" in finding.text for finding in environment.describe()["findings"])
    manifest = {"target": str(cuda_target("h200"))}
    with pytest.raises(ArtifactError, match="does not have; TVM cannot load its CUDA library"):
        load._check_machine(Path("a.tb"), manifest)


def test_a_library_that_loads_and_sees_nothing(with_driver, monkeypatch):
    monkeypatch.setattr(diagnose.ctypes, "CDLL", lambda _: None)
    assert "CUDA_VISIBLE_DEVICES" in diagnose.fault()
