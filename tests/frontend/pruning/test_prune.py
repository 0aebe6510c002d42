import copy

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import InputError, ModelError, PatternError, WeightError


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


@pytest.mark.parametrize("calibration", [None, [torch.ones(4, 32), torch.eye(32)]])
def test_a_shared_weight_is_pruned_once(calibration):
    first, second = nn.Linear(32, 32), nn.Linear(32, 32)
    second.weight = first.weight
    report = tb.prune(nn.Sequential(first, nn.ReLU(), second), "2:16", calibration=calibration)
    assert len(report.layers) == 1
    assert report.layers[0].also == ("2.weight",)
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


def batches(*shape, count=3):
    torch.manual_seed(1)
    return [torch.randn(*shape) for _ in range(count)]


def balanced(layer, pattern):
    encode(layer.weight.detach().float().numpy(), BalancedPattern.parse(pattern)).validate()


def error(pruned, model, data):
    with torch.no_grad():
        return sum(float((pruned(x) - model(x)).square().sum() / model(x).square().sum()) for x in data) / len(data)


def correlated(width, count=3):
    """Inputs whose elements depend on each other, as those of real layers do."""
    torch.manual_seed(2)
    mixing = torch.randn(width, width) @ torch.diag(torch.linspace(0.05, 2, width))
    return [torch.randn(40, width) @ mixing.T for _ in range(count)]


def test_calibration_loses_less_and_sparsegpt_the_least():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32)), correlated(64)
    lost = {}
    for method in ("magnitude", "wanda", "sparsegpt"):
        pruned = copy.deepcopy(model)
        report = tb.prune(pruned, "4:16", method=method, calibration=data)
        balanced(pruned[0], "4:16")
        balanced(pruned[2], "4:16")
        assert report.sparsity == 0.75
        lost[method] = error(pruned, model, data)
    assert lost["sparsegpt"] < 0.7 * lost["wanda"] < 0.7 * lost["magnitude"]


def test_with_calibration_data_the_method_is_sparsegpt():
    model, data = nn.Linear(32, 16), batches(8, 32)
    other = copy.deepcopy(model)
    report = tb.prune(model, "2:16", calibration=data)
    tb.prune(other, "2:16", method="sparsegpt", calibration=data)
    assert report.method == "sparsegpt"
    assert torch.equal(model.weight, other.weight)
    assert 0 < report.layers[0].error < 1
    assert "by sparsegpt" in str(report)
    assert "squared output lost" in str(report)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_are_calibrated(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32)).to(dtype)
    tb.prune(model, "4:16", calibration=[x.to(dtype) for x in batches(8, 64)])
    assert model[0].weight.dtype == dtype
    balanced(model[0], "4:16")
    balanced(model[2], "4:16")


@pytest.mark.parametrize("make", [lambda x: x, lambda x: (x,), lambda x: [x], lambda x: {"input": x}])
def test_batches_are_what_the_model_is_called_with(make):
    torch.manual_seed(0)
    model, same = nn.Linear(32, 16), nn.Linear(32, 16)
    same.load_state_dict(model.state_dict())
    data = batches(8, 32)
    tb.prune(model, "2:16", calibration=[make(x) for x in data])
    tb.prune(same, "2:16", calibration=data)
    assert torch.equal(model.weight, same.weight)


def test_a_data_loader_that_shuffles_gives_its_batches_once():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.ReLU()) for _ in range(3)))
    data = torch.utils.data.DataLoader(torch.randn(24, 32), batch_size=8, shuffle=True)
    report = tb.prune(model, "4:16", calibration=data)
    assert all(layer.error < 0.6 for layer in report.layers)


def test_modes_of_modules_and_gradients_are_as_before():
    model = nn.Sequential(nn.Linear(32, 32), nn.Dropout(), nn.Linear(32, 8))
    model[1].eval()
    tb.prune(model, "2:16", calibration=batches(8, 32))
    assert [module.training for module in model] == [True, False, True]
    assert torch.is_grad_enabled()
    assert all("forward" not in vars(module) and not module._forward_hooks for module in model.modules())


def test_every_layer_can_have_a_pattern_of_its_own():
    model = nn.ModuleDict({"a": nn.Linear(32, 32), "b": nn.Linear(32, 32), "c": nn.Linear(32, 32)})
    report = tb.prune(model, {"a": "2:16", "b*": "8:16", "c": None})
    assert [(layer.name, layer.pattern, layer.sparsity) for layer in report.layers] == [("a", "2:16", 0.875), ("b", "8:16", 0.5)]
    assert (model["c"].weight != 0).all()
    assert "patterns of their own" in str(report)


def test_what_no_batch_reaches_is_pruned_by_magnitude_and_named():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x):
            return self.used(x)

    model = Partly()
    report = tb.prune(model, "2:16", calibration=batches(8, 32))
    assert [layer.method for layer in report.layers] == ["sparsegpt", "magnitude"]
    assert "did not reach them: unused" in str(report)
    balanced(model.unused, "2:16")


def test_progress_is_told_layer_by_layer():
    lines = []
    tb.prune(nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 8)), "2:16", calibration=batches(8, 32), progress=lines.append)
    assert lines == ["1 of 2: 0", "2 of 2: 1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "wand"}, 'method is "wand"; give one of magnitude, wanda, sparsegpt'),
        ({"method": "wanda"}, "needs calibration data"),
        ({"calibration": 3}, "calibration is 3"),
        ({"calibration": []}, "no batches"),
        ({"calibration": ["text"]}, "a batch of the calibration data is str"),
        ({"calibration": [torch.zeros(3, 5)]}, "failed on batch 0"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        tb.prune(nn.Linear(32, 32), "2:16", **options)


def test_inputs_that_are_not_finite_are_refused():
    with pytest.raises(WeightError, match="layer Linear: its inputs on the calibration data hold NaN"):
        tb.prune(nn.Linear(32, 32), "2:16", calibration=[torch.full((4, 32), float("nan"))])


SMALL = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}


def transformers_model(name):
    """A tiny model of transformers with random weights, and a batch for it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ids = torch.randint(0, 64, (2, 12))
    if name == "gpt2":
        config = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=16)
        return transformers.GPT2LMHeadModel(config), {"input_ids": ids}
    if name == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, num_key_value_heads=2)), {"input_ids": ids}
    if name == "mixtral":
        config = transformers.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4)
        return transformers.MixtralForCausalLM(config), {"input_ids": ids}
    if name == "t5":
        config = transformers.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        return transformers.T5ForConditionalGeneration(config), {"input_ids": ids, "decoder_input_ids": ids}
    config = transformers.ViTConfig(**{k: v for k, v in SMALL.items() if k != "vocab_size"}, image_size=16, patch_size=4)
    return transformers.ViTForImageClassification(config), {"pixel_values": torch.randn(3, 3, 16, 16)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama", "mixtral", "t5", "vit"])
def test_calibration_reaches_every_layer_of_models_that_people_have(name):
    model, batch = transformers_model(name)
    report = tb.prune(model, "4:16", exclude=["lm_head"], calibration=[batch, batch])
    assert {layer.method for layer in report.layers} == {"sparsegpt"}, report
    assert all(layer.error < 1 for layer in report.layers)
    assert len(report.layers) >= 8
