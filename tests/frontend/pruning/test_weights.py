import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.weight_matrix import weight_matrix
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.pruning.weights import prunable_weights


class Experts(nn.Module):
    """Experts in one parameter each, as transformers holds them."""

    def __init__(self, transposed):
        super().__init__()
        self.is_transposed = transposed
        self.up = nn.Parameter(torch.randn(*((3, 32, 48) if transposed else (3, 48, 32))))

    def forward(self, x):
        return torch.stack([x @ (w if self.is_transposed else w.T) for w in self.up]).sum(0)


# module, its arguments, and the names and shapes (N, K) of what is pruned
LAYERS = {
    "linear": (nn.Linear(32, 24), 1, {"Linear": (24, 32)}),
    "attention": (
        nn.MultiheadAttention(32, 4, batch_first=True),
        3,
        {"in_proj_weight": (96, 32), "out_proj": (32, 32)},
    ),
    "attention with other keys": (
        nn.MultiheadAttention(32, 4, kdim=32, vdim=48, batch_first=True),
        None,
        {"q_proj_weight": (32, 32), "k_proj_weight": (32, 32), "v_proj_weight": (32, 48), "out_proj": (32, 32)},
    ),
    "conv1d": (nn.Conv1d(16, 24, 3, padding=1), "channels", {"Conv1d": (24, 48)}),
    "conv2d": (nn.Conv2d(16, 24, (3, 2), stride=2, dilation=(1, 2)), "image", {"Conv2d": (24, 96)}),
    "grouped conv2d": (nn.Conv2d(16, 24, 3, groups=2), "image", {"Conv2d": (24, 72)}),
    "lstm": (
        nn.LSTM(32, 16, proj_size=8),
        1,
        {"weight_ih_l0": (64, 32), "weight_hh_l0": (64, 8), "weight_hr_l0": (8, 16)},
    ),
    "gru": (
        nn.GRU(32, 16, bidirectional=True),
        1,
        {f"weight_{kind}_l0{way}": (48, k) for way in ("", "_reverse") for kind, k in (("ih", 32), ("hh", 16))},
    ),
    "lstm cell": (nn.LSTMCell(32, 16), "rows", {"weight_ih": (64, 32), "weight_hh": (64, 16)}),
    "bilinear": (nn.Bilinear(4, 32, 6), "two", {"Bilinear": (24, 32)}),
    "experts": (Experts(False), 1, {"up": (144, 32)}),
    "transposed experts": (Experts(True), 1, {"up": (144, 32)}),
}


def arguments(kind):
    torch.manual_seed(1)
    return {
        1: lambda: (torch.randn(5, 3, 32),),
        3: lambda: (torch.randn(5, 3, 32),) * 3,
        None: lambda: (torch.randn(5, 3, 32), torch.randn(5, 4, 32), torch.randn(5, 4, 48)),
        "rows": lambda: (torch.randn(9, 32),),
        "two": lambda: (torch.randn(9, 4), torch.randn(9, 32)),
        "channels": lambda: (torch.randn(9, 16, 7),),
        "image": lambda: (torch.randn(9, 16, 8, 8),),
    }[kind]()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_is_pruned_along_its_inputs(name, method):
    torch.manual_seed(0)
    module, kind, shapes = LAYERS[name]
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    report = tb.prune(module, "2:8", method=method, calibration=[arguments(kind) for _ in range(4)])
    assert {layer.name: layer.shape for layer in report.layers} == shapes
    assert {layer.method for layer in report.layers} == {method}  # the calibration data reach all of them
    for weight in prunable_weights(module):
        kept = (weight.matrix() != 0).reshape(-1, weight.matrix().shape[1]).split(8, dim=1)
        assert all((block.sum(1) == BalancedPattern(2, 8).kept(block.shape[1])).all() for block in kept)


def test_a_convolution_is_pruned_as_the_compiler_sees_it():
    layer = nn.Conv2d(16, 8, 3)
    tb.prune(layer, "4:16")
    kept = weight_matrix(layer.weight.detach()) != 0
    assert (kept.reshape(8, 9, 16).sum(2) == 4).all()  # a block is one tap


def test_depthwise_convolutions_embeddings_and_tables_are_left():
    model = nn.ModuleDict({"depthwise": nn.Conv2d(16, 16, 3, groups=16), "embed": nn.Embedding(32, 16)})
    model.table = nn.Parameter(torch.randn(4, 8, 8))
    with pytest.raises(ModelError, match="nothing to prune"):
        tb.prune(model, "2:16")
    assert [layer.name for layer in tb.prune(model, "2:16", embeddings=True).layers] == ["embed"]


def test_three_dimensional_parameters_are_experts_if_their_module_says_so_or_they_are_named():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.randn(4, 16, 32))

    class MixtureOfExperts(Mixture):
        pass

    assert [w.name for w in prunable_weights(MixtureOfExperts())] == ["up"]
    assert list(prunable_weights(Mixture())) == []
    assert [w.name for w in prunable_weights(Mixture(), include=["up"])] == ["up"]


def test_parameters_are_asked_for_by_name():
    lstm = nn.Sequential(nn.LSTM(16, 16, num_layers=2))
    assert [w.name for w in prunable_weights(lstm, include=["*_hh_*"])] == ["0.weight_hh_l0", "0.weight_hh_l1"]
    assert [w.name for w in prunable_weights(lstm, exclude=["0.weight_hh_l0"])] == [
        "0.weight_ih_l0",
        "0.weight_ih_l1",
        "0.weight_hh_l1",
    ]
    assert len(list(prunable_weights(lstm, include=["0"]))) == 4
