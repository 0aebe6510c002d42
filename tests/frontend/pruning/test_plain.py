import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import ModelError


def layer_of(weight):
    layer = nn.Linear(32, 32)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def of_inference_mode():
    with torch.inference_mode():
        return nn.Linear(32, 32)


LAYERS = {
    "has the layout torch.sparse_coo; make it dense first": lambda: layer_of(torch.randn(32, 32).to_sparse()),
    "has the layout torch.sparse_csr; make it dense first": lambda: layer_of(torch.randn(32, 32).to_sparse_csr()),
    "is on the meta device, without values": lambda: nn.Linear(32, 32, device="meta"),
    "has no shape yet; call the model once": lambda: nn.LazyLinear(32),
    "is torch.float8_e4m3fn; convert it to one of torch.float32": lambda: layer_of(torch.randn(32, 32).to(torch.float8_e4m3fn)),
    "is torch.int8; convert it": lambda: layer_of(torch.ones(32, 32, dtype=torch.int8)),
    "was made within torch.inference_mode": of_inference_mode,
    "is an expanded view": lambda: layer_of(torch.randn(32, 1).expand(32, 32)),
}


@pytest.mark.filterwarnings("ignore")  # CSR is in beta
@pytest.mark.parametrize("said", LAYERS)
def test_a_weight_that_cannot_be_changed_gets_one_sentence_and_nothing_is_pruned(said):
    first = nn.Linear(32, 32)
    before = first.weight.detach().clone()
    with pytest.raises(ModelError) as error:
        tb.prune(nn.Sequential(first, LAYERS[said]()), "2:16")
    assert str(error.value).startswith(f"layer 1 cannot be pruned: its weight {said}")
    assert "\n" not in str(error.value)
    assert torch.equal(first.weight, before)


def test_a_quantised_weight_of_torchao_gets_one_sentence():
    quantization = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(nn.Linear(64, 32))
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    with pytest.raises(ModelError, match="prune the model with its float weights, and quantise it then"):
        tb.prune(model, "2:16")


def test_the_way_out_works():
    model = nn.Sequential(layer_of(torch.randn(32, 32).to_sparse()))
    model[0].weight = nn.Parameter(model[0].weight.to_dense())
    assert tb.prune(model, "2:16").sparsity == 0.875
