"""Models of torch with roundings drawn anew: what moves, by how much, and which refusals that spares."""

import numpy as np
import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.compiler.compare import check
from tvm_balanced.core.tolerance import UNIT
from tvm_balanced.errors import ToleranceError
from tvm_balanced.frontend.rounding_noise import UNITS, RoundingNoise


def moved(function, *given, seed=0):
    """How far each result of a function moves, relative to itself."""
    exact = function(*given)
    with RoundingNoise(seed):
        noisy = function(*given)
    return ((noisy - exact) / exact).abs()


def test_whole_numbers_and_views_stay():
    x = torch.arange(12.0).reshape(3, 4)
    assert not moved(lambda x: x.t().reshape(4, 3) @ x + 1, x + 1).any()
    assert not moved(lambda x: torch.cat([x[:, 1:], x.flip(1)], 1), torch.rand(3, 4)).any()


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, UNITS * UNIT["float32"]), (torch.bfloat16, 2 * UNIT["bfloat16"])])
def test_results_move_by_roundings(dtype, size):
    x = torch.rand(50, 40).to(dtype) + 0.1
    moves = moved(lambda x: x.sin(), x)
    assert 0 < moves.max() <= 5 * size
    assert torch.equal(moves, moved(lambda x: x.sin(), x))
    assert not torch.equal(moves, moved(lambda x: x.sin(), x, seed=1))


def test_what_is_written_in_place_moves_too():
    x = torch.rand(50) + 0.1
    assert moved(lambda x: x.clone().sin_().mul_(0.3), x).max() > 0
    assert not moved(lambda x: x.clone().copy_(x), x).any()


def constant_rows():
    """Two norms of rows whose numbers are all the same if the input is zeros: each divides by 0.003, the root of its epsilon."""
    torch.manual_seed(0)
    layers = [nn.Conv1d(3, 8, 3, padding=1), nn.InstanceNorm1d(8), nn.Conv1d(8, 8, 3, padding=1), nn.InstanceNorm1d(8)]
    return nn.Sequential(*layers).eval()


def test_a_norm_of_equal_numbers_is_noted_and_refuses_nothing():
    module = tb.compile(constant_rows(), (torch.randn(1, 3, 256),), threads=1)
    notes = {check.inputs: check.note for check in module.facts.checks}
    assert notes["the examples"] == notes["other values"] == ""
    assert "roundings alone move the original model's outputs by" in notes["zeros"]


class Experts(nn.Module):
    """Two experts, of which a router chooses one for each row."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.router, self.first, self.second = nn.Linear(16, 2), nn.Linear(16, 16), nn.Linear(16, 16)
        with torch.no_grad():  # the experts are chosen by sums of the same numbers in another order
            self.router.weight[1] = self.router.weight[0].flip(0)
            self.router.bias.zero_()

    def forward(self, x):
        choice = self.routed(x).argmax(-1, keepdim=True)
        return torch.where(choice == 0, self.first(x), self.second(x))

    def routed(self, x):
        return self.router(x)


class Reordered(Experts):
    """The same, but for the order in which the router's sums run."""

    def routed(self, x):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
        return nn.functional.linear(x[:, order].double(), self.router.weight[:, order].double(), self.router.bias.double())


def test_a_tie_between_experts_is_noted_and_a_wrong_expert_refused():
    torch.manual_seed(0)  # for some inputs a tie falls the same way in all of the eight runs
    x = torch.rand(64, 16)
    x[8:] = (x[8:] + x[8:].flip(1)) / 2  # the same number from either end: 56 of 64 rows tie, but for roundings
    model = Experts()
    module = tb.compile(model, (x,), threads=1)
    assert all(check.note == "" or "roundings alone" in check.note for check in module.facts.checks)

    class Wrong(Experts):
        def forward(self, x):
            return super().forward(x).roll(1, 0)

    with pytest.raises(ToleranceError, match="differs from the original model"):
        check(module, import_model(Wrong(), (x,)))
    assert np.isfinite(module(x).numpy()).all()
    x[:56] = torch.rand(56, 16)  # few ties: each has to fall either way in some of the eight runs
    given = tb.compare(module, Reordered(), x)
    assert not all(output.ok for output in given.outputs)
    assert given.ok
    assert "roundings alone move the original model's outputs by" in str(given)
    assert not tb.compare(module, Wrong(), x).ok
    assert not tb.compare(module, Reordered(), x, tolerance=1e-4).ok


class Sort(nn.Module):
    """Values in order, and where they were."""

    def __init__(self, descending=False):
        super().__init__()
        self.descending = descending

    def forward(self, x):
        return torch.sort(x, descending=self.descending)


def test_ties_between_inputs_are_noted_also_those_of_whole_numbers():
    """torch's sort is not stable, and its order of equal values is not ours."""
    x = torch.arange(400).reshape(1, 400) % 7 - 3.0
    assert not torch.equal(x.sort().indices, x.sort(stable=True).indices)
    module = tb.compile(Sort(), (x,), threads=1)
    assert "roundings alone" in next(check.note for check in module.facts.checks if check.inputs == "the examples")
    with pytest.raises(ToleranceError, match="differs from the original model"):
        check(module, import_model(Sort(descending=True), (x,)))


class Attends(nn.Module):
    """A causal layer of attention in bfloat16, of which one fault can be planted."""

    def __init__(self, fault=""):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(32, width) for width in (96, 32, 32))
        self.norm, self.fault = nn.LayerNorm(32), fault
        with torch.no_grad():
            self.layers[2].bias.mul_(0.3)
        if fault == "a bias is dropped":
            nn.init.zeros_(self.layers[2].bias)
        self.bfloat16().eval()

    def forward(self, x):
        q, k, v = self.layers[0](x).chunk(3, -1)
        seen = torch.tril(torch.ones(8, 8, dtype=torch.bool), 1 if self.fault == "a mask is one place off" else 0)
        y = (q @ k.transpose(1, 2) / 32**0.5).masked_fill(~seen, -1e9).softmax(-1) @ v
        return self.layers[2](nn.functional.gelu(self.layers[1](self.norm(x + y / 4))))


def test_faults_that_depth_would_excuse_in_bfloat16_are_refused():
    """One that moves an output by less than 8 deviations of its roundings, and by more than drawn ones do."""
    x = torch.randn(4, 8, 32).bfloat16()
    module = tb.compile(Attends(), (x,), threads=1)
    right = Attends()(x).detach()
    assert not any(one.note for one in module.facts.checks)
    for fault in ("a bias is dropped", "a mask is one place off"):
        imported = import_model(Attends(fault), (x,))
        moved = (Attends(fault)(x).detach() - right).abs().max()  # of at most 1
        assert 0.02 < moved < imported.main.growths[0].tolerance
        with pytest.raises(ToleranceError, match="differs from the original model by"):
            check(module, imported)
