from collections import defaultdict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.masks import apply_masks


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)).eval()


MASK = (torch.arange(8) % 4 == 0).expand(8, 8).contiguous()


@pytest.mark.parametrize(
    "held",
    [
        {"0.weight": MASK},
        {"0": MASK.float()},
        {"0.weight_mask": MASK.to(torch.uint8)},
        {"0.weight.mask": MASK},
        {"masks": {"0.weight": MASK}},
        {"0": {"weight": MASK.float(), "bias": None}},  # as NNI writes them
        {"module.0.weight": MASK},
        {"net.encoder.0.weight_mask": MASK},
        {"0.weight_orig": torch.ones(8, 8), "0.weight_mask": MASK, "0.bias": torch.ones(8), "1.weight": torch.ones(4, 8)},
        {
            "state": defaultdict(dict, {"0.weight": {"mask": MASK}}),
            "groups": [{"tensor_fqn": "0.weight"}],
        },  # a sparsifier of torch.ao.pruning
    ],
)
def test_masks_under_the_names_that_tools_give_them(tmp_path, held):
    torch.save(held, tmp_path / "m.pt")
    found = []
    state = model().state_dict()
    masked = apply_masks(tmp_path / "m.pt", state, found)
    assert torch.equal(masked["0.weight"], state["0.weight"] * MASK)
    assert torch.equal(masked["1.weight"], state["1.weight"])
    assert found == [f"multiplied 1 weights by the masks of {tmp_path / 'm.pt'}"]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"0.weight": MASK[:4]}, r"mask of shape \[4, 8\] for 0.weight, which has \[8, 8\]"),
        ({"2.weight": MASK}, "a mask for '2.weight', and there is no such weight"),
        ({"0.weight": MASK * 0.5}, "other than zeros and ones"),
        ({"0.weight": [1.0]}, "other than zeros and ones"),
    ],
)
def test_masks_that_do_not_fit_get_one_sentence(tmp_path, held, message):
    torch.save(held, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=message) as error:
        apply_masks(tmp_path / "m.pt", model().state_dict(), [])
    assert "\n" not in str(error.value)


def test_compile_and_inspect_take_masks_beside_weights_or_a_live_module(tmp_path, caplog):
    source, other = model(), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save({"0.weight": MASK}, tmp_path / "m.pt")
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    x = torch.randn(2, 8)
    module = tb.compile(other, (x,), weights=tmp_path / "w.safetensors", masks=tmp_path / "m.pt", threads=1)
    want = source[1](nn.functional.linear(x, source[0].weight * MASK, source[0].bias))
    torch.testing.assert_close(module(x), want, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    with caplog.at_level("INFO", "tvm_balanced"):
        tb.inspect(source, (x,), masks=tmp_path / "m.pt")
    assert f"recognised multiplied 1 weights by the masks of {tmp_path / 'm.pt'}" in caplog.messages
    assert tb.inspect(source, (x,), masks=tmp_path / "m.pt").layers[0].sparsity == pytest.approx(0.75)
