"""Models under torch.compile: graph by graph, with the results of PyTorch, also when sizes, numbers and weights change."""

import logging
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.utils import counters

import tvm_balanced as tb
from tvm_balanced.errors import InputError
from tvm_balanced.frontend.dynamo import tvm_balanced

NAME = "tvm_balanced"
OPTIONS = {"threads": 1, "logs": False, "cache": False}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def compiled(model, **options):
    return torch.compile(model, backend=tvm_balanced, options=OPTIONS, **options)


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


class Mlp(nn.Module):
    def __init__(self, act=nn.ReLU):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(32, 64), act(), nn.Linear(64, 16)
        self.register_buffer("shift", torch.randn(16))

    def forward(self, x, scale=1.5):
        return {"y": self.down(self.act(self.up(x))) * scale + self.shift, "rows": x.shape[0] * 2}


def pruned(model):
    tb.prune(model, "4:16")
    return model.eval()


def test_torch_finds_it_by_its_entry_point():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["torch_dynamo_backends"][NAME].partition(":")
    assert getattr(import_module(module), name) is tvm_balanced


@pytest.mark.slow
def test_sizes_and_numbers_change_and_one_module_serves_all_sizes():
    model = pruned(Mlp())
    fast = compiled(model)
    for rows, scale in [(3, 1.5), (5, 1.5), (9, 1.5), (4, -2.0)]:
        x = torch.randn(rows, 32)
        got, want = fast(x, scale), model(x, scale)
        close(got["y"], want["y"])
        assert got["rows"] == want["rows"]
    assert counters[NAME] == {"modules compiled": 3}  # three rows; any rows; another number


@pytest.mark.slow
def test_dynamo_may_skip_its_guards_and_weights_are_still_looked_at():
    model, x = pruned(Mlp()), torch.randn(4, 32)
    options = OPTIONS | {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    fast = torch.compile(model, backend=tvm_balanced, options=options)
    close(fast(x)["y"], model(x)["y"])
    model.up.weight.mul_(-2)
    close(fast(x)["y"], model(x)["y"])
    assert counters[NAME]["modules compiled"] == 2


@pytest.mark.slow
def test_weights_are_constants_until_they_change():
    model, x = pruned(Mlp()), torch.randn(4, 32)
    fast = compiled(model)
    fast(x)
    assert counters[NAME]["modules compiled"] == 1
    model.up.weight.mul_(-2)
    close(fast(x)["y"], model(x)["y"])
    model.down.weight.data = torch.randn(16, 64)
    close(fast(x)["y"], model(x)["y"])
    assert counters[NAME]["modules compiled"] == 3
    for _ in range(3):  # a buffer that is written to becomes an input
        model.shift.add_(1)
        close(fast(x)["y"], model(x)["y"])
    assert counters[NAME]["modules compiled"] == 4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(32, 32)

    def forward(self, x):
        return x + self.fc(x)


@pytest.mark.slow
def test_layers_that_share_a_graph_have_a_module_each():
    model, x = nn.Sequential(*(Block() for _ in range(3))), torch.randn(4, 32)
    pruned(model)
    want = model(x)
    for block in model:
        block.compile(backend=tvm_balanced, options=OPTIONS)
    close(model(x), want)
    assert counters[NAME] == {"modules compiled": 3}
    assert counters["stats"]["unique_graphs"] == 1


class Broken(nn.Module):
    """Two layers, between them a sort of which the compiler knows nothing, in a graph of its own, and a graph without layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.scale = nn.Linear(32, 32), nn.Linear(32, 32), nn.Parameter(torch.eye(32))

    def forward(self, x):
        x = self.first(x)
        torch._dynamo.graph_break()
        x = torch.linalg.solve(self.scale, x.T).T
        torch._dynamo.graph_break()
        x = x.exp()
        torch._dynamo.graph_break()
        return self.second(x)


@pytest.mark.slow
def test_what_cannot_be_compiled_runs_in_torch_and_says_why_once(caplog):
    model, x = pruned(Broken()), torch.randn(4, 32)
    fast = compiled(model)
    for _ in range(2):
        close(fast(x), model(x))
    assert counters[NAME] == {"modules compiled": 2, "graphs that fell back": 1, "graphs without a layer": 1}
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("tvm_balanced")]
    assert "leaves a graph of 3 operators to PyTorch" in line
    assert "linalg" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("prepare", "grad", "message"),
    [
        (lambda model: model, True, "gradients are recorded; call the model within torch.no_grad()"),
        (lambda model: model.train(), False, "changes its buffer"),
    ],
)
def test_training_stays_in_torch(prepare, grad, message, caplog):
    model, x = prepare(pruned(nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32)))), torch.randn(4, 32)
    with torch.set_grad_enabled(grad):
        got = compiled(model)(x)
    assert got.requires_grad == grad
    assert counters[NAME] == {"graphs that fell back": 1}
    assert message in caplog.text


def test_dropout_that_is_active_stays_in_torch():
    model = nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.5)).train()
    fast, x = compiled(model), torch.ones(2, 32)
    assert not torch.equal(fast(x), fast(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"thread": 1}}, "has no option 'thread'; it has target, threads"),
        ({"options": {"threads": 0}}, "threads is 0"),
        ({"mode": "max-autotune"}, "has no mode 'max-autotune'; give options"),
    ],
)
def test_wrong_options_get_one_sentence(arguments, message):
    with pytest.raises(BackendCompilerFailed, match=message) as raised:
        torch.compile(nn.Linear(4, 4), backend=tvm_balanced, **arguments)(torch.ones(1, 4))
    assert isinstance(raised.value.inner_exception, InputError)
