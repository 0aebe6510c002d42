import torch
from torch import nn

import tvm_balanced as tb


class Tables(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 16, 16))
        self.table = nn.Parameter(torch.randn(16, 16))


def model():
    parts = {
        "fc": nn.Linear(16, 16),
        "head": nn.Linear(16, 16),
        "embed": nn.Embedding(20, 16),
        "conv": nn.Conv2d(3, 8, 3),
        "up": nn.ConvTranspose1d(8, 4, 2),
        "attention": nn.MultiheadAttention(16, 2),
        "lstm": nn.LSTM(16, 8),
        "cell": nn.GRUCell(16, 8),
        "bilinear": nn.Bilinear(16, 16, 4),
        "tables": Tables(),
        "depthwise": nn.Conv1d(4, 4, 3, groups=4),
        "volume": nn.Conv3d(4, 4, 3),
        "norm": nn.LayerNorm(16),
    }
    return nn.ModuleDict(parts)


def test_every_weight_is_pruned_or_named_with_a_reason():
    net = model()
    before = {name: value.clone() for name, value in net.named_parameters()}
    report = tb.prune(net, "2:16", exclude=["head"])
    names = {name for name, _ in net.named_parameters()}
    pruned = {layer.name if layer.name in names else f"{layer.name}.weight" for layer in report.layers}
    skipped = {weight.name: weight for weight in report.skipped}
    assert {"fc.weight", "conv.weight", "attention.in_proj_weight", "lstm.weight_hh_l0", "bilinear.weight"} < pruned
    assert pruned | set(skipped) == {name for name, value in net.named_parameters() if value.dim() > 1}
    assert not pruned & set(skipped)
    assert all(weight.shape == tuple(before[name].shape) for name, weight in skipped.items())
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters() if name in skipped)
    reasons = {
        "head.weight": "include, exclude or the patterns",
        "embed.weight": "lookup",
        "up.weight": "transposed convolutions",
        "depthwise.weight": "each channel by itself",
        "volume.weight": "three dimensions",
        "tables.w": "Tables holds it in 3 dimensions",
        "tables.table": "Tables is not a layer that is pruned",
    }
    assert set(skipped) == set(reasons)
    for name, words in reasons.items():
        assert words in skipped[name].reason


def test_the_report_prints_what_was_left():
    text = str(tb.prune(model(), "2:16"))
    assert "not pruned: 6 weights" in text
    assert any(line.split()[:2] == ["embed.weight", "20x16"] for line in text.splitlines())
    assert "not pruned" not in str(tb.prune(nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16)), "2:16"))


def test_a_shared_weight_is_no_skipped_one():
    net = nn.ModuleDict({"embed": nn.Embedding(16, 16), "head": nn.Linear(16, 16)})
    net["head"].weight = net["embed"].weight
    assert tb.prune(net, "2:16").skipped == ()


def test_parameters_of_one_memory_are_one_weight():
    """As after `tie_weights` that makes a new parameter of the other's data."""
    net = nn.ModuleDict({"embed": nn.Embedding(16, 16), "head": nn.Linear(16, 16), "up": nn.ConvTranspose1d(8, 4, 2)})
    net["head"].weight = nn.Parameter(net["embed"].weight.data)
    net["again"] = nn.ConvTranspose1d(8, 4, 2)
    net["again"].weight = nn.Parameter(net["up"].weight.data)
    report = tb.prune(net, "2:16")
    assert [weight.name for weight in report.skipped] == ["up.weight"]
    assert report.layers[0].also == ("embed.weight",)
