"""On the CPU, with graphs that call again when they are replayed."""

import contextlib

import numpy as np
import pytest
import torch
from support.fake_gpu import FakeCuda

from tvm_balanced.errors import InputError, TargetError
from tvm_balanced.runtime import function
from tvm_balanced.runtime.cuda import captured_call


class Graph:
    """Remembers the call that was captured; a replay writes to the same result."""

    def __init__(self):
        self.replay = lambda: None


@pytest.fixture
def gpu(monkeypatch, compiled_mlp):
    """A module on the CPU that is taken for one on a GPU; returns a list of what happened."""
    cuda, happened = FakeCuda(monkeypatch), []

    @contextlib.contextmanager
    def capturing(graph):
        happened.append("capture")
        yield
        graph.replay = lambda: happened.append("replay")

    monkeypatch.setattr(captured_call, "torch_stream", lambda _: cuda.current)
    monkeypatch.setattr(function, "in_stream_order", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: cuda.stream(7))
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    return happened, cuda.log


def test_a_call_copies_its_inputs_and_replays(gpu, mlp, compiled_mlp):
    model, (x,) = mlp
    step = compiled_mlp.capture(x)
    happened, log = gpu
    assert happened == ["capture"]
    assert log == [(7, "waits for", 0), (0, "waits for", 7)], "the first call is made beside the graph"
    torch.testing.assert_close(step.result, model(x).detach(), rtol=1e-4, atol=1e-5)
    y = step(2 * x)
    assert y is step.result
    assert torch.equal(step.inputs[0], 2 * x)
    assert not torch.equal(x, 2 * x), "the caller's own tensor stays"
    assert happened == ["capture", "replay"]


def test_other_shapes_and_arrays_are_refused(gpu, mlp, compiled_mlp):
    _, (x,) = mlp
    step = compiled_mlp.capture(x)
    for wrong in (torch.cat([x, x]), x.double(), x.numpy()):
        with pytest.raises(InputError, match="was captured; capture a call for it, too"):
            step(wrong)
    assert gpu[0] == ["capture"]
    with pytest.raises(InputError, match="arrays cannot be copied"):
        compiled_mlp.capture(np.asarray(x))


def test_a_module_on_a_cpu_is_not_captured(mlp, compiled_mlp):
    with pytest.raises(TargetError, match="only a module on a GPU"):
        compiled_mlp.capture(*mlp[1])
