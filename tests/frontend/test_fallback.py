"""A model with a function that is slow on purpose: what PyTorch computes faster is left to it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from tvm import te, tirx

import tvm_balanced as tb
from tvm_balanced.errors import ArtifactError, InputError
from tvm_balanced.runtime import torch_operators
from tvm_balanced.runtime.manifest import read_manifest
from tvm_balanced.timing import race as races
from tvm_balanced.transform import legalize


class Largest(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(512, 32)

    def forward(self, x):
        return self.layer(x - x.amax(-1, keepdim=True)).relu()


def slow_max(builder, call):
    """The largest of all pairs: a quarter of a million comparisons a row."""

    def largest(x):
        pair = [te.reduce_axis((0, x.shape[1]), name=name) for name in "ab"]
        return te.compute((x.shape[0], 1), lambda i, _: te.max(tirx.max(x(i, pair[0]), x(i, pair[1])), axis=pair))

    return builder.call_te(largest, call.args[0], primfunc_name_hint="all_pairs")


@pytest.fixture(scope="module")
def compiled():
    """(the model, its input, the module)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(races.VARIABLE, "1")
        patch.setattr(races, "SECONDS", 0.1)
        patch.setitem(legalize.LEGALIZE, "relax.max", slow_max)
        torch.manual_seed(0)
        model, x = Largest().eval(), torch.randn(8, 512)
        return model, x, tb.compile(model, (x,), threads=1, fallback=True)


@pytest.mark.slow
def test_what_is_slower_is_left_to_torch_and_named(compiled):
    model, x, module = compiled
    (left,) = module.report.left
    assert (left.operator, left.function) == ("aten.amax.default", "all_pairs")
    assert left.microseconds > left.torch_microseconds > 0
    assert "LEFT TO PYTORCH: aten.amax.default (" in str(module.report)
    assert [row.name for row in module.report.functions if "pairs" in row.name] == []
    y = module(x * 3)
    want = copy.deepcopy(model).double()(3 * x.double())
    np.testing.assert_allclose(y.numpy(), want.detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_an_artifact_says_that_it_needs_torch(compiled, tmp_path, monkeypatch):
    _, x, module = compiled
    module.save(tmp_path / "m.tb")
    assert read_manifest(tmp_path / "m.tb")["left_to_torch"] == ["aten.amax.default"]
    loaded = tb.load(tmp_path / "m.tb")
    assert loaded.report.left == module.report.left
    assert torch.equal(loaded(x), module(x))
    monkeypatch.setattr(torch_operators, "installed", lambda: False)
    with pytest.raises(ArtifactError, match=r"leaves aten.amax.default to PyTorch, which is not installed; install torch, or"):
        tb.load(tmp_path / "m.tb")


def test_it_needs_the_race_and_a_model_of_pytorch(monkeypatch):
    layer, x = nn.Linear(16, 16), torch.randn(1, 16)
    with pytest.raises(InputError, match="fallback needs the race with PyTorch; leave race=False out"):
        tb.compile(layer, (x,), race=False, fallback=True)
    entries = {name: tb.EntryPoint((x,)) for name in "ab"}
    with pytest.raises(InputError, match="fallback is for a PyTorch model with one entry point; leave fallback out"):
        tb.compile(layer, entry_points=entries, fallback=True)
    monkeypatch.setenv(races.VARIABLE, "0")
    with pytest.raises(InputError, match="fallback needs the race with PyTorch, which is not run on a GPU"):
        tb.compile(layer, (x,), fallback=True)
