"""On the CPU, with graphs that call again when they are replayed."""

import numpy as np
import pytest
import torch
from support.fake_gpu import FakeCuda, FakeGraphs
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import InputError, TargetError


@pytest.fixture
def gpu(monkeypatch, compiled_mlp):
    """Modules on the CPU are taken for ones on a GPU; returns what happened, and who waited for whom."""
    cuda = FakeCuda(monkeypatch)
    return FakeGraphs(monkeypatch, cuda).happened, cuda.log


def test_a_call_copies_its_inputs_and_replays(gpu, mlp, compiled_mlp):
    model, (x,) = mlp
    step = compiled_mlp.capture(x)
    happened, log = gpu
    assert happened == ["call", "capture"]
    assert log == [(7, "waits for", 0), (0, "waits for", 7)], "the first call is made beside the graph"
    given = x.clone()
    y = step(2 * x)
    assert y is step.result
    torch.testing.assert_close(y, model(2 * x).detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(x, given), "the caller's own tensor stays"
    assert step(x) is y
    torch.testing.assert_close(y, model(x).detach(), rtol=1e-4, atol=1e-5)
    assert happened == ["call", "capture", "replay", "replay"]


def test_other_shapes_and_arrays_are_refused(gpu, mlp, compiled_mlp):
    _, (x,) = mlp
    step = compiled_mlp.capture(x)
    for wrong in (torch.cat([x, x]), x.double(), x.numpy()):
        with pytest.raises(InputError, match="was captured; capture a call for it, too"):
            step(wrong)
    assert gpu[0] == ["call", "capture"]
    with pytest.raises(InputError, match="arrays cannot be copied"):
        compiled_mlp.capture(np.asarray(x))


class Accumulate(nn.Module):
    def forward(self, x, total):
        return {"y": x * 2, "total": total + x}


def test_a_donated_state_is_written_where_it_lies(gpu):
    x, total = torch.ones(4, 32), torch.zeros(4, 32)
    module = tb.compile(Accumulate(), entry_points={"add": tb.EntryPoint((x, total), donate={"total": "total"})})
    step = module["add"].capture(x, total)
    assert not total.any(), "to capture changes nothing"
    for count in (1, 2, 3):
        result = step(x, total)
        assert result["total"] is total
        assert (total == count).all()
    with pytest.raises(InputError, match="total is donated, and is another buffer than the one that the graph writes to"):
        step(x, total.clone())


def test_a_module_on_a_cpu_is_not_captured(mlp, compiled_mlp):
    with pytest.raises(TargetError, match="only a module on a GPU"):
        compiled_mlp.capture(*mlp[1])
