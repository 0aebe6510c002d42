import runpy
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils import _pytree as pytree

import tvm_balanced as tb
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.pt2 import load_pt2, save_pt2
from tvm_balanced.frontend.state_dict import save_weights


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


def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=128, vocab_size=100
    )
    torch.manual_seed(0)
    return transformers.BertModel(config).eval(), (torch.ones(2, 8, dtype=torch.long),)


MINE = """
import torch
from torch.utils import _pytree as pytree
from tvm_balanced.frontend.pt2 import save_pt2
class Pair:
    def __init__(self, a, b): self.a, self.b = a, b
pytree.register_pytree_node(Pair, lambda p: ([p.a, p.b], None), lambda v, c: Pair(*v), serialized_type_name="mine.Pair",
    to_dumpable_context=lambda c: "", from_dumpable_context=lambda c: None)
class Model(torch.nn.Module):
    def forward(self, x): return Pair(x, x + 1)
if __name__ == "__main__":
    save_pt2(torch.export.export(Model(), (torch.ones(2),)), "mine.pt2")
"""
READS = """
import sys
from tvm_balanced.frontend.pt2 import load_pt2
try:
    load_pt2("mine.pt2")
except Exception as error:
    print("mine" in sys.modules, error)
import mine
load_pt2("mine.pt2")
print("read")
import tvm_balanced as tb
assert "transformers" not in sys.modules
print(sorted(output.name for output in tb.compile("bert.pt2", threads=1)["main"].outputs))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The lines of a process that has loaded nothing, and reads a program of a user's class and one of transformers' BERT."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "mine.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pytree._deregister_pytree_node(runpy.run_path("mine.py", run_name="__main__")["Pair"])
    model, args = bert()
    save_pt2(torch.export.export(model, args), folder / "bert.pt2")
    done = subprocess.run([sys.executable, "-c", READS], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_class_of_the_user_is_named_and_never_imported(printed):
    said, read, _ = printed
    assert said.startswith(
        "False mine.pt2 takes or returns mine.Pair, which this process has not loaded; import the module it is in"
    )
    assert read == "read"


@pytest.mark.slow
def test_a_model_of_transformers_is_read_in_a_new_process(printed):
    assert printed[-1] == "['last_hidden_state', 'pooler_output']"


def test_other_files_are_named(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(nn.Linear(4, 4)).save(tmp_path / "script.pt")
    torch.save(nn.Linear(4, 4), tmp_path / "module.pt")
    torch.save(nn.Linear(4, 4).state_dict(), tmp_path / "state.pt")
    save_weights(nn.Linear(4, 4), tmp_path / "w.safetensors")
    (tmp_path / "m.tb").mkdir()
    (tmp_path / "m.tb" / "manifest.json").write_text("{}")
    for name, message in {
        "script.pt": "is a TorchScript program; export the nn.Module it was made from with torch.export.save",
        "module.pt": "is a whole pickled module, which runs code when it is read; write a factory that loads it",
        "state.pt": "is a file of weights alone, a state dict; give it as --weights beside package.module:factory",
        "w.safetensors": "is a file of weights alone, in safetensors; give it as --weights beside package.module:factory",
        "m.tb": "is an artifact that compile wrote; give it to tvm-balanced run",
    }.items():
        with pytest.raises(ModelError, match=message) as error:
            tb.compile(tmp_path / name)
        assert "\n" not in str(error.value)
        assert error.value.exit_code == (1 if "runs code" in message else 2)
