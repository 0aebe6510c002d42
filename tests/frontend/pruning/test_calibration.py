import copy

import pytest
import torch
from torch import nn

from tvm_balanced.frontend.pruning.calibration import Calibration
from tvm_balanced.frontend.pruning.weights import prunable_weights


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.out = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x, scale):
        return x + scale * self.out(torch.tanh(self.query(x)) * self.key(x))


class Stack(nn.Module):
    """An embedding, blocks, and a head; counts how often the first block is computed."""

    def __init__(self, blocks=3, width=16, tied=False):
        super().__init__()
        self.embed, self.head = nn.Linear(8, width), nn.Linear(width, 4)
        self.blocks = nn.ModuleList([Residual(width)] * blocks if tied else [Residual(width) for _ in range(blocks)])
        self.calls = 0
        self.blocks[0].query.register_forward_hook(lambda *_: setattr(self, "calls", self.calls + 1))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, scale=0.5)
        return self.head(x)


def collected(model, batches):
    """The Hessians of each group by name, in forward order; each group is halved as it comes, as pruning would change it."""
    found = []
    for group, statistics in Calibration(model, list(prunable_weights(model)), batches).groups(hessian=True):
        found.append({weight.name: [inputs.hessian for _, inputs in statistics(weight)] for weight in group.weights})
        for weight in group.weights:
            weight.assign(weight.matrix() * 0.5)
    return found


def plainly(model, batches, names):
    """The same by hooks and whole calls."""
    modules, found = dict(model.named_modules()), []
    for group in names:
        sums = dict.fromkeys(group, 0)

        def hook(name, sums=sums):
            def add(_, inputs):
                x = inputs[0].reshape(-1, inputs[0].shape[-1])
                sums[name] = sums[name] + x.T @ x

            return add

        handles = [modules[name].register_forward_pre_hook(hook(name)) for name in group]
        with torch.no_grad():
            for batch in batches:
                model(batch)
            for name in group:
                modules[name].weight.mul_(0.5)
        for handle in handles:
            handle.remove()
        found.append(sums)
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_each_layer_sees_what_was_pruned_before_it(tied):
    torch.manual_seed(0)
    model, batches = Stack(tied=tied), [torch.randn(5, 8) for _ in range(3)]
    other = copy.deepcopy(model)
    found = collected(model, batches)
    names = [sorted(group) for group in found]
    each = [["blocks.0.key", "blocks.0.query"], ["blocks.0.out"]]
    blocks = 1 if tied else 3
    assert names == [["embed"], *([n.replace("0", str(i)) for n in g] for i in range(blocks) for g in each), ["head"]]
    for got, want in zip(found, plainly(other, batches, [list(group) for group in found]), strict=True):
        for name, (hessian,) in got.items():
            torch.testing.assert_close(hessian, want[name], rtol=1e-4, atol=1e-4)


def test_blocks_that_are_done_are_not_computed_again():
    torch.manual_seed(0)
    model = Stack(blocks=6)
    collected(model, [torch.randn(5, 8) for _ in range(2)])
    # each of two batches: to find the order, for the two groups of the block, for its outputs, and for the head at the end
    assert model.calls == 2 * 5


def test_a_model_that_uses_a_block_out_of_order_is_computed_whole():
    class Crossed(Stack):
        def forward(self, x):
            x = self.embed(x)
            for block in reversed(self.blocks):
                x = block(x, scale=0.5)
            return self.head(x)

    torch.manual_seed(0)
    model, batches = Crossed(), [torch.randn(5, 8) for _ in range(2)]
    other = copy.deepcopy(model)
    found = collected(model, batches)
    assert [min(group) for group in found][1] == "blocks.2.key"
    for got, want in zip(found, plainly(other, batches, [list(group) for group in found]), strict=True):
        for name, (hessian,) in got.items():
            torch.testing.assert_close(hessian, want[name], rtol=1e-4, atol=1e-4)


def test_a_weight_used_twice_in_one_call_sums_both_inputs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x)))

    torch.manual_seed(0)
    model, x = Twice(), torch.randn(5, 8)
    with torch.no_grad():
        y = torch.tanh(model.layer(x))
    ((hessian,),) = (list(group["layer"]) for group in collected(model, [x]))
    torch.testing.assert_close(hessian, x.T @ x + y.T @ y)
