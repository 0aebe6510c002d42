import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import tvm_balanced as tb
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import ModelError, WeightError
from tvm_balanced.frontend.module import import_module, plain_copy
from tvm_balanced.frontend.pruning.masks import keep_mask


def agree(model, args, **options):
    module = tb.compile(model, args, **options)
    with torch.no_grad():
        torch.testing.assert_close(module(*args), model(*args), rtol=1e-4, atol=1e-5)
    return module


class Mask(nn.Module):
    """As torch.ao.pruning's FakeSparsity: the weight is multiplied by a mask."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask


@pytest.mark.slow
def test_pruning_masks_are_folded_on_a_copy():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16)).train()
    for layer in (model[0], model[2]):
        prune.random_unstructured(layer, "weight", 0.9)
    keys = list(model.state_dict())
    report = agree(model, (torch.randn(4, 64),)).report
    assert [layer.layer for layer in report.layers] == ["0", "2"]
    assert all(layer.sparsity > 0.8 for layer in report.layers)
    assert list(model.state_dict()) == keys
    assert prune.is_pruned(model)
    assert model.training


def test_parametrizations_are_folded_on_a_copy():
    torch.manual_seed(0)
    layer = nn.Linear(64, 32)
    mask = torch.zeros(32, 64)
    mask[:, ::8] = 1
    parametrize.register_parametrization(layer, "weight", Mask(mask))
    model = nn.Sequential(layer)
    report = agree(model, (torch.randn(4, 64),)).report
    assert report.layers[0].pattern == "1:8"
    assert parametrize.is_parametrized(layer)


def test_copy_shares_what_needs_no_folding():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    prune.l1_unstructured(model[1], "weight", 0.5)
    copy = plain_copy(model)
    assert copy[0].weight is model[0].weight
    assert not prune.is_pruned(copy)
    assert (copy[1].weight == model[1].weight).all()


def test_the_user_s_model_keeps_its_mode_and_gradients():
    model = nn.Sequential(nn.Linear(32, 16), nn.Dropout(0.5)).train()
    x = torch.randn(3, 32)
    tb.compile(model, (x,))
    assert model.training
    assert model[1].training
    model(x).sum().backward()
    assert model[0].weight.grad is not None


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        tb.prune(self, "2:16")

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


@pytest.mark.slow
def test_shared_weights_stay_shared():
    module = agree(Shared(), (torch.randn(4, 64),))
    parts = [name.rpartition(".")[2] for name, _ in module.weights]
    assert sorted(parts) == ["bias", "bias", "indices", "values"]
    assert sum(layer.calls for layer in module.report.layers) == 2


def test_functional_linear_and_matmul_with_a_constant():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(24, 40))
            self.transposed = nn.Parameter(torch.randn(24, 16))

        def forward(self, x):
            return torch.addmm(torch.ones(16), nn.functional.linear(x, self.weight), self.transposed)

    module = agree(Model(), (torch.randn(5, 40),))
    assert [(layer.layer, layer.n, layer.k) for layer in module.report.layers] == [("weight", 24, 40), ("transposed", 16, 24)]


@pytest.mark.slow
def test_more_than_two_dimensions_and_several_outputs():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(32, 16), nn.Linear(16, 8)

        def forward(self, x, y):
            h = torch.nn.functional.silu(self.a(x))
            return self.b(h), h + y

    model, args = Model(), (torch.randn(2, 3, 32), torch.randn(2, 3, 16))
    module = tb.compile(model, args)
    got, want = module(*args), model(*args)
    assert isinstance(got, tuple)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_dynamic_batch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 48), nn.GELU(), nn.Linear(48, 10))
    tb.prune(model, "3:16")
    module = tb.compile(model, (torch.randn(4, 40),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert module.facts.inputs[0].shape[1] == 40
    for batch in (1, 2, 3, 5, 8, 33):
        x = torch.randn(batch, 40)
        torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.avx2
def test_kernels_are_chosen_by_the_batch_of_a_call(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 10))
    tb.prune(model, "8:16")
    options = {"dynamic_shapes": ({0: torch.export.Dim("batch", max=64)},), "target": "cpu/x86-64-v3", "threads": 1}
    module = tb.compile(model, (torch.randn(4, 64),), **options)
    first, last = module.report.layers[:2]
    assert (first.kernel, last.kernel, first.rows.last + 1) == ("cpu_avx2", "cpu_dense", last.rows.first)
    assert "2 of 2 layers run in sparse kernels; 2 choose their kernel by M at the call, and keep 2 copies" in str(module.report)
    assert module.report == tb.inspect(model, (torch.randn(4, 64),), **options)
    module.save(tmp_path / "artifact")
    loaded = tb.load(tmp_path / "artifact")
    assert loaded.report == module.report
    for batch in (1, first.rows.last, last.rows.first, 33, 64):
        x = torch.randn(batch, 64)
        torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-5)
        rows = {row.name: row for row in loaded.profile(x, rounds=2).rows}
        part = first if batch <= first.rows.last else last
        assert rows["0"].kernel == part.kernel
        assert rows["0"].macs == batch * (48 * 64 // 2 if part is first else 48 * 64)
        # x, the weight of this kernel alone, and y
        weight = 48 * 64 // 2 * 4.5 if part is first else 48 * 64 * 4
        assert rows["0"].nbytes == pytest.approx(weight + 4 * batch * (64 + 48), rel=0.35)
    alone = tb.compile(model, (torch.randn(4, 64),), copies=1, **options)
    assert [str(row.rows) for row in alone.report.layers] == ["any", "any"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        nn.LSTM(32, 48, batch_first=True),
        nn.TransformerEncoderLayer(64, 4, 128, batch_first=True),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    ],
    ids=["lstm", "transformer", "convolution"],
)
def test_models_of_other_kinds(model):
    torch.manual_seed(0)
    shape = {"LSTM": (2, 5, 32), "TransformerEncoderLayer": (2, 6, 64)}.get(type(model).__name__, (2, 3, 16, 16))
    x = torch.randn(shape)
    model.eval()
    module = tb.compile(model, (x,))
    got, want = module(x), model(x)
    if isinstance(model, nn.LSTM):
        got, want = got[0], want[0]
        assert {layer.layer for layer in module.report.layers} == {"weight_ih_l0", "weight_hh_l0"}
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_an_encoder_with_a_padding_mask_is_pytorchs(dtype):
    """Eager PyTorch fills padded places with 0 before the last norm, but not where padding comes first."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 1, nn.LayerNorm(32)).eval(), torch.randn(2, 6, 32)
    nn.init.normal_(model.norm.bias)
    last = torch.arange(6) >= torch.tensor([[6], [4]])
    masks = [last, last.flip(1), torch.zeros_like(last)]
    if dtype != torch.bool:
        masks = [torch.zeros(2, 6).masked_fill(mask, -torch.inf) for mask in masks]
    module = tb.compile(model, (x,), {"src_key_padding_mask": masks[0]}, threads=1)
    for mask in masks:
        with torch.no_grad():
            want = model(x, src_key_padding_mask=mask)
        torch.testing.assert_close(module(x, src_key_padding_mask=mask), want, rtol=1e-4, atol=1e-5)
    assert torch.equal(module(x, src_key_padding_mask=masks[0])[last], model.norm.bias.detach().expand(2, 32))


class Exported(nn.Module):
    """Another way while it is traced."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x) * (2 if torch.compiler.is_exporting() else 1)


def test_a_model_that_is_traced_otherwise_than_it_runs_is_refused():
    model, x = Exported().eval(), torch.randn(2, 8)
    with pytest.raises(ModelError, match=r"output_0 of the program that torch\.export made differs") as error:
        tb.compile(model, (x,), threads=1)
    assert "computes something else while it is exported" in str(error.value)
    assert "\n" not in str(error.value)
    module = tb.compile(torch.export.export(model, (x,)), threads=1)  # as the sentence says
    torch.testing.assert_close(module(x), 2 * model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_compile(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 8)).to(dtype)
    tb.prune(model, "2:16")
    x = torch.randn(3, 32).to(dtype)
    module = tb.compile(model, (x,))
    torch.testing.assert_close(module(x).float(), model(x).float(), rtol=5e-2, atol=5e-2)
    assert all(layer.kernel != "tvm" for layer in module.report.layers)


def test_double_precision_models_compile_dense():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 8, bias=False), nn.Softmax(-1)).double()
    tb.prune(model, "2:16")
    x = torch.randn(3, 32).double()
    module = tb.compile(model, (x,))
    torch.testing.assert_close(module(x), model(x), rtol=1e-12, atol=1e-14)
    assert {(layer.kernel, layer.verdict) for layer in module.report.layers} == {("tvm", "dense")}
    assert all("float64" in layer.reason for layer in module.report.layers)


@pytest.mark.slow
def test_a_layer_on_a_constant_is_not_run_while_compiling():
    """As in a recurrent network without a given state: TVM folds constants with code for a CPU without AVX-512."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(64, 64)
            tb.prune(self, "2:16")

        def forward(self, x):
            return x + self.a(torch.zeros(2, 64))

    agree(Model(), (torch.randn(2, 64),))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_pruned_recurrent_network(cell):
    torch.manual_seed(0)
    model = cell(64, 64, num_layers=2, batch_first=True).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("weight"):
                parameter.mul_(keep_mask(parameter, BalancedPattern(2, 16)))
    x = torch.randn(2, 3, 64)
    module = tb.compile(model, (x,))
    torch.testing.assert_close(module(x)[0], model(x)[0], rtol=1e-4, atol=1e-5)
    assert all(layer.verdict == "sparse" for layer in module.report.layers)


@pytest.mark.slow
def test_equal_layers_in_half_precision_stay_apart():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(3))).to(torch.bfloat16)
    module = tb.compile(model, (torch.randn(2, 64).to(torch.bfloat16),))
    assert [layer.layer for layer in module.report.layers] == ["0", "1", "2"]


@pytest.mark.slow
def test_training_on_does_not_change_a_compiled_module():
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 64))
    x = torch.randn(3, 64)
    module = tb.compile(model, (x,))
    before = module(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    assert torch.equal(module(x), before)


def test_a_bias_that_is_a_part_of_another():
    first, second = nn.Linear(32, 64), nn.Linear(64, 32)
    second.bias = nn.Parameter(first.bias.detach()[:32])
    agree(nn.Sequential(first, second), (torch.randn(3, 32),))


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return x + self.calls


class Sizes(nn.Module):
    def forward(self, x):
        return x, x.shape[0]


@pytest.mark.slow
def test_what_a_module_cannot_be_is_said():
    model = Counts()
    with pytest.raises(ModelError, match='changes its buffer "calls"'):
        tb.compile(model, (torch.randn(2, 3),))
    assert model.calls == 0
    with pytest.raises(ModelError, match=r'the model returns s\d+ as "output_1"; every output must be a tensor, or the same'):
        tb.compile(Sizes(), (torch.randn(2, 3),), dynamic_shapes=({0: torch.export.Dim("batch")},))


def test_a_tensor_alone_is_taken_as_the_only_argument():
    model, x = nn.Linear(8, 4), torch.randn(1, 8)
    torch.testing.assert_close(tb.compile(model, x)(x), model(x))


def test_keyword_arguments():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(8, 4)

        def forward(self, x, *, scale):
            return self.a(x) * scale

    model, x, scale = Model(), torch.randn(2, 8), torch.tensor([2.0])
    module = tb.compile(model, (x,), {"scale": scale})
    torch.testing.assert_close(module(x, scale=scale), model(x, scale=scale))
    torch.testing.assert_close(module(scale=scale, x=x), model(x, scale=scale))


def test_a_weight_that_is_not_finite_is_refused():
    model = nn.Linear(32, 8)
    with torch.no_grad():
        model.weight[2, 3] = float("nan")
    with pytest.raises(WeightError, match=r"at \(2, 3\)"):
        tb.compile(model, (torch.randn(2, 32),))


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("inside the model")


@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        (Fails(), (torch.ones(2),), "cannot export Fails"),
        ("nowhere.pt2", (), "not a file"),
        (42, (), "give a torch.nn.Module"),
    ],
)
def test_what_cannot_be_imported_gets_one_sentence(model, args, message):
    with pytest.raises(tb.TvmBalancedError, match=message) as error:
        tb.compile(model, args)
    assert "\n" not in str(error.value)


def test_a_dynamic_dimension_of_one_gets_advice():
    class Fixed(nn.Module):
        def forward(self, x):
            return x + torch.zeros(1, 3) if x.shape[0] == 1 else x

    with pytest.raises(ModelError, match="2 or more"):
        tb.compile(Fixed(), (torch.ones(1, 3),), dynamic_shapes=({0: torch.export.Dim("batch")},))


@pytest.mark.slow
def test_dynamic_batch_and_length_of_a_transformer():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    tb.prune(model, "4:16")
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    module = tb.compile(model, (torch.randn(3, 6, 64),), dynamic_shapes=({0: batch, 1: length},))
    for shape in ((1, 1, 64), (2, 7, 64), (5, 33, 64)):
        x = torch.randn(shape)
        torch.testing.assert_close(module(x), model(x), rtol=1e-3, atol=1e-4)


def test_weights_are_shared_not_copied():
    model = nn.Linear(64, 64)
    imported = import_module(model, (torch.randn(2, 64),))
    assert model.weight.data_ptr() in imported.weight_names
    assert imported.weight_names[model.weight.data_ptr()] == "weight"
    np.testing.assert_allclose(
        imported.main.reference(imported.main.examples)[0],
        model(torch.from_numpy(imported.main.examples[0])).detach().numpy(),
        rtol=1e-5,
    )
