"""Whatever runs the user's model leaves each of its modules in its own mode, frozen ones in a model that is trained too."""

import copy

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.inference import inference


class Cacheless(nn.Module):
    """Called as a causal language model, it keeps no cache."""

    config = type("Config", (), {"max_position_embeddings": 64})()

    def __init__(self):
        super().__init__()
        self.frozen, self.modes = nn.Dropout(), []

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, logits_to_keep=0, use_cache=True):
        self.modes.append(self.training)
        return {"logits": input_ids}


def modes(model):
    return [module.training for module in model.modules()]


def test_modes_and_gradients_are_as_before_also_after_an_error():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    model[1].eval()
    seen = []

    def fail():
        with inference(model):
            seen.append((modes(model), torch.is_grad_enabled()))
            raise ValueError("from the model")

    with pytest.raises(ValueError, match="from the model"):
        fail()
    assert seen == [([False, False, False], False)]
    assert modes(model) == [True, True, False]
    assert torch.is_grad_enabled()


def test_compare_keeps_them(mlp, compiled_mlp):
    model = copy.deepcopy(mlp[0]).train()
    model[1].eval()
    before = modes(model)
    assert tb.compare(compiled_mlp, model, torch.randn(5, 64)).ok
    assert modes(model) == before


def test_a_causal_language_model_keeps_them():
    model = Cacheless()
    model.frozen.eval()
    with pytest.raises(ModelError, match="keeps no keys and values"):
        tb.compile_causal_lm(model, max_length=16)
    assert model.modes == [False]
    assert modes(model) == [True, False]


def test_distillation_keeps_them():
    student, teacher = (nn.Sequential(nn.Linear(16, 16), nn.Dropout(), nn.Linear(16, 4)) for _ in range(2))
    for model in (student, teacher):
        model[1].eval()
    tb.distill(student, teacher, [torch.randn(4, 16)], steps=2)
    assert modes(student) == modes(teacher) == [True, True, False, True]
