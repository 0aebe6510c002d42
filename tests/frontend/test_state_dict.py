import pytest
import torch
from torch import nn

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.state_dict import load_weights, save_weights


def model():
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))


def test_safetensors_round_trip(tmp_path):
    source, copy = model(), model()
    save_weights(source, tmp_path / "w.safetensors")
    load_weights(copy, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), copy.parameters(), strict=True))


def test_torch_state_dict(tmp_path):
    source, copy = model(), model()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(copy, tmp_path / "w.pt")
    assert torch.equal(source[0].weight, copy[0].weight)


def test_tied_weights_are_written(tmp_path):
    tied = model()
    tied[1] = tied[0]
    save_weights(tied, tmp_path / "w.safetensors")
    load_weights(tied, tmp_path / "w.safetensors")


def test_bad_files_get_one_sentence(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\x05")
    (tmp_path / "broken.pt").write_bytes(b"no pickle")
    torch.save([1], tmp_path / "list.pt")
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pt")
    torch.save({"0.parametrizations.weight.original": torch.ones(2)}, tmp_path / "unsquashed.pt")
    for name, message in [
        ("none.pt", "not a file"),
        ("broken.safetensors", "not a readable weight file"),
        ("broken.pt", "not a readable weight file"),
        ("list.pt", "holds list"),
        ("other.pt", "does not fit"),
        ("unsquashed.pt", "squash_mask"),
    ]:
        with pytest.raises(ModelError, match=message):
            load_weights(model(), tmp_path / name)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(ModelError, match="cannot be written"):
        save_weights(model(), tmp_path / "no" / "w.safetensors")
