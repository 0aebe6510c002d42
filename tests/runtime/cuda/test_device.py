import numpy as np
import pytest
import tvm
from support.fake_gpu import FakeCuda

from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.runtime import function, tensors
from tvm_balanced.runtime.cuda import device


class Gpu:
    """A TVM GPU that only waits; copying a tensor to it does nothing."""

    index = 0

    def __init__(self, log):
        self.log = log

    def dlpack_device_type(self):
        return device.CUDA

    def sync(self):
        self.log.append(("the CPU", "waits for", "TVM"))


class Copied:
    def __init__(self, log):
        self.log, self.device = log, tvm.cpu()

    def copyto(self, _):
        self.log.append("copy")
        return "a copy"


def test_a_module_goes_where_torch_is(monkeypatch):
    assert device.current_gpu() == tvm.cuda(0)
    FakeCuda(monkeypatch).device = 1
    assert device.current_gpu() == tvm.cuda(1)


def test_what_is_placed_is_there():
    log = []
    assert device.place([("w", Copied(log))], Gpu(log)) == [("w", "a copy")]
    assert log == ["copy", ("the CPU", "waits for", "TVM")]


def test_arrays_are_placed(monkeypatch):
    log = []
    monkeypatch.setattr(tensors, "as_tvm", lambda _: Copied(log))
    assert tensors.to_tvm([TensorSpec("x", (3,), "float32")], [np.zeros(3, np.float32)], {}, Gpu(log)) == ["a copy"]
    assert log == ["copy", ("the CPU", "waits for", "TVM")]


def test_waiting_is_for_torchs_stream_as_well(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    cuda.current = cuda.stream(5)
    device.wait(Gpu(cuda.log))
    assert cuda.log == [("the CPU", "waits for", 5), ("the CPU", "waits for", "TVM")]
    cuda.log.clear()
    device.wait(tvm.cpu())
    assert cuda.log == []


@pytest.mark.parametrize("as_array", [True, False])
def test_arrays_come_back_when_the_call_has_ended(monkeypatch, mlp, compiled_mlp, as_array):
    _, (x,) = mlp
    order = []
    monkeypatch.setattr(function, "wait", lambda _: order.append("wait"))
    read = function.from_tvm
    monkeypatch.setattr(function, "from_tvm", lambda *given: order.append("read") or read(*given))
    compiled_mlp(x.numpy() if as_array else x)
    assert order == (["wait", "read"] if as_array else ["read"])
