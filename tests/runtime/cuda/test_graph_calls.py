"""On the CPU, with graphs that call again when they are replayed."""

import logging

import numpy as np
import pytest
import torch
from support.fake_gpu import FakeCuda, FakeGraphs
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.cuda import graph_calls


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 16)

    def forward(self, x):
        return {"y": self.layer(x), "twice": 2 * x}

    def add(self, x, total):
        return {"y": x * 2, "total": total + x}


@pytest.fixture(scope="module")
def compiled():
    torch.manual_seed(0)
    model, x = Model().eval(), torch.ones(4, 32)
    run = tb.EntryPoint((x,), dynamic_shapes=({0: torch.export.Dim("m", min=1, max=64)},))
    add = tb.EntryPoint((x, torch.zeros(4, 32)), method="add", donate={"total": "total"})
    return model, tb.compile(model, entry_points={"run": run, "add": add})


@pytest.fixture
def gpu(monkeypatch, compiled):
    """The model, a module on the CPU that says it is on a GPU, what happened, and the fake CUDA."""
    cuda = FakeCuda(monkeypatch)
    graphs = FakeGraphs(monkeypatch, cuda)
    model, module = compiled
    module = module.clone()
    monkeypatch.setattr(type(module.facts), "on_gpu", True)
    module.cuda_graph = True
    return model, module, graphs.happened, cuda


def close(got, want):
    torch.testing.assert_close(got, want.detach(), rtol=1e-4, atol=1e-5)


def test_shapes_are_captured_once_and_results_are_the_callers_own(gpu):
    model, module, happened, _ = gpu
    results = []
    for rows in (4, 4, 7, 4, 7):
        x = torch.randn(rows, 32)
        results.append((module(x), model(x)))
    assert happened == ["call", "capture", "replay", "replay", "call", "capture", "replay", "replay", "replay"]
    for got, want in results:  # all at the end: no call has overwritten what another returned
        close(got["y"], want["y"])
        close(got["twice"], want["twice"])


def test_a_donated_buffer_has_a_graph_of_its_own(gpu):
    _, module, happened, _ = gpu
    x, totals = torch.ones(4, 32), (torch.zeros(4, 32), torch.zeros(4, 32))
    for step in (1, 2):
        for total in totals:
            result = module["add"](x, total)
            assert result["total"] is total
            assert (total == step).all()
    assert happened.count("capture") == 2
    assert happened.count("replay") == 4


def test_a_clone_has_graphs_of_its_own_and_the_option_can_be_taken_back(gpu):
    model, module, happened, _ = gpu
    x = torch.randn(4, 32)
    module(x)
    twin = module.clone()
    close(twin(x)["y"], model(x)["y"])
    assert happened.count("capture") == 2
    module.cuda_graph = False
    close(module(x)["y"], model(x)["y"])
    assert not module.cuda_graph
    assert twin.cuda_graph
    assert happened.count("replay") == 2


def test_what_cannot_be_captured_is_called_and_a_sentence_says_why_once(gpu, monkeypatch, caplog):
    model, module, happened, _ = gpu
    monkeypatch.setattr(graph_calls, "MOST", 1)
    x = torch.randn(4, 32)
    with caplog.at_level(logging.WARNING, graph_calls.__name__):
        for _ in range(2):
            assert isinstance(module(x.numpy())["y"], np.ndarray)
            for rows in (2, 3, 0):
                close(module(x[:rows])["y"], model(x[:rows])["y"])
    assert happened == ["call", "capture", "replay", "replay"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert "arrays and tensors of TVM cannot be copied" in said[0]
    assert "1 CUDA graphs have been captured for inputs of other shapes" in said[1]
    assert "without elements" in said[2]


def test_a_call_within_a_capture_becomes_a_part_of_it(gpu, monkeypatch):
    model, module, happened, _ = gpu
    monkeypatch.setattr(graph_calls, "capturing", lambda _: True)
    x = torch.randn(4, 32)
    close(module(x)["y"], model(x)["y"])
    assert happened == []


def test_a_module_on_a_cpu_has_none(mlp, artifact, compiled_mlp):
    assert not tb.load(artifact).cuda_graph
    for ask in (lambda: tb.load(artifact, cuda_graph=True), lambda: setattr(compiled_mlp, "cuda_graph", True)):
        with pytest.raises(TargetError, match="cuda_graph is for modules on a GPU; this one is for llvm"):
            ask()
    compiled_mlp.cuda_graph = False
