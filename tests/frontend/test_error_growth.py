import math

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.core.tolerance import UNIT
from tvm_balanced.errors import ToleranceError

U = UNIT["float32"]


class Apply(nn.Module):
    def __init__(self, function, layer=None):
        super().__init__()
        self.function, self.layer = function, layer

    def forward(self, *args):
        return self.function(*args) if self.layer is None else self.function(self.layer, *args)


def growths(function, *args, layer=None):
    return import_model(Apply(function, layer).eval(), args).entry_points["main"].growths


def test_views_round_nothing_and_sums_as_often_as_they_are_long():
    x = torch.randn(4, 96)
    moved, total, longer, maximum = growths(lambda x: (x[:, -1], x.sum(1), x.sum(), x.t().amax(1)), x)
    assert moved.deviation == maximum.deviation == 0
    assert total.mixes
    assert not moved.mixes
    assert total.deviation < longer.deviation
    assert longer.deviation >= math.sqrt(x.numel()) * U


def test_a_tensor_may_be_taken_several_times():
    (one,) = growths(lambda x: torch.addmm(x, x, x), torch.randn(4, 4))
    assert one.deviation == pytest.approx(math.sqrt(5) * U)


@pytest.mark.slow
def test_layers_count_what_they_sum_over():
    (one,) = growths(lambda layer, x: layer(x), torch.randn(2, 768), layer=nn.Linear(768, 8))
    assert one.deviation == pytest.approx(math.sqrt(769) * U)
    (two,) = growths(lambda layer, x: layer(layer(x)), torch.randn(2, 768), layer=nn.Linear(768, 768))
    assert two.deviation == pytest.approx(math.sqrt(2 * 769) * U)
    (image,) = growths(lambda layer, x: layer(x), torch.randn(1, 4, 8, 8), layer=nn.Conv2d(4, 2, 3))
    assert image.deviation == pytest.approx(math.sqrt(37) * U)


@pytest.mark.slow
def test_an_output_in_float32_knows_of_the_bfloat16_before_it():
    (found,) = growths(lambda x: (x * 2).float() + 1, torch.randn(3).bfloat16())
    assert found.dtype == "bfloat16"
    assert found.deviation >= UNIT["bfloat16"]


@pytest.mark.slow
def test_a_mamba_in_bfloat16_is_held_to_what_bfloat16_can():
    """Its logits are float32, and what they are made of is not."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.MambaConfig(vocab_size=50, hidden_size=32, state_size=4, num_hidden_layers=1, use_cache=False)
    model, ids = transformers.MambaForCausalLM(config).bfloat16().eval(), torch.randint(0, 50, (2, 6))
    tb.prune(model, "4:16", exclude=["lm_head"])
    growth = import_model(model, (ids,)).entry_points["main"].growths[0]
    assert growth.dtype == "bfloat16"
    assert growth.tolerance > 8 * UNIT["bfloat16"]
    got, want = (logits.double() for logits in (tb.compile(model, (ids,), threads=1)(ids).logits, model(ids).logits.detach()))
    exact = model.double()(ids).logits.detach()
    size = exact.abs().max()
    assert (got - exact).abs().max() <= (want - exact).abs().max() + 2 * UNIT["bfloat16"] * size


def test_a_wrong_small_value_of_a_single_operator_is_refused(monkeypatch):
    """As TVM has it: tanh in float16 by steps that are each rounded."""
    from tvm_balanced.transform import legalize

    monkeypatch.delitem(legalize.LEGALIZE, "relax.tanh")
    x = torch.tensor([2.0, 1e-3, 1e-4], dtype=torch.float16)
    with pytest.raises(ToleranceError, match="differs from the original model"):
        tb.compile(Apply(torch.tanh), (x,))
