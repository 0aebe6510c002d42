import copy
import itertools

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.pruning.allocate import BLOCK, cheapest


def setup():
    """Layers of which the second's inputs have two directions that matter, so that it can be pruned at little loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 2), nn.Linear(2, 256, bias=False), nn.Linear(256, 256))
    return model, [torch.randn(32, 256) for _ in range(3)]


def test_the_choice_is_the_best_of_all():
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        losses = torch.rand(4, 3, generator=generator).tolist()
        costs = torch.rand(4, 3, generator=generator).tolist()
        budget = 0.5 * sum(map(max, costs))
        chosen = cheapest(losses, costs, budget)

        def total(values, choice):
            return sum(row[at] for row, at in zip(values, choice, strict=True))

        every = [c for c in itertools.product(range(3), repeat=4) if total(costs, c) <= budget]
        best = min((total(losses, c) for c in every), default=None)
        assert total(costs, chosen) <= budget
        assert total(losses, chosen) == pytest.approx(best, rel=1e-3)
    assert cheapest([[0.0]], [[2.0]], 1.0) is None


def test_a_layer_that_loses_little_is_pruned_most_and_prune_takes_the_result():
    model, batches = setup()
    before = [parameter.clone() for parameter in model.parameters()]
    found = tb.allocate(model, batches, sparsity=0.7, include=["0", "3"], threads=1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert 0.7 <= found.sparsity < 0.95
    kept = {layer.name: layer.pattern.nnz if layer.pattern else BLOCK for layer in found.layers}
    assert kept["3"] < kept["0"]
    report = tb.prune(model, found, calibration=batches)
    assert {layer.name: layer.pattern for layer in report.layers} == {name: str(pattern) for name, pattern in found.items()}
    assert "zeros" in str(found)


class Branches(nn.Module):
    """Two layers on one x, one of which hardly counts in the output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.loud, self.quiet = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x):
        return {"y": self.loud(x) + 1e-3 * self.quiet(x), "places": torch.arange(3)}


def test_a_layer_that_hardly_counts_in_the_output_is_pruned_most():
    model, batches = Branches(), [torch.randn(32, 64) for _ in range(3)]
    found = {layer.name: layer for layer in tb.allocate(model, batches, sparsity=0.7, threads=1).layers}
    assert (found["quiet"].pattern.nnz, found["loud"].pattern.nnz) == (1, 8)
    assert found["quiet"].lost[0] < 1e-5 < 1e-2 < found["loud"].lost[0]
    own = {layer.name: layer for layer in tb.allocate(model, batches, sparsity=0.7, threads=1, loss="layer").layers}
    assert own["quiet"].lost == pytest.approx(own["loud"].lost, rel=0.3)
    with pytest.raises(InputError, match="loss is 'own'; give one of output, layer"):
        tb.allocate(model, batches, sparsity=0.7, loss="own")


def test_the_loss_of_the_output_is_that_of_a_pruned_model():
    """Of a weight that two layers share, too."""
    model, batches = setup()
    model = nn.Sequential(model[0], nn.ReLU(), nn.Linear(256, 256))
    model[2].weight = model[0].weight
    (layer,) = tb.allocate(model, batches, sparsity=0.5, include=["0"], threads=1).layers
    pruned = copy.deepcopy(model)
    tb.prune(pruned, "4:16", include=["0"], method="sparsegpt", calibration=batches)
    with torch.no_grad():
        change, size = (sum(float(y.square().sum()) for y in ys) for ys in zip(*_outputs(model, pruned, batches), strict=True))
    assert layer.lost[2] == pytest.approx(change / size, rel=1e-3)


def _outputs(model, pruned, batches):
    for batch in batches[:2]:
        yield pruned(batch) - model(batch), model(batch)


def test_a_speed_up_is_reached_by_the_times_of_the_machine():
    model, batches = setup()
    found = tb.allocate(model, batches, target_speedup=1.5, include=["0", "3"], target="cpu/x86-64-v4", threads=1)
    assert found.speedup >= 1.5
    for layer in found.layers:
        assert list(layer.lost) == sorted(layer.lost, reverse=True)
        assert layer.lost[-1] == 0
        assert layer.seconds[0] < layer.seconds[-1]


def test_what_a_user_can_get_wrong():
    model, batches = setup()
    with pytest.raises(InputError, match="give one budget"):
        tb.allocate(model, batches)
    with pytest.raises(InputError, match="give one budget"):
        tb.allocate(model, batches, 2.0, 0.5)
    with pytest.raises(InputError, match=r"target_speedup is 0.5"):
        tb.allocate(model, batches, 0.5)
    with pytest.raises(ModelError, match=r"takes a layer to prune \(0 is float64\), so zeros make none faster"):
        tb.allocate(model.double(), [batch.double() for batch in batches], 2.0, include=["0"])
    found = tb.allocate(model, [batch.double() for batch in batches], sparsity=0.5, include=["0"])
    assert found.speedup == 1
    assert "50.0% zeros, 1.00x" in str(found)
    model.float()
    with pytest.raises(ModelError, match="the most that 1:16 everywhere gives"):
        tb.allocate(model, batches, 1000.0, threads=1)
