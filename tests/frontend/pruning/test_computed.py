import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import tvm_balanced as tb
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.pruning.computed import computed_weights


class Halved(nn.Module):
    """A parametrization of a user's own, with a parameter of two dimensions."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, 1), 0.5))

    def forward(self, x):
        return x * self.scale


def halved(layer, name="weight"):
    return parametrize.register_parametrization(layer, name, Halved())


def old_weight_norm(layer):
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


# what computes a weight: how it is put on a layer, and what the report says about it
TOOLS = {
    "weight norm": (parametrizations.weight_norm, "WeightNorm computes it"),
    "weight norm along taps": (lambda layer: parametrizations.weight_norm(layer, dim=2), "WeightNorm computes it"),
    "spectral norm": (parametrizations.spectral_norm, "SpectralNorm computes it"),
    "own": (halved, "Halved computes it"),
    "two": (lambda layer: halved(parametrizations.weight_norm(layer)), "WeightNorm and Halved computes it"),
    "old weight norm": (old_weight_norm, "WeightNorm computes it"),
    "old spectral norm": (nn.utils.spectral_norm, "SpectralNorm computes it"),
    "mask": (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), "a mask of torch.nn.utils.prune computes it"),
    "masks": (lambda layer: twice_masked(layer), "a mask of torch.nn.utils.prune computes it"),
}


def twice_masked(layer):
    return prune.random_unstructured(prune.l1_unstructured(layer, "weight", 0.5), "weight", 0.5)


def model(tool):
    torch.manual_seed(0)
    return nn.Sequential(tool(nn.Conv1d(16, 32, 3)), nn.ReLU(), nn.Conv1d(32, 32, 1)).eval()


@pytest.mark.parametrize("kind", TOOLS)
def test_a_computed_weight_is_left_and_the_report_says_how_to_prune_it(kind):
    tool, words = TOOLS[kind]
    net, x = model(tool), torch.randn(2, 16, 10)
    net(x)  # the old hooks compute a weight in calls alone
    before = net[0].weight.detach().clone()
    report = tb.prune(net, "4:16", calibration=[x])
    assert [layer.name for layer in report.layers] == ["2"]
    assert [(weight.name, weight.shape) for weight in report.skipped] == [("0.weight", (32, 16, 3))]
    assert torch.equal(net[0].weight, before)
    reason = report.skipped[0].reason
    assert words in reason
    exec(reason.partition("make it plain: ")[2], {"torch": torch, "layer": net[0]})  # the advice, as it stands
    assert not computed_weights(net[0])
    torch.testing.assert_close(net[0].weight.detach(), before)
    report = tb.prune(net, "4:16", calibration=[x])
    assert [layer.name for layer in report.layers] == ["0", "2"]
    assert report.layers[0].sparsity >= 0.75


def test_such_a_model_compiles():
    net, x = model(TOOLS["weight norm"][0]), torch.randn(2, 16, 10)
    tb.prune(net, "4:16")
    with torch.inference_mode():
        torch.testing.assert_close(tb.compile(net, (x,), threads=1)(x), net(x), rtol=1e-4, atol=1e-4)


def test_if_no_other_weight_is_left_the_error_says_how_to_make_one_plain():
    layer = parametrizations.weight_norm(nn.Linear(32, 32))
    with pytest.raises(ModelError, match=r"Linear is computed by WeightNorm, .*remove_parametrizations\(layer"):
        tb.prune(layer, "2:16")
    net = nn.ModuleDict({name: parametrizations.weight_norm(nn.Linear(32, 32)) for name in "abc"} | {"d": nn.Linear(32, 32)})
    with pytest.raises(ModelError, match="layer a is computed by WeightNorm, as are those of 2 other layers"):
        tb.prune(net, "2:16", exclude="d")
    with pytest.raises(ModelError, match="layer b is computed by WeightNorm, and no other is left"):
        tb.prune(net, "2:16", include="b")


def test_one_computed_weight_of_a_recurrent_layer_leaves_the_others():
    lstm = parametrizations.weight_norm(nn.LSTM(32, 16), "weight_hh_l0")
    report = tb.prune(lstm, "4:16")
    assert [layer.name for layer in report.layers] == ["weight_ih_l0"]
    assert [weight.name for weight in report.skipped] == ["weight_hh_l0"]
    masked = nn.LSTM(32, 16)
    prune.l1_unstructured(masked, "weight_ih_l0", 0.5)
    assert [layer.name for layer in tb.prune(masked, "4:16").layers] == ["weight_hh_l0"]


def test_a_layer_that_is_never_pruned_keeps_its_own_reason():
    up, norm = parametrizations.weight_norm(nn.ConvTranspose1d(8, 4, 2)), halved(nn.LayerNorm((4, 4), bias=False))
    net = nn.Sequential(nn.Linear(16, 16), up, norm)
    reasons = {weight.name: weight.reason for weight in tb.prune(net, "4:16").skipped}
    assert reasons == {
        "1.weight": "transposed convolutions are not pruned",
        "2.weight": "LayerNorm is not a layer that is pruned",
    }


def test_training_and_allocation_leave_it_as_well():
    net, x = model(TOOLS["weight norm"][0]), torch.randn(2, 16, 10)
    assert list(tb.allocate(net, [x], sparsity=0.5)) == ["2"]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    pruning = tb.GradualPruning(net, optimizer, "4:16", steps=1)
    net(x).sum().backward()
    optimizer.step()
    assert set(pruning.masks()) == {"2"}
    assert bool((net[0].weight != 0).all())
