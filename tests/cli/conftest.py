"""A folder to call commands in, with a factory of a pruned model."""

import sys

import pytest

FACTORY = """
import torch, tvm_balanced as tb
def pruned():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 8))
    tb.prune(module, "2:16")
    return module, (torch.randn(4, 64),)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, a new one, with `models:pruned`."""
    (tmp_path / "models.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("models", None)
    return tmp_path
