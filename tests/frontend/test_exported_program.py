import pytest
import torch
from torch import nn

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.exported_program import import_exported_program, layer_name, to_numpy, to_torch
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_arrays_and_tensors_convert_exactly(dtype):
    tensor = torch.tensor([[0.5, 1.0, 3.0]]).to(dtype)
    assert torch.equal(to_torch(to_numpy(tensor)), tensor)


def test_inputs_and_outputs_are_described():
    program = export(nn.Linear(8, 4), (torch.ones(3, 8),), None, ({0: torch.export.Dim("batch")},))
    imported = import_exported_program(program, "test")
    assert imported.main.inputs[0].name == "input"
    assert isinstance(imported.main.inputs[0].shape[0], str)
    assert imported.main.inputs[0].shape[1] == 8
    assert imported.main.outputs[0].shape == (imported.main.inputs[0].shape[0], 4)


def test_an_input_that_is_no_tensor_is_refused():
    class Model(nn.Module):
        def forward(self, x, times):
            return x * times

    with pytest.raises(ModelError, match="every input must be a tensor"):
        import_exported_program(export(Model(), (torch.ones(2), 3)), "test")


def test_an_operator_that_tvm_does_not_know_is_named_in_one_sentence():
    class Model(nn.Module):
        def forward(self, x):
            return torch.linalg.qr(x)[0]

    with pytest.raises(ModelError, match="cannot be imported") as error:
        import_exported_program(export(Model(), (torch.randn(4, 4),)), "test")
    assert "\n" not in str(error.value)
