import ctypes

import pytest
import tvm
from support.fake_gpu import FakeCuda

import tvm_balanced as tb
from tvm_balanced.errors import InputError
from tvm_balanced.runtime import function
from tvm_balanced.runtime.cuda import graph_capture


class Driver:
    """A fake CUDA driver: records the capture modes that it is given, and returns the previous one."""

    def __init__(self):
        self.modes = [0]

    def cuThreadExchangeStreamCaptureMode(self, pointer):
        mode = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int)).contents
        given, mode.value = mode.value, self.modes[-1]
        self.modes.append(given)


@pytest.fixture
def driver(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(graph_capture, "_driver", lambda: driver)
    return driver


def call_captured(monkeypatch, module, *inputs):
    with monkeypatch.context() as patch:
        patch.setattr(function, "capturing", lambda _: True)
        return module(*inputs)


def addresses(module, x, calls=20):
    """Return the addresses of the results of calls; each result is freed before the next call."""
    return {module(x).data_ptr() for _ in range(calls)}


def test_what_a_captured_call_writes_to_is_given_to_no_other(monkeypatch, mlp, driver):
    model, (x,) = mlp
    module = tb.compile(model, (x,))
    before = addresses(module, x)
    captured = {call_captured(monkeypatch, module, x).data_ptr() for _ in range(3)}
    assert len(captured) == 3
    assert captured & before  # from the pool
    assert len(module.captured) == 3 * 2  # the hidden layer's output, and the model's
    assert not captured & addresses(module, x)
    assert len(module.captured) == 3 * 2  # other calls keep nothing
    assert driver.modes == [0, graph_capture.RELAXED, 0] + [graph_capture.RELAXED, 0] * 2


def test_arrays_and_profiles_are_refused_while_a_graph_is_captured(monkeypatch, mlp, compiled_mlp):
    _, (x,) = mlp
    with pytest.raises(InputError, match="arrays cannot be copied while a CUDA graph is captured"):
        call_captured(monkeypatch, compiled_mlp, x.numpy())
    monkeypatch.setattr(function, "capturing", lambda _: True)
    with pytest.raises(InputError, match="profiled while a CUDA graph is captured"):
        compiled_mlp.profile(x)


def test_only_torch_on_a_gpu_captures(monkeypatch):
    assert not graph_capture.capturing(tvm.cuda(0))
    cuda = FakeCuda(monkeypatch)
    assert not graph_capture.capturing(tvm.cuda(0))
    cuda.capturing = True
    assert graph_capture.capturing(tvm.cuda(0))
    assert not graph_capture.capturing(tvm.cpu())
