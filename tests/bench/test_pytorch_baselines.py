import pytest
import torch
from torch import nn

from tvm_balanced.bench.pytorch_baselines import PackedLinear, with_packed_linears


def encoder(norm_first):
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()


@pytest.mark.parametrize("make", [lambda: nn.Sequential(nn.Linear(32, 8, bias=False), nn.Linear(8, 4)), lambda: encoder(True)])
def test_a_model_with_packed_linears_is_the_same(make):
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(2, 16, 32)
    with torch.no_grad():
        torch.testing.assert_close(with_packed_linears(model, 32)(x), model(x))


def test_the_packed_linears_are_used_where_pytorch_has_a_fast_path(monkeypatch):
    """In eval mode, an encoder layer would bypass its linears and compute with their weights directly."""
    called = []
    forward = PackedLinear.forward
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: called.append(self) or forward(self, x))
    with torch.no_grad():
        with_packed_linears(encoder(False), 32)(torch.randn(2, 16, 32))
    assert len(called) == 4  # linear1 and linear2 of two layers
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_model_itself_stays():
    model = nn.Sequential(nn.Linear(4, 4))
    with_packed_linears(model, 2)
    assert type(model[0]) is nn.Linear
