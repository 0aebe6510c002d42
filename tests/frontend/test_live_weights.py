import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import tvm_balanced as tb
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.live_weights import recognised
from tvm_balanced.frontend.module import plain_copy
from tvm_balanced.frontend.sources import Request, import_source


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)).eval()


def masked(net):
    prune.random_unstructured(net[0], "weight", 0.5)


def parametrized(net):
    parametrize.register_parametrization(net[0], "weight", Halved())


def sparse(net):
    net[0].weight = nn.Parameter(net[0].weight.detach().to_sparse(), requires_grad=False)


def sparsified(net):
    from torch.ao.pruning import WeightNormSparsifier

    sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2)
    sparsifier.prepare(net, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()


KINDS = {
    masked: "multiplied 1 weights by the masks of torch.nn.utils.prune",
    parametrized: "folded parametrizations (Halved)",
    sparse: "made 1 sparse tensors dense",
    sparsified: "folded parametrizations (FakeSparsity)",
}


@pytest.mark.grid
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_tools_leave_is_folded_and_said(kind):
    net, x = model(), torch.randn(2, 8)
    kind(net)
    plain = plain_copy(net)
    assert recognised(net) == [KINDS[kind]]
    assert recognised(plain) == []
    torch.testing.assert_close(plain(x), (model() if kind is sparse else net)(x))  # PyTorch has no linear layer of such a weight
    imported = import_source(net, Request(args=(x,)))
    assert imported.recognised == ["an nn.Module, Sequential", KINDS[kind]]


def test_weight_only_quantised_weights_of_torchao_are_multiplied_by_their_scales():
    quantization = pytest.importorskip("torchao.quantization")
    net, x = nn.Sequential(nn.Linear(64, 32)).eval(), torch.randn(2, 64)
    quantization.quantize_(net, quantization.Int8WeightOnlyConfig())
    plain = plain_copy(net)
    assert recognised(net)[0].startswith("multiplied 1 quantised weights by their scales")
    torch.testing.assert_close(plain(x), net(x), rtol=1e-4, atol=1e-4)
    assert type(plain[0].weight.data) is torch.Tensor


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated
def test_torchscript_is_refused_with_the_way_out():
    script = torch.jit.script(model())
    with pytest.raises(ModelError, match="the model is TorchScript, which has no layers to find; give the") as error:
        tb.inspect(script, (torch.randn(2, 8),))
    assert "\n" not in str(error.value)
    fresh = model()
    fresh.load_state_dict(script.state_dict())  # the way out
    assert tb.inspect(fresh, (torch.randn(2, 8),)).total == 2
