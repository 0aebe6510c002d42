"""A model whose package is missing, or does not fit torch, is a sentence; the others are measured."""

import sys
from pathlib import Path

import pytest

from benchmarks import onnx_models


class Broken:
    """Finds torchvision, in a build for another torch."""

    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nand a page of text")


@pytest.mark.parametrize("kind", ["absent", "of another build"])
def test_a_package_that_is_missing(kind, monkeypatch, capsys):
    for name in ("torchvision", "torchvision.models", "silero_vad"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    if kind == "absent":
        monkeypatch.setitem(sys.modules, "torchvision", None)
    else:
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr(onnx_models, "exported", lambda name, *_: (Path(name), [onnx_models.EXPORTED[name][0]()]))
    monkeypatch.setattr(onnx_models, "difference", lambda *_: 1e-7)
    onnx_models.main(["mlp", "resnet18", "silero"])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["mlp"] == lines["mlp_dynamo"] == "1.0e-07"
    for name in ("resnet18", "resnet18_dynamo"):
        assert lines[name].startswith("not run: torchvision.models cannot be imported (")
        assert lines[name].endswith("; pip install --no-deps torchvision, of the build for CPUs that fits torch")
    assert [lines[name].rpartition("; ")[2] for name in onnx_models.SILERO] == ["pip install --no-deps silero-vad"] * 3
