import pytest
import torch

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.factory import load_factory

SOURCE = """
import torch, tvm_balanced as tb
def good(): return torch.nn.Linear(8, 4), (torch.ones(2, 8),)
def single(): return torch.nn.Linear(8, 4), torch.ones(2, 8)
def several(): return torch.nn.Linear(8, 4), {"one": tb.EntryPoint((torch.ones(2, 8),))}
def named(): return torch.nn.Linear(8, 4), {"a b": tb.EntryPoint((torch.ones(2, 8),))}
def wrong(): return torch.nn.Linear(8, 4)
def fails(): raise ValueError("no such checkpoint")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["good", "single"])
def test_a_factory_in_the_current_directory(name):
    module, args = load_factory(f"my_models:{name}")
    assert isinstance(module, torch.nn.Linear)
    assert module(*args).shape == (2, 4)


def test_a_factory_of_entry_points():
    _, entry_points = load_factory("my_models:several")
    assert isinstance(entry_points["one"], tb.EntryPoint)
    with pytest.raises(InputError, match='"a b" cannot name'):
        load_factory("my_models:named")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_models", "neither a .pt2 file nor"),
        ("my_models:", "neither"),
        ("my_models:nothing", "is missing"),
        ("no_such_module:x", "there is no module"),
        ("my_models:wrong", "must return"),
        ("my_models:fails", "no such checkpoint"),
    ],
)
def test_what_is_no_factory_gets_one_sentence(name, message):
    with pytest.raises(ModelError, match=message) as error:
        load_factory(name)
    assert "\n" not in str(error.value)
