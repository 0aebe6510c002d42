import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import ModelError, PatternError, WeightError
from tvm_balanced.frontend.pruning.magnitude import keep_mask


@given(st.data())
def test_every_block_keeps_exactly_its_largest(data):
    block = data.draw(st.integers(1, 40))
    pattern = BalancedPattern(data.draw(st.integers(1, block)), block)
    n, k = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 90))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    torch.manual_seed(data.draw(st.integers(0, 9)))
    weight = (torch.randn(n, k) * 2).round(decimals=data.draw(st.integers(0, 2))).to(dtype)  # rounding makes many ties
    mask = keep_mask(weight, pattern).numpy()
    magnitude = weight.float().abs().numpy()
    for start in range(0, k, block):
        width = min(block, k - start)
        for row in range(n):
            order = np.argsort(-magnitude[row, start : start + width], kind="stable")  # of equal magnitudes the first stays
            expected = np.zeros(width, bool)
            expected[order[: pattern.kept(width)]] = True
            np.testing.assert_array_equal(mask[row, start : start + width], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pruned_layer_has_the_pattern_and_keeps_its_values(dtype):
    torch.manual_seed(0)
    layer = nn.Linear(60, 30).to(dtype)
    before = layer.weight.detach().clone()
    report = tb.prune(layer, "2:16")
    kept = layer.weight != 0
    assert torch.equal(layer.weight[kept], before[kept])
    encode(layer.weight.detach().float().numpy(), BalancedPattern(2, 16)).validate()
    assert report.sparsity == pytest.approx(1 - float(kept.float().mean()))
    assert layer.weight.requires_grad


def test_include_exclude_and_report():
    model = nn.ModuleDict({"a": nn.Linear(32, 32), "b": nn.Linear(32, 32), "head": nn.Linear(32, 4), "norm": nn.LayerNorm(32)})
    report = tb.prune(model, "4:16", exclude=["head"])
    assert [layer.name for layer in report.layers] == ["a", "b"]
    assert (model["head"].weight != 0).all()
    assert "pruned 2 layers to 4:16: 75.00% zeros" in str(report)
    assert [layer.name for layer in tb.prune(model, "4:16", include=["h*"]).layers] == ["head"]
    assert [layer.name for layer in tb.prune(model, "4:16", include="h*").layers] == ["head"]


def test_a_shared_weight_is_pruned_once():
    first, second = nn.Linear(32, 32), nn.Linear(32, 32)
    second.weight = first.weight
    report = tb.prune(nn.Sequential(first, second), "2:16")
    assert len(report.layers) == 1
    assert report.layers[0].also == ("1.weight",)
    assert second.weight is first.weight


def test_a_tied_embedding_is_named_in_the_report():
    model = nn.ModuleDict({"embed": nn.Embedding(32, 16), "head": nn.Linear(16, 32), "free": nn.Linear(16, 32)})
    model["head"].weight = model["embed"].weight
    report = tb.prune(model, "2:16")
    assert [layer.also for layer in report.layers] == [("embed.weight",), ()]
    assert str(report).splitlines()[-1] == "the weight of head is also embed.weight: it is pruned there as well"
    assert float((model["embed"].weight == 0).float().mean()) == 0.875
    assert tb.prune(nn.Linear(16, 4), "2:16").layers[0].also == ()


def test_pruning_again_changes_nothing():
    layer = nn.Linear(64, 8)
    tb.prune(layer, "2:16")
    once = layer.weight.detach().clone()
    tb.prune(layer, "2:16")
    assert torch.equal(layer.weight, once)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_before_anything_is_pruned(value):
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        model[1].weight[3, 4] = value
    with pytest.raises(WeightError, match=r"layer 1: .* at \(3, 4\)"):
        tb.prune(model, "2:16")
    assert torch.equal(model[0].weight, before)


def test_nothing_to_prune():
    with pytest.raises(ModelError, match="nothing to prune"):
        tb.prune(nn.ReLU(), "2:16")
    with pytest.raises(ModelError, match="nothing to prune"):
        tb.prune(nn.Linear(4, 4), "2:16", include=["nope"])


def test_a_computed_weight_is_refused():
    layer = nn.Linear(32, 32)
    nn.utils.prune.l1_unstructured(layer, "weight", 0.5)
    with pytest.raises(ModelError, match="make it plain"):
        tb.prune(layer, "2:16")


def test_bad_pattern():
    with pytest.raises(PatternError):
        tb.prune(nn.Linear(4, 4), "17:16")


@pytest.mark.slow
def test_a_large_weight_takes_under_five_seconds():
    torch.manual_seed(0)
    weight = torch.randn(16384, 8192)
    start = time.thread_time()
    mask = keep_mask(weight, BalancedPattern(2, 16))
    assert time.thread_time() - start < 5  # of the CPU: what else runs does not count
    assert int(mask.sum()) == 16384 * 8192 // 8


def test_the_dense_layers_of_gpt2_are_pruned_along_their_inputs():
    """transformers stores their weights as (K, N)."""
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    torch.manual_seed(0)
    layer, linear = conv1d(24, 40), nn.Linear(40, 24)
    with torch.no_grad():
        linear.weight.copy_(layer.weight.T)
    (report,) = tb.prune(nn.Sequential(layer), "2:16").layers
    tb.prune(nn.Sequential(linear), "2:16")
    assert report.shape == (24, 40)
    assert torch.equal(layer.weight.T, linear.weight)
    assert torch.equal((layer.weight != 0).sum(0), torch.full((24,), 5))  # 2 + 2 of two blocks, 1 of the tail of 8


def test_other_layers_called_conv1d_are_left():
    with pytest.raises(ModelError, match="nothing to prune"):
        tb.prune(nn.Sequential(nn.Conv1d(4, 8, 3)), "2:16")
