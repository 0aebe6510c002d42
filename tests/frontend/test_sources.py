import sys

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.sources import Request, import_source

SOURCE = """
import torch, tvm_balanced as tb
class Scaled(torch.nn.Linear):
    def forward(self, x, scale=1.0): return super().forward(x) * scale
def model(): return Scaled(8, 4).eval(), (torch.ones(2, 8),)
def named(): return Scaled(8, 4).eval(), (torch.ones(2, 8),), {"scale": 0.5}
def by_name(): return Scaled(8, 4).eval(), (), {"x": torch.ones(2, 8)}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "ways.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("ways", None)
    return tmp_path


def test_a_factory_is_a_model_in_python_too(folder):
    module = tb.compile("ways:named", threads=1)
    x = torch.ones(2, 8)
    assert module.facts.main.call == [["x", {"tensor": 0}], ["scale", {"value": 0.5}]]
    assert torch.equal(module(x, 0.5), module(x))
    with pytest.raises(InputError, match=r"scale is 2.0, and was fixed to 0.5"):
        module(x, scale=2.0)


def test_a_factory_may_name_its_inputs_and_leave_the_batch_open(folder):
    imported = import_source("ways:by_name", Request(dynamic_batch=True))
    assert isinstance(imported.main.inputs[0].shape[0], str)
    assert imported.recognised == ["an nn.Module, Scaled"]


def test_weights_and_masks_of_a_factory_are_loaded_and_said(folder):
    torch.save({"state_dict": nn.Linear(8, 4).state_dict()}, "w.pt")
    torch.save({"weight": torch.zeros(4, 8)}, "m.pt")
    imported = import_source("ways:model", Request(weights="w.pt", masks="m.pt"))
    assert imported.recognised[1:] == ['took "state_dict" of what the file holds', "multiplied 1 weights by the masks of m.pt"]


@pytest.mark.parametrize(
    ("model", "request_", "error", "message"),
    [
        (3, {}, InputError, "model is int; give a torch.nn.Module, an ExportedProgram, an ONNX model"),
        ("ways:model", {"args": (torch.ones(2, 8),)}, ModelError, "returns its examples itself; args, kwargs"),
        ("some.pt2", {"weights": "w.pt"}, ModelError, "some.pt2 already has its weights"),
        ("some.pt2", {"masks": "m.pt"}, ModelError, "masks go with a module"),
        ("some.pt2", {"length": 8}, ModelError, "--batch and --length go with a folder"),
        ("ways:model", {"max_length": 8}, ModelError, "--max-length goes with the folder of a language model"),
        ("some.onnx", {"weights": "w.pt"}, ModelError, "an ONNX model has its weights"),
        (nn.Linear(8, 4), {"args": (torch.ones(2, 8),), "batch": 2}, ModelError, "a module comes with examples of its own"),
        (nn.Linear(8, 4), {"args": (torch.ones(2, 8),), "batch": 0}, InputError, "batch is 0"),
        ("bert", {}, ModelError, "bert is not a file"),
        ("a\0b", {}, InputError, "NUL"),
    ],
)
def test_what_does_not_go_together_gets_one_sentence(model, request_, error, message):
    with pytest.raises(error, match=message) as raised:
        import_source(model, Request(**request_))
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2
