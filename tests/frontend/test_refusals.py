"""What torch cannot export: the sentence, and that the way it names works."""

import importlib
import warnings

import numpy as np
import pytest
import torch
from support.advice import Forward
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError

Dim = torch.export.Dim


def sentence(model, args=(), kwargs=None, **options):
    with pytest.raises((InputError, ModelError)) as error:
        tb.compile(model, args, kwargs, threads=1, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def fake():
    with FakeTensorMode():
        return torch.randn(2, 8)


PACKED = nn.utils.rnn.pack_padded_sequence(torch.ones(2, 5, 8), torch.tensor([5, 3]), batch_first=True)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (np.ones((2, 8), np.float32), "args[0] is a NumPy array; give torch tensors"),
        (fake(), "args[0] is a tensor without data"),
        (torch.ones(2, 8, device="meta"), "args[0] is a tensor without data"),
        (torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)]), "args[0] is a nested tensor; give a padded one"),
        (torch.ones(2, 8).to_sparse(), "args[0] is a sparse tensor; give x.to_dense()"),
        (PACKED, "args[0] is a PackedSequence; give padded tensors"),
    ],
)
def test_an_example_that_is_no_tensor_with_data(example, message):
    assert message in sentence(nn.Linear(8, 4), (example,))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 32)

    def forward(self, x, scale=None, double=False):
        y = self.layer(x) * (1 if scale is None else scale) * (2 if double else 1)
        return y, None


@pytest.mark.slow
def test_what_is_no_tensor_is_fixed():
    model, x = Scaled().eval(), torch.randn(3, 64)
    module = tb.compile(model, (x, 0.5), {"double": True}, threads=1)
    for args, kwargs in [((x, 0.5, True), {}), ((x,), {}), ((x, 0.5), {"double": True}), ((), {"x": x, "scale": 0.5})]:
        y, nothing = module(*args, **kwargs)
        torch.testing.assert_close(y, model(x, 0.5, True)[0], rtol=1e-4, atol=1e-5)
        assert nothing is None
    for args, kwargs, message in [
        ((x, 0.25), {}, "scale is 0.25, and was fixed to 0.5"),
        ((x,), {"double": 1}, "double is 1, and was fixed to True"),
        ((x, torch.ones(1)), {}, "scale is a Tensor, and was fixed to 0.5"),
        ((x,), {"half": True}, '"half" is unknown'),
        ((None,), {}, "input x is NoneType; give a torch tensor"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            module(*args, **kwargs)
        assert "\n" not in str(error.value)
    plain = tb.compile(model, (x,), threads=1)  # defaults are fixed as well
    torch.testing.assert_close(plain(x, None, double=False)[0], model(x)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="double is True, and was fixed to False"):
        plain(x, double=True)


@pytest.mark.grid
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda y: y if y.mean() > 0 else -y, "choose by torch.where"),
        (lambda y, z: y, "it does not run on the examples (TypeError"),
        (lambda y: torch.unique(y), "returns as many elements as the values say"),
        (lambda y: torch.from_numpy(y.detach().numpy()), "it computes with NumPy"),
        (lambda y: y @ torch.ones(8, 8, dtype=torch.float64), "it does not run on the examples (RuntimeError"),
        (lambda y: torch.linalg.inv(y), "aten.linalg_inv_ex.default in the model itself cannot be imported"),
        (
            lambda y: torch.cond(y.sum() > 0, torch.special.digamma, torch.neg, (y,)),
            "aten.digamma.default in the model itself cannot be imported (TVM's importer does not know it)",
        ),
        (
            lambda y: torch.cond(y.sum() > 0, lambda v: torch.unique(v).sum() + v, torch.neg, (y,)),
            "aten._unique2.default in the model itself returns as many elements as the values say",
        ),
    ],
)
def test_what_a_forward_does(function, said):
    assert said in sentence(Forward(function), (torch.randn(8, 8),))


def test_other_models_and_examples():
    model, x = nn.Linear(8, 8), torch.randn(2, 8)
    assert "the model is TorchScript" in sentence(torch.jit.script(model), (x,))
    assert "weight weight is float8_e4m3fn" in sentence(nn.Linear(8, 8).to(torch.float8_e4m3fn), (x,))
    assert "args[1] is of type object" in sentence(Forward(lambda y, z: y), (x, object()))
    assert "dynamic_shapes does not fit the examples" in sentence(model, (x,), dynamic_shapes={"y": {0: Dim("b")}})


def test_an_empty_tensor_without_dimensions_is_passed_over():
    model, x = Forward(lambda y: torch.cat([torch.tensor([]), y, y], 1)), torch.randn(2, 8)
    torch.testing.assert_close(tb.compile(model, (x,), threads=1)(x), model(x).detach(), rtol=1e-4, atol=1e-5)


class Nested(nn.Module):
    def forward(self, x, state, named):
        return x + state[0] - 2 * state[1] + 3 * named["b"] - 4 * named["a"]


def test_nested_arguments_are_given_as_the_model_takes_them():
    x, h, c, a, b = torch.randn(5, 2, 8).unbind()
    model = Nested()
    module = tb.compile(model, (x, (h, c), {"b": b, "a": a}), threads=1)
    expected = model(x, (h, c), {"b": b, "a": a})
    for args, kwargs in [
        ((x, (h, c), {"b": b, "a": a}), {}),
        ((x, [h, c], {"a": a, "b": b}), {}),
        ((x,), {"state": (h, c), "named": {"a": a, "b": b}}),
        ((x, h, c, b, a), {}),
    ]:
        torch.testing.assert_close(module(*args, **kwargs), expected)
    with pytest.raises(InputError, match="a dict with a, z was given where the model takes named_b, named_a"):
        module(x, (h, c), {"a": a, "z": b})


class Halves(nn.Module):
    def forward(self, x, y):
        return x.reshape(16, -1) + y


def test_the_constraint_of_a_dynamic_dimension_is_named():
    x = torch.ones(16, 4)
    said = sentence(Halves(), (x, x), dynamic_shapes=({0: Dim("batch")}, None))
    assert "You marked batch as dynamic but your code specialized it to be a constant (16)" in said
    assert "batch = 16" in said
    assert "2 or more" not in said
    said = sentence(nn.Linear(4, 4), (torch.ones(1, 4),), dynamic_shapes=({0: Dim("batch")},))
    assert "give examples whose dynamic dimensions are 2 or more" in said
    said = sentence(nn.Linear(4, 4), (x[:3],), dynamic_shapes=({0: Dim("batch", min=4)},))
    assert "3 not in range [4" in said


class Packs(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


class Padded(Packs):
    def forward(self, x, lengths):
        return self.rnn(x)[0] * (torch.arange(x.shape[1]) < lengths[:, None])[:, :, None]


def test_packed_sequences():
    x, lengths = torch.randn(2, 5, 8), torch.tensor([5, 3])
    assert "it packs sequences by their lengths" in sentence(Packs(), (x, lengths))
    model = Packs().eval()
    padded = Padded().eval()
    padded.load_state_dict(model.state_dict())
    torch.testing.assert_close(tb.compile(padded, (x, lengths), threads=1)(x, lengths), model(x, lengths), rtol=1e-4, atol=1e-5)


def test_a_quantised_model_is_told_the_kernel_for_8_bits():
    model, x = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)).eval(), torch.randn(2, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves it to torchao
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    said = sentence(quantised, (x,))
    assert "it is quantised (layer 0 is torch.ao.nn.quantized.dynamic" in said
    assert 'kernels={"*": "cpu_avx512_i8"}' in said


class RoundedRows(nn.Module):
    """The graph of torchao's Int8DynamicActivationInt8WeightConfig: rows of x are rounded in the call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(16, 32, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(16))

    def forward(self, x):
        scale = x.abs().amax(-1, keepdim=True) / 127
        return torch._int_mm((x / scale).round().to(torch.int8), self.weight.t()) * scale * self.scale


class RoundedLayer(nn.Module):
    """The graph that pt2e's convert_pt2e leaves of a linear layer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(16, 32, dtype=torch.int8))

    def forward(self, x):
        rounded, limits = torch.ops.quantized_decomposed, (0.02, 3, -128, 127, torch.int8)
        x = rounded.dequantize_per_tensor(rounded.quantize_per_tensor(x, *limits), *limits)
        return nn.functional.linear(x, rounded.dequantize_per_tensor(self.weight, *limits))


@pytest.mark.parametrize("model", [RoundedRows(), RoundedLayer()], ids=["int8 dynamic activation", "pt2e"])
def test_a_graph_that_was_quantised_is_told_the_kernel_for_8_bits(model):
    importlib.import_module("torch.ao.quantization.fx._decomposed")  # registers the operators
    said = sentence(model, (torch.randn(32, 32),))
    assert "is that of a quantised model; give the model with its float weights" in said
    assert 'kernels={"*": "cpu_avx512_i8"}' in said


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_weights_in_a_sparse_layout_are_taken_as_dense_ones(layout):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)).eval(), torch.randn(4, 64)
    tb.prune(model, "2:16")
    expected = model(x)
    model[0].weight = nn.Parameter(getattr(model[0].weight.detach(), layout)(), requires_grad=False)
    model.register_buffer("unused", torch.eye(4).to_sparse())
    module = tb.compile(model, (x,), threads=1)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)
    assert module.report.layers[0].sparsity == pytest.approx(0.875)
    assert model[0].weight.layout != torch.strided


def llama():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, intermediate_size=128, vocab_size=100
    )
    return transformers.LlamaForCausalLM(config).eval()


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_embd=64, n_layer=1, n_head=2, vocab_size=100, n_positions=64, bos_token_id=1, eos_token_id=1
    )
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("make", [llama, gpt2])
def test_causal_language_models_of_any_length(make):
    model, ids = make(), torch.randint(0, 100, (2, 16))
    model.config.use_cache = False
    examples = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    module = tb.compile(model, (), examples, threads=1, dynamic_shapes={name: {1: Dim.DYNAMIC} for name in examples})
    for length in (16, 7):
        given = {name: tensor[:, :length].contiguous() for name, tensor in examples.items()}
        torch.testing.assert_close(module(**given).logits, model(**given).logits, rtol=1e-3, atol=1e-4)
