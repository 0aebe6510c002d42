import torch
from torch import nn
from torch._export import utils

from tvm_balanced.api import import_model
from tvm_balanced.frontend.decompositions import LISTING


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


def test_an_operator_that_is_registered_between_two_models_is_taken_apart():
    import_model(Apply(torch.tanh), (torch.ones(2, 3),))
    library = torch.library.Library("tvm_balanced_tests", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x + x, "CompositeImplicitAutograd")
    mod = import_model(Apply(lambda x: torch.ops.tvm_balanced_tests.twice(x)), (torch.ones(2, 3),)).mod
    assert "R.add(x, x)" in mod.script()
