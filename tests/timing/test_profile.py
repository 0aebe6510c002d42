import json

import pytest
import torch
from support.fake_gpu import with_weights_there
from torch import nn

import tvm_balanced as tb
from tvm_balanced.timing import rates
from tvm_balanced.timing.rates import measure


def test_every_layer_has_its_row_with_its_work(mlp, compiled_mlp):
    _, (x,) = mlp
    profile = compiled_mlp.profile(x, rounds=5)
    rows = {row.name: row for row in profile.rows}
    assert {"0", "2"} <= set(rows)
    slots = 96 * 64 // 8
    assert rows["0"].macs == 5 * slots
    assert rows["0"].nbytes > slots * 4
    assert sum(row.share for row in profile.rows) == pytest.approx(1, abs=0.2)
    assert [row.microseconds for row in profile.rows] == sorted((row.microseconds for row in profile.rows), reverse=True)
    assert "GMAC/s and" in str(profile)
    assert json.loads(json.dumps(profile.to_json()))["threads"] == compiled_mlp.threads


@pytest.mark.slow
def test_shared_weights_and_symbolic_rows():
    torch.manual_seed(0)
    shared = nn.Linear(64, 64)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(64, 3))
    module = tb.compile(model, (torch.randn(4, 64),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    rows = {row.name: row for row in module.profile(torch.randn(7, 64), rounds=3).rows}
    assert rows["2"].calls == 2 or rows["0"].calls == 2
    assert rows["3"].macs == 7 * 64 * 3


def test_a_layer_whose_weight_is_so_small_that_it_is_in_the_library():
    module = tb.compile(nn.Linear(3, 16), (torch.randn(4, 3),))
    (row,) = module.profile(torch.randn(4, 3), rounds=2).rows
    assert (row.name, row.kernel) == ("weight", "cpu_dense")


def test_profiling_leaves_the_module_as_it_was(mlp, compiled_mlp):
    _, (x,) = mlp
    before = compiled_mlp(x)
    compiled_mlp.profile(x, rounds=2)
    assert torch.equal(compiled_mlp(x), before)


def test_a_loaded_artifact_can_be_profiled(mlp, artifact):
    _, (x,) = mlp
    assert {row.name for row in tb.load(artifact).profile(x, rounds=2).rows} >= {"0", "2"}


def test_weights_on_a_gpu_are_known_by_their_address(mlp, artifact):
    _, (x,) = mlp
    module = with_weights_there(tb.load(artifact))
    assert {row.name for row in module.profile(x, rounds=2).rows} >= {"0", "2"}


@pytest.mark.slow
def test_rates_are_those_of_a_computer(monkeypatch):
    monkeypatch.setattr(rates, "READ_BYTES", 512 << 20)
    found = measure.__wrapped__(1)
    assert 1 < found.gmacs < 1000
    assert 0.5 < found.gbytes < 1000
    assert 1 < rates.loads.__wrapped__(1, 4, 3) < 1000
