import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import tvm_balanced as tb
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.pt2 import load_pt2, save_pt2


@pytest.fixture
def exported(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    prune.ln_structured(model[0], "weight", 0.5, n=2, dim=1)  # masks stay in the graph of a .pt2
    x = torch.randn(3, 64)
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(model, (x,)), path)
    return model, x, path


def test_a_file_compiles_with_its_names_and_masks(exported):
    model, x, path = exported
    module = tb.compile(path)
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)
    assert [layer.layer for layer in module.report.layers] == ["0", "2"]
    assert module.report.layers[0].sparsity == pytest.approx(0.5)
    assert module.facts.source == str(path)


def test_an_exported_program_compiles(exported):
    model, x, path = exported
    program = torch.export.load(path)
    before = {name: t.data_ptr() for name, t in program.state_dict.items()}
    torch.testing.assert_close(tb.compile(program)(x), model(x), rtol=1e-4, atol=1e-5)
    assert {name: t.data_ptr() for name, t in program.state_dict.items()} == before


def test_a_program_without_examples_gets_random_ones(exported):
    model, x, path = exported
    program = torch.export.load(path)
    program.example_inputs = None
    torch.testing.assert_close(tb.compile(program)(x), model(x), rtol=1e-4, atol=1e-5)


def test_arguments_do_not_go_with_a_file(exported):
    _, x, path = exported
    with pytest.raises(ModelError, match="go with a module"):
        tb.compile(path, (x,))


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="not a file"):
        load_pt2(tmp_path / "none.pt2")


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_file(exported, share):
    _, _, path = exported
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ModelError, match="not a readable"):
        load_pt2(path)


def test_save_writes_the_file_whole_or_not_at_all(exported, tmp_path):
    _, _, path = exported
    program = load_pt2(path)
    save_pt2(program, tmp_path / "copy.pt2")
    load_pt2(tmp_path / "copy.pt2")
    with pytest.raises(ModelError, match="cannot be written"):
        save_pt2(program, tmp_path / "no" / "such" / "folder.pt2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.pt2", "model.pt2"]
