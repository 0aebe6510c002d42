import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.checkpoint import read_checkpoint
from tvm_balanced.frontend.state_dict import load_weights


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))


def sharded(folder, state, suffix="safetensors", stem="model"):
    """Write a state dict in two files and an index, as transformers does; return the index."""
    names, files = sorted(state), {}
    for number, part in enumerate((names[:2], names[2:]), 1):
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        tensors = {name: state[name].contiguous() for name in part}
        save_file(tensors, folder / file) if suffix == "safetensors" else torch.save(tensors, folder / file)
        files |= dict.fromkeys(part, file)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return index


@pytest.mark.parametrize(("suffix", "stem"), [("safetensors", "model"), ("bin", "pytorch_model")])
def test_shards_are_read_by_their_index_or_their_folder(tmp_path, suffix, stem):
    source = model()
    index = sharded(tmp_path, source.state_dict(), suffix, stem)
    for path in (index, tmp_path):
        copy = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
        assert load_weights(copy, path) == ()
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), copy.parameters(), strict=True))


def test_the_only_file_of_a_folder_is_read(tmp_path):
    save_file(model().state_dict(), tmp_path / "pruned.safetensors")
    assert set(read_checkpoint(tmp_path)) == set(model().state_dict())
    save_file(model().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"is a folder without a config\.json; give a file of weights"):
        read_checkpoint(tmp_path)


def test_a_file_comes_before_an_index_and_safetensors_before_pickles_as_in_transformers(tmp_path):
    """save_pretrained in a folder that had shards removes these, and leaves their index."""
    old, new = ({"0.weight": torch.full((2, 2), value)} for value in (1.0, 2.0))
    torch.save(old, tmp_path / "pytorch_model.bin")
    save_file(old, tmp_path / "old.safetensors")
    index = {"weight_map": {"0.weight": "old.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file(new, tmp_path / "model.safetensors")
    assert torch.equal(read_checkpoint(tmp_path)["0.weight"], new["0.weight"])


def rewrite(index, files):
    said = json.loads(index.read_text())
    said["weight_map"] |= files
    index.write_text(json.dumps(said))


DAMAGE = {
    "a truncated shard": (lambda f, i: os.truncate(f / "model-00001-of-00002.safetensors", 90), "not a readable weight file"),
    "a shard that is missing": (lambda f, i: (f / "model-00002-of-00002.safetensors").unlink(), "is missing, which model"),
    "a tensor that is not there": (
        lambda f, i: rewrite(i, {"2.weight": "model-00001-of-00002.safetensors"}),
        "does not hold 2.weight",
    ),
    "a file elsewhere": (
        lambda f, i: rewrite(i, {"0.bias": "../secret.safetensors"}),
        "not a file in its folder",
    ),
    "an absolute path": (lambda f, i: rewrite(i, {"0.bias": "/etc/passwd"}), "not a file in its folder"),
    "no map": (lambda f, i: i.write_text("{}"), 'has no "weight_map"'),
    "no JSON": (lambda f, i: i.write_text("[" * 100_000), 'has no "weight_map"'),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_wrong_with_shards_gets_one_sentence(tmp_path, case):
    damage, message = DAMAGE[case]
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file({"0.bias": torch.ones(8)}, tmp_path / "secret.safetensors")
    damage(folder, sharded(folder, model().state_dict()))
    with pytest.raises(ModelError, match=message) as error:
        read_checkpoint(folder)
    assert "\n" not in str(error.value)


class Code:
    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def test_a_pickle_with_code_is_refused_and_runs_nothing(tmp_path):
    torch.save({"0.weight": Code(tmp_path / "ran")}, tmp_path / "w.bin")
    with pytest.raises(ModelError, match="runs code"):
        read_checkpoint(tmp_path / "w.bin")
    assert not (tmp_path / "ran").exists()
