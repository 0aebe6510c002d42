"""Malformed weights and masks: one sentence, status 1, and nothing is written or run. ONNX is in tests/frontend/test_onnx.py."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from tvm_balanced.cli.app import run

FACTORY = """
import torch
def odd(): return torch.nn.Linear(13, 6), (torch.ones(2, 13),)
"""
STATE = {"weight": torch.ones(6, 13), "bias": torch.ones(6)}


def shards(folder):
    save_file({"weight": STATE["weight"]}, folder / "one.safetensors")
    save_file({"bias": STATE["bias"]}, folder / "two.safetensors")
    index = {"weight_map": {"weight": "one.safetensors", "bias": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def truncated(folder):
    shards(folder)
    os.truncate(folder / "one.safetensors", 150)


def missing(folder):
    shards(folder)
    (folder / "two.safetensors").unlink()


def integers(folder):
    save_file(STATE | {"weight": torch.ones(6, 13, dtype=torch.int8)}, folder / "model.safetensors")


def bitmask(folder):
    bits = torch.full((6, 2), 255, dtype=torch.uint8)  # 16 bits a row of 13 columns
    parts = {"weight.shape": torch.tensor([6, 13]), "weight.compressed": torch.ones(96), "weight.bitmask": bits}
    save_file({"bias": STATE["bias"], **parts}, folder / "model.safetensors")


class Code:
    def __reduce__(self):
        return os.system, ("touch ran",)


def code(folder):
    torch.save(STATE | {"weight": Code()}, folder / "pytorch_model.bin")


def mask(folder):
    save_file(STATE, folder / "model.safetensors")
    torch.save({"weight": torch.ones(13, 6)}, "masks.pt")


CASES = {
    "a truncated shard": (truncated, "one.safetensors is not a readable weight file (SafetensorError); write it again"),
    "a shard that is missing": (missing, "two.safetensors is missing, which model.safetensors.index.json lists"),
    "another dtype": (integers, "holds weight in int8, where Linear has float32"),
    "a bit past the end": (bitmask, "its bitmask has a bit past the last of 13 columns); copy the checkpoint again"),
    "a pickle with code": (code, "pytorch_model.bin is a file with objects among its tensors, which runs code when it is read"),
    "a mask of another shape": (mask, "has a mask of shape [13, 6] for weight, which has [6, 13]"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_and_nothing_is_written(case, folder, capfd):
    make, message = CASES[case]
    (folder / "models.py").write_text(FACTORY)
    (folder / "given").mkdir()
    make(folder / "given")
    before = sorted(folder.rglob("*"))
    masks = ["--masks", "masks.pt"] if make is mask else []
    assert run(["compile", "models:odd", "-o", "m.tb", "--weights", "given", *masks]) == 1
    said = capfd.readouterr()
    assert message in " ".join(said.err.split())
    assert said.err.count("error: ") == 1
    assert "Traceback" not in said.err + said.out
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in str(path)] == before
