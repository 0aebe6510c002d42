from collections.abc import Callable

import pytest
import torch
from torch import _ops, nn
from torch._export import utils
from torch.export import exported_program

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.frontend.decompositions import DEVICES, LISTING, OVERRIDE, encoder_layer


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_torch_lists_its_operators_once_for_each_model(monkeypatch):
    listed, original = [], getattr(utils, LISTING)

    def counted():
        listed.append(original())

    monkeypatch.setattr(utils, LISTING, counted)
    for models in (1, 2):
        import_model(Apply(torch.tanh), (torch.ones(2, 3),))
        assert len(listed) == models
    assert getattr(utils, LISTING) is counted


def test_torch_makes_few_types_for_each_model(monkeypatch):
    made, callable_type = [], type(Callable[[int], int])
    original = callable_type.__new__
    monkeypatch.setattr(callable_type, "__new__", lambda cls, *args: made.append(args) or original(cls, *args))
    import_model(Apply(torch.tanh), (torch.ones(2, 3),))
    assert len(made) < 5000  # 24,500 by itself, and 1,600 of what else torch does
    assert _ops.Callable is Callable


def test_an_operator_that_is_registered_between_two_models_is_taken_apart():
    import_model(Apply(torch.tanh), (torch.ones(2, 3),))
    library = torch.library.Library("tvm_balanced_tests", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x + x, "CompositeImplicitAutograd")
    mod = import_model(Apply(lambda x: torch.ops.tvm_balanced_tests.twice(x)), (torch.ones(2, 3),)).mod
    assert "R.add(x, x)" in mod.script()


def test_torch_registers_operators_for_the_devices_of_a_model_alone(monkeypatch):
    made, original = [], _ops.OperatorBase.py_impl
    monkeypatch.setattr(_ops.OperatorBase, "py_impl", lambda self, key: made.append(key) or original(self, key))
    import_model(Apply(torch.tanh), (torch.ones(2, 3),))
    names = {getattr(key, "name", "") for key in made}
    assert {"AutogradCPU", "CPU", "Meta"} <= names
    assert not {"AutogradXLA", "XLA", "AutogradHPU", "HPU"} & names
    assert all(len(getattr(exported_program, name)) > 2 for name in DEVICES)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_pytorchs_fast_path_of_an_encoder_layer(activation, norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        16, 2, 32, batch_first=True, activation=activation, norm_first=norm_first, layer_norm_eps=1e-2
    )
    own, attention, x = layer.eval(), layer.self_attn, torch.randn(2, 5, 16)
    given = (
        *(x, 16, 2, attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias),
        *(activation == "gelu", norm_first, 1e-2, own.norm1.weight, own.norm1.bias, own.norm2.weight, own.norm2.bias),
        *(own.linear1.weight, own.linear1.bias, own.linear2.weight, own.linear2.bias),
    )
    with torch.no_grad():
        torch.testing.assert_close(encoder_layer(*given), torch.ops.aten._transformer_encoder_layer_fwd(*given))
        assert encoder_layer(*given, mask=torch.zeros(5, 5)) is NotImplemented


def test_torch_registers_what_is_kept_whole_or_written_otherwise_alone(monkeypatch):
    registered, original = [], getattr(exported_program, OVERRIDE)
    monkeypatch.setattr(exported_program, OVERRIDE, lambda table: registered.append(table) or original(table))
    layer = nn.Linear(3, 4)
    mod = import_model(Apply(lambda x: torch.square(layer(x))), (torch.ones(2, 3),)).mod
    (table,) = registered
    assert torch.ops.aten.linear.default in table
    assert torch.ops.aten.square.default not in table  # torch's own rule makes it a power
    assert "R.power" in mod.script()
    assert "R.matmul" in mod.script()
    assert len(table) < 200  # of 1,050


class Distances(nn.Module):
    """Lengths that torch has operators for, which are broken down."""

    def forward(self, x, y):
        return torch.hypot(x, y), torch.cdist(x, y), torch.cdist(x, y, 1.0)


def test_lengths_neither_overflow_nor_vanish():
    x, y = torch.randn(4, 6), torch.randn(4, 6)
    module, model = tb.compile(Distances(), (x, y), threads=1), Distances()
    for got, want in zip(module(x, y), model(x, y), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    x[0, :4], y[0, :4] = torch.tensor([3e30, 3e-30, 0.0, float("inf")]), torch.tensor([4e30, 4e-30, 0.0, float("nan")])
    torch.testing.assert_close(module(x, y)[0], model(x, y)[0], rtol=1e-5, atol=0, equal_nan=True)
