import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.exported_program import import_exported_program, layer_name
from tvm_balanced.frontend.module import export


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("encoder.query.weight", "encoder.query"),
        ("weight", "weight"),
        ("0.weight_orig", "0"),
        ("0.parametrizations.weight.original", "0"),
        ("lstm.weight_hh_l0", "lstm.weight_hh_l0"),
    ],
)
def test_layer_name(parameter, layer):
    assert layer_name(parameter) == layer


def test_inputs_and_outputs_are_described():
    program = export(nn.Linear(8, 4), (torch.ones(3, 8),), None, ({0: torch.export.Dim("batch")},))
    imported = import_exported_program(program, "test")
    assert imported.main.inputs[0].name == "input"
    assert isinstance(imported.main.inputs[0].shape[0], str)
    assert imported.main.inputs[0].shape[1] == 8
    assert imported.main.outputs[0].shape == (imported.main.inputs[0].shape[0], 4)


def test_an_input_that_is_no_tensor_is_fixed_at_its_value():
    class Model(nn.Module):
        def forward(self, x, times):
            return x * times

    program = torch.export.export(Model(), (torch.ones(2), 3))
    assert [spec.name for spec in import_exported_program(program, "test").main.inputs] == ["x"]
    module = tb.compile(program)
    assert module(torch.tensor([1.0, 2.0]), 3).tolist() == [3.0, 6.0]
    with pytest.raises(InputError, match="times"):
        module(torch.tensor([1.0, 2.0]), 4)


def test_an_operator_that_tvm_does_not_know_is_named_in_one_sentence():
    class Model(nn.Module):
        def forward(self, x):
            return torch.linalg.qr(x)[0]

    with pytest.raises(ModelError, match="cannot be imported") as error:
        import_exported_program(export(Model(), (torch.randn(4, 4),)), "test")
    assert "\n" not in str(error.value)


class Writes(nn.Module):
    """A cache that is written in place, as PyTorch's own models do."""

    def __init__(self, returns):
        super().__init__()
        self.layer, self.returns = nn.Linear(64, 64), returns

    def forward(self, x, cache):
        cache[:, 3] = self.layer(x)
        return (cache.sum(1), cache) if self.returns else cache.sum(1)


def test_an_input_that_the_model_writes_to_is_donated():
    torch.manual_seed(0)
    model, x, cache, want = Writes(returns=True).eval(), torch.randn(2, 64), torch.zeros(2, 8, 64), torch.zeros(2, 8, 64)
    module = tb.compile(model, (x, cache))
    assert not cache.any()  # an example stays as it was
    assert module.facts.main.donate == {"cache": "output_1"}
    _, returned = module(x, cache)
    model(x, want)
    assert returned is cache
    torch.testing.assert_close(cache, want.detach(), rtol=1e-4, atol=1e-5)


def test_an_input_that_the_model_writes_to_and_keeps_to_itself_is_refused():
    with pytest.raises(ModelError, match=r'changes its input "cache" .* return it, or work on a copy'):
        tb.compile(Writes(returns=False).eval(), (torch.randn(2, 64), torch.zeros(2, 8, 64)))
