"""Every command as a user calls it. A separate process is used only if that matters."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer

import tvm_balanced as tb
from tvm_balanced.cli import console
from tvm_balanced.cli.app import app, run
from tvm_balanced.schedules import KERNELS

FACTORY = """
import torch, tvm_balanced as tb
def dense():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 8)), (torch.randn(4, 64),)
def pruned():
    module, args = dense()
    tb.prune(module, "2:16")
    return module, args
def nan():
    module, args = dense()
    with torch.no_grad(): module[0].weight[1, 2] = float("nan")
    return module, args
def normed():
    module, args = dense()
    torch.nn.utils.parametrizations.weight_norm(module[0])
    return module, args
class Halves(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 48)
    def forward(self, x): return self.second(self.first(x))
    def tail(self, x, state): return {"y": self.second(x), "state": state + x}
def halves():
    x = torch.randn(4, 64)
    return Halves(), {"whole": tb.EntryPoint((x,)), "tail": tb.EntryPoint((x, x), method="tail", donate={"state": "state"})}
def batches(): return [(torch.randn(8, 64),) for _ in range(3)]
def empty(): return torch.nn.ReLU(), (torch.randn(2, 2),)
def fails(): import not_there
def number(): return 1
def leaves(): raise SystemExit(0)
def interrupted(): raise KeyboardInterrupt
class Leaving(torch.nn.Module):
    def forward(self, x): raise SystemExit(0)
def leaving(): return Leaving(), (torch.randn(2, 2),)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "models.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("models", None)
    return tmp_path


@pytest.fixture
def compiled(artifact, folder):
    """A copy of an artifact, called m.tb; its model takes (5, 64)."""
    return shutil.copytree(artifact, folder / "m.tb")


def ok(capfd, *arguments):
    assert run(arguments) == 0, capfd.readouterr().err
    return capfd.readouterr().out


HELP = """
import sys, time
from tvm_balanced.cli.app import run
run([*sys.argv[1:], "--help"])
assert not {"tvm", "torch", "numpy"} & set(sys.modules)
print(time.process_time())
"""


@pytest.mark.grid
@pytest.mark.parametrize(
    "command",
    [
        "",
        "demo",
        "inspect",
        "prune",
        "allocate",
        "distill",
        "compile",
        "run",
        "doctor",
        "self-test",
        "package",
        "env",
        "profile-machine",
        "calibrate",
        "bench kernel",
        "tune",
        "logs verify",
        "serve-rpc",
    ],
)
def test_help_is_quick_and_loads_nothing_heavy(command):
    done = subprocess.run([sys.executable, "-c", HELP, *command.split()], check=True, capture_output=True, text=True)
    assert float(done.stdout.split()[-1]) < 1.5  # seconds of the CPU: what else runs does not count; 0.3 here


@pytest.mark.slow
def test_from_a_dense_model_to_a_running_artifact(capfd, folder):
    assert "pruned 2 layers to 2:16" in ok(capfd, "prune", "models:dense", "2:16", "-o", "pruned.pt2")
    rows = json.loads(ok(capfd, "inspect", "pruned.pt2", "--json"))["layers"]
    assert [(row["layer"], row["pattern"], row["verdict"]) for row in rows] == [("0", "2:16", "sparse"), ("2", "2:16", "sparse")]
    assert "2 of 2 layers run in sparse kernels" in ok(capfd, "inspect", "pruned.pt2")
    printed = ok(capfd, "compile", "pruned.pt2", "-o", "model.tb")
    assert "wrote model.tb" in printed
    assert "largest difference to the original model" in printed
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    np.save("x.npy", x)
    ok(capfd, "run", "model.tb", "-i", "input=x.npy", "-o", "out")
    want = torch.export.load("pruned.pt2").module()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(np.load("out/output_0.npy"), want, rtol=1e-4, atol=1e-5)
    profiled = json.loads(ok(capfd, "run", "model.tb", "--profile", "--repeat", "3", "--json"))
    assert {"0", "2"} <= {row["name"] for row in profiled["rows"]}
    assert "this machine does" in ok(capfd, "run", "model.tb", "--profile")
    result = json.loads(ok(capfd, "run", "model.tb", "--json"))
    assert result["outputs"] == [[4, 8]]
    assert result["random_inputs"] == ["input"]


@pytest.mark.slow
def test_a_factory_of_several_entry_points(capfd, folder):
    whole, tail = "whole: x: float32[4, 64] -> output_0: float32[4, 48]", "tail: x: float32[4, 64], state: float32[4, 64] -> "
    printed = [ok(capfd, *command) for command in (("inspect", "models:halves"), ("compile", "models:halves", "-o", "m.tb"))]
    printed.append(ok(capfd, "run", "m.tb", "--repeat", "2"))
    assert all(whole in text and tail in text for text in printed)
    np.save("x.npy", np.ones((4, 64), np.float32))
    inputs = ("-i", "x=x.npy", "-i", "state=x.npy")
    result = json.loads(ok(capfd, "run", "m.tb", "--entry", "tail", *inputs, "-o", "out", "--repeat", "3", "--json"))
    assert (result["entry_point"], result["outputs"]) == ("tail", [[4, 48], [4, 64]])
    assert (np.load("out/state.npy") == 2).all()  # of the first call, whatever was timed later
    profile = json.loads(ok(capfd, "run", "m.tb", "--entry", "tail", "--profile", "--json"))
    assert "second" in {row["name"] for row in profile["rows"]}


@pytest.mark.slow
def test_prune_by_sparsegpt_and_distill(capfd, folder):
    printed = ok(capfd, "prune", "models:dense", "4:16", "-o", "p.safetensors", "--calibration", "models:batches")
    assert "pruned 2 layers to 4:16 by sparsegpt" in printed
    ran = ("distill", "models:dense", "p.safetensors", "--batches", "models:batches", "-o", "d.pt2", "--minutes", "0.005")
    assert json.loads(ok(capfd, *ran, "--checkpoint", "c.pt", "--json"))["steps"] > 0
    assert [row["pattern"] for row in json.loads(ok(capfd, "inspect", "d.pt2", "--json"))["layers"]] == ["4:16", "4:16"]


def test_a_pattern_for_each_layer_from_a_file_of_samples(capfd, folder):
    np.savez("data.npz", np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32))
    ran = ("allocate", "models:dense", "--calibration", "data.npz", "--sparsity", "0.7", "-o", "patterns.json")
    assert json.loads(ok(capfd, *ran, "--json"))["sparsity"] >= 0.7
    printed = ok(capfd, "prune", "models:dense", "patterns.json", "-o", "p.pt2", "--calibration", "data.npz", "--method", "wanda")
    assert "patterns of their own by wanda" in printed
    patterns = json.loads((folder / "patterns.json").read_text())["patterns"]
    assert patterns


@pytest.mark.parametrize("structure", ["unstructured:0.75", "block8x8:0.5"])
def test_structures_that_are_compared_with(structure, capfd, folder):
    report = json.loads(ok(capfd, "prune", "models:dense", structure, "-o", "w.safetensors", "--json"))
    assert report["pattern"] == structure
    assert report["sparsity"] == pytest.approx(float(structure.partition(":")[2]), abs=0.01)


def test_a_layer_with_weight_norm_is_left_and_named(capfd, folder):
    printed = ok(capfd, "prune", "models:normed", "2:16", "-o", "p.pt2")
    assert "pruned 1 layer to" in printed
    assert 'make it plain: torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")' in printed
    printed = json.loads(ok(capfd, "compile", "p.pt2", "-o", "m.tb", "--no-race", "--json"))
    assert [layer["verdict"] for layer in printed["layers"]] == ["dense", "sparse"]


def test_nothing_is_left_to_torch_where_the_module_is_faster(capfd, folder, monkeypatch):
    monkeypatch.setenv("TVM_BALANCED_RACE", "1")
    monkeypatch.setattr("tvm_balanced.timing.race.SECONDS", 0.02)
    monkeypatch.setattr("tvm_balanced.frontend.fallback.faster_in_torch", lambda _module, _imported: {})
    printed = json.loads(ok(capfd, "compile", "models:pruned", "-o", "m.tb", "--fallback", "--json"))
    assert len(printed["races"]) == 1
    assert json.loads((folder / "m.tb" / "manifest.json").read_text())["left_to_torch"] == []


def test_pruned_weights_alone(capfd, folder):
    ok(capfd, "prune", "models:dense", "2:16", "-o", "w.safetensors", "--exclude", "2")
    printed = json.loads(ok(capfd, "compile", "models:dense", "--weights", "w.safetensors", "-o", "m.tb", "--json"))
    assert [layer["verdict"] for layer in printed["layers"]] == ["sparse", "dense"]
    assert printed["max_error"] < 1e-4


@pytest.mark.slow
def test_dynamic_batch_and_forced_kernels(capfd, folder):
    ok(capfd, "compile", "models:pruned", "-o", "m.tb", "--dynamic-batch", "--kernel", "0=cpu_portable", "--threads", "1")
    assert json.loads(ok(capfd, "run", "m.tb", "--batch", "9", "--json"))["outputs"] == [[9, 8]]
    manifest = json.loads((folder / "m.tb" / "manifest.json").read_text())
    assert manifest["report"]["layers"][0]["kernel"] == "cpu_portable"
    assert manifest["threads"] == 1


@pytest.mark.slow
def test_profile_machine(capfd, tmp_path, monkeypatch):
    for module in ("timing.profile_machine", "selection.machine_profile"):
        monkeypatch.setattr(f"tvm_balanced.{module}.ARITHMETIC", ((1, 64, 64, 1),))
        monkeypatch.setattr(f"tvm_balanced.{module}.MEMORY", (512, 512, 1))
    two = {name: KERNELS[name] for name in ("cpu_dense", "cpu_portable")}  # test_profile_machine.py measures them all
    monkeypatch.setattr("tvm_balanced.selection.machine_profile.KERNELS", two)
    shown = ok(capfd, "profile-machine", "-o", str(tmp_path / "c.json"))
    assert "cpu_dense float32" in shown
    measured = json.loads((tmp_path / "c.json").read_text())["arithmetic"]
    assert [len(times) for times in measured.values()] == [1] * len(measured)
    assert {name.split()[0] for name in measured} == {"cpu_dense", "cpu_portable"}


def test_env(capfd):
    shown = ok(capfd, "env")
    assert "target_key" in shown
    table = shown[: shown.rindex("\u2518")]  # the notes below it are sentences
    assert 60 <= max(map(len, table.splitlines())) <= 100
    assert "\u2026" not in table  # long text is wrapped, not truncated
    facts = json.loads(ok(capfd, "env", "--json"))
    assert facts["faults"] == []
    assert facts["target_key"].startswith("llvm-")


def test_env_ends_with_1_where_something_is_wrong(capfd, monkeypatch):
    monkeypatch.setattr(
        "tvm_balanced.runtime.environment.versions", lambda: {"apache-tvm": "0.27.0", "apache-tvm-ffi": "0.1.15.post2"}
    )
    assert run(["env"]) == 1
    assert "0.1.15.post2 does not work" in capfd.readouterr().out


def test_doctor_fits_on_a_screen(capfd, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    shown = ok(capfd, "doctor").splitlines()
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 110
    (row,) = (line for line in shown if "compile ONNX models" in line)
    assert "no onnx" in row
    assert "pip install 'tvm-balanced[onnx]'" in row
    rows = {row["name"]: row for row in json.loads(ok(capfd, "doctor", "--json"))}
    assert rows["compile ONNX models"]["ready"] is False
    assert rows["prune and compile PyTorch models"]["ready"] is True


def commands(group=None, path=()):
    """(path, click command) of every command, of groups too."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_has_json_and_a_place_in_the_help(capfd):
    without = [path for path, command in commands() if "--json" not in {o for p in command.params for o in p.opts}]
    assert without == []
    arguments = [p for _, command in commands() for p in command.params if p.param_type_name == "argument"]
    assert arguments
    assert [p.name for p in arguments if not ((p.metavar or "").isupper() and p.help)] == []
    shown = ok(capfd, "--help")
    panels = [line.split("─ ")[1].split(" ─")[0] for line in shown.splitlines() if "─ " in line]
    assert panels == ["Options", "Start here", "Prune", "Look and compile", "Tune", "Deploy", "This machine"]


def test_shell_completion_names_the_commands(capfd, monkeypatch):
    monkeypatch.setenv("_TVM_BALANCED_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "tvm-balanced pro")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run([]) == 0
    assert capfd.readouterr().out.split() == ["profile-machine"]


@pytest.mark.parametrize(
    ("text", "seconds", "want"),
    [
        ("3 of 5: encoder.0", 8.0, "12 s left"),
        ("1 of 5: encoder.0", 8.0, ""),
        ("machine code", 8.0, ""),
        ("601 of 6000 s", 600, "90 min left"),
    ],
)
def test_work_that_counts_shows_the_time_left(text, seconds, want):
    counted = console._counted(text)
    task = SimpleNamespace(completed=counted.get("completed", 0), total=counted.get("total"), elapsed=seconds)
    assert console._Left().render(task).plain == want


def test_bench_kernel(capfd):
    options = ("bench", "kernel", "--n", "64", "--k", "256", "--m", "8", "--rounds", "5")
    results = json.loads(ok(capfd, *options, "--json"))["results"]
    assert [row["name"] for row in results][:4] == ["balanced", "onednn", "eager", "csr"]
    assert results[0]["speedup"]["p50"] == 1
    assert "balanced is faster by" in ok(capfd, *options)


def test_bench_model(capfd):
    printed = ok(capfd, "bench", "model", "models:dense", "--prune", "2:16", "--no-torch-compile", "--rounds", "5", "--json")
    assert [row["name"] for row in json.loads(printed)["results"]] == ["balanced", "eager", "onednn packed linears"]


BAD = {
    "pattern too full": (["prune", "models:dense", "17:16", "-o", "p.pt2"], 2, "17:16"),
    "pattern empty": (["prune", "models:dense", "0:16", "-o", "p.pt2"], 2, "0:16"),
    "no pattern": (["prune", "models:dense", "x", "-o", "p.pt2"], 2, "NNZ:BLOCK"),
    "no such structure": (["prune", "models:dense", "block8x8:1.5", "-o", "p.pt2"], 2, "a sparsity is 1.5"),
    "nothing to prune": (["prune", "models:empty", "2:16", "-o", "p.pt2"], 1, "nothing to prune"),
    "no such layer": (["prune", "models:dense", "2:16", "-o", "p.pt2", "--include", "zzz"], 2, "whose name is in ['zzz']"),
    "exiting factory": (
        ["compile", "models:leaves", "-o", "m.tb"],
        1,
        "models:leaves ended with sys.exit(0) and returned nothing",
    ),
    "exiting module": (["compile", "models:leaving", "-o", "m.tb"], 1, "Leaving ended with sys.exit(0) in its forward"),
    "exiting in prune": (["prune", "models:leaves", "2:16", "-o", "p.pt2"], 1, "ended with sys.exit(0)"),
    "exiting in inspect": (["inspect", "models:leaves"], 1, "ended with sys.exit(0)"),
    "an interrupt in a factory": (["compile", "models:interrupted", "-o", "m.tb"], 130, ""),
    "prune a file": (["prune", "some.pt2", "2:16", "-o", "p.pt2"], 2, "give package.module:factory"),
    "prune a name": (["prune", "models", "2:16", "-o", "p.pt2"], 2, "not of the form package.module:factory"),
    "prune to another format": (["prune", "models:dense", "2:16", "-o", "p.onnx"], 2, ".safetensors"),
    "prune into nowhere": (["prune", "models:dense", "2:16", "-o", "no/such/p.pt2"], 1, "cannot be written"),
    "prune a file of Python": (["prune", "models.py", "2:16", "-o", "p.pt2"], 2, "not of the form package.module:factory"),
    "compile a file of Python": (["compile", "models.py", "-o", "m.tb"], 2, "a file of Python; give its name without .py"),
    "distill into nowhere": (
        ["distill", "models:fails", "w.safetensors", "--batches", "models:batches", "-o", "no/p.pt2"],
        1,
        "no/p.pt2 cannot be written (No such file or directory)",
    ),
    "allocate into nowhere": (
        ["allocate", "models:fails", "--calibration", "models:batches", "--speedup", "2", "-o", "no/p.json"],
        1,
        "no/p.json cannot be written",
    ),
    "fallback without a race": (
        ["compile", "models:fails", "-o", "m.tb", "--fallback", "--no-race"],
        2,
        "--fallback needs the race with PyTorch",
    ),
    "compile below a file": (["compile", "models:fails", "-o", "models.py/m.tb"], 1, "models.py/m.tb cannot be written"),
    "page below a file": (["report", "models:fails", "-o", "models.py/p.html"], 1, "models.py/p.html cannot be written"),
    "page of tuning below a file": (["tune", "models:fails", "--report", "models.py/p.html"], 1, "cannot be written"),
    "profile below a file": (["profile-machine", "-o", "models.py/p.json"], 1, "models.py/p.json cannot be written"),
    "prune onto a folder": (["prune", "models:fails", "2:16", "-o", "folder.pt2"], 1, "cannot be written (Is a directory)"),
    "NaN": (["compile", "models:nan", "-o", "m.tb"], 1, "layer 0: weight holds nan at (1, 2)"),
    "prune NaN": (["prune", "models:nan", "2:16", "-o", "p.pt2"], 1, "layer 0"),
    "missing file": (["compile", "none.pt2", "-o", "m.tb"], 2, "not a file"),
    "missing module": (["compile", "none:x", "-o", "m.tb"], 2, "there is no module none"),
    "missing module in a package": (["compile", "json.none:x", "-o", "m.tb"], 2, "there is no module json.none"),
    "missing factory": (["compile", "models:nothing", "-o", "m.tb"], 2, "models:nothing is missing"),
    "no factory": (["compile", "models:torch", "-o", "m.tb"], 2, "models:torch is of type module"),
    "failing factory": (
        ["compile", "models:fails", "-o", "m.tb"],
        1,
        "models:fails failed with ModuleNotFoundError: No module named 'not_there' in line 29 of models.py; let it return",
    ),
    "factory of something else": (["compile", "models:number", "-o", "m.tb"], 1, "models:number returned int"),
    "missing weights": (["compile", "models:dense", "-o", "m.tb", "--weights", "w.pt"], 2, "w.pt is not a file"),
    "damaged weights": (["compile", "models:dense", "-o", "m.tb", "--weights", "truncated.pt2"], 1, "not a readable weight file"),
    "threads": (["compile", "models:dense", "-o", "m.tb", "--threads", "0"], 2, "--threads"),
    "negative tolerance": (["compile", "models:dense", "-o", "m.tb", "--tolerance", "-1"], 2, "0 or more"),
    "no colon": (["compile", "models", "-o", "m.tb"], 2, "not a file"),
    "truncated file": (["compile", "truncated.pt2", "-o", "m.tb"], 1, "not a readable .pt2"),
    "inspect truncated": (["inspect", "truncated.pt2"], 1, "not a readable .pt2"),
    "target": (["compile", "models:pruned", "-o", "m.tb", "--target", "tpu"], 2, 'target "tpu" is not known'),
    "target twice": (["compile", "models:pruned", "-o", "m.tb", "--target", "cpu", "--target", "cpu"], 2, "one for each target"),
    "kernel": (["compile", "models:pruned", "-o", "m.tb", "--kernel", "*=magic"], 2, "magic"),
    "kernel form": (["compile", "models:pruned", "-o", "m.tb", "--kernel", "magic"], 2, "LAYERS=KERNEL"),
    "tolerance": (["compile", "models:pruned", "-o", "m.tb", "--tolerance", "1e-12"], 1, "differs from the original"),
    "not empty": (["compile", "models:pruned", "-o", "full"], 2, "not an empty directory"),
    "below a file": (["compile", "models:pruned", "-o", "models.py/m.tb"], 1, "cannot be written"),
    "dynamic batch of entry points": (["inspect", "models:halves", "--dynamic-batch"], 2, "entry points whole, tail"),
    "bench of entry points": (["bench", "model", "models:halves"], 2, "goes with a factory that gives example inputs"),
    "no artifact": (["run", "full"], 2, "no readable manifest"),
    "damaged artifact": (["run", "damaged"], 1, "no readable manifest"),
    "older artifact": (["run", "older"], 1, "has format 0"),
    "wrong option": (["compile", "--nope"], 2, "nope"),
    "no command": (["nope"], 2, "nope"),
    "weights for a file": (["compile", "truncated.pt2", "-o", "m.tb", "--weights", "w.pt"], 2, "already has its weights"),
    "bench pattern": (["bench", "kernel", "--n", "4", "--k", "64", "--m", "1", "--pattern", "17:16"], 2, "17:16"),
    "bench dtype": (["bench", "kernel", "--n", "4", "--k", "64", "--m", "1", "--dtype", "int3"], 2, "int3"),
    "bench regime": (["bench", "kernel", "--n", "4", "--k", "64", "--m", "1", "--regime", "warm"], 2, "warm"),
    "bench a file": (["bench", "model", "some.pt2"], 2, "need the module"),
    "bench an unknown factory": (["bench", "model", "none:x"], 2, "there is no module none"),
    "demo into a full folder": (["demo", "--out", "full"], 2, "not an empty directory"),
    "demo pattern": (["demo", "--pattern", "x"], 2, "NNZ:BLOCK"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_and_leaves_nothing(case, capfd, folder):
    arguments, code, message = BAD[case]
    (folder / "truncated.pt2").write_bytes(b"PK\x03\x04 cut off")
    (folder / "full").mkdir()
    (folder / "folder.pt2").mkdir()
    (folder / "full" / "mine.txt").write_text("keep")
    for name, manifest in {"damaged": "{", "older": '{"format": 0}'}.items():
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_text(manifest)
    before = tree(folder)
    assert run(arguments) == code
    captured = capfd.readouterr()
    assert message in " ".join(captured.err.split()).replace("│ ", "")
    assert "Traceback" not in captured.err + captured.out
    assert tree(folder) == before


def tree(folder):
    return sorted(str(p) for p in folder.rglob("*") if "__pycache__" not in str(p))


@pytest.mark.slow
def test_several_targets(capfd):
    command = ("compile", "models:pruned", "--target", "cpu", "--target", "cpu/x86-64-v3")
    printed = ok(capfd, *command, "-o", "m.tb")
    assert printed.count("2 of 2 layers run in sparse kernels") == 2
    assert "v3: " in printed
    variants = json.loads(ok(capfd, *command, "-o", "n.tb", "--json"))["variants"]
    assert [v["target"].endswith("v3") for v in variants] == [False, True]
    assert all(v["max_error"] < 1e-5 for v in variants)
    assert json.loads(ok(capfd, "run", "m.tb", "--json"))["target"] == variants[0]["target"]


def test_wrong_inputs_to_run(capfd, folder, compiled):
    np.save("short.npy", np.zeros((5, 63), np.float32))
    np.save("double.npy", np.zeros((5, 64)))
    (folder / "text.npy").write_text("no array")
    for name, header in {"header": b"{'descr': '<f4', 'shape': (", "deep": b"(" * 9000}.items():
        (folder / f"{name}.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    np.savez("several.npz", a=np.zeros(1))
    for option, code, message in [
        ("input=short.npy", 2, "shape (5, 63)"),
        ("input=double.npy", 2, "float64"),
        ("input=text.npy", 1, "not a readable .npy"),
        ("input=none.npy", 2, "none.npy is not a file"),
        ("input=header.npy", 1, "header.npy is not a readable .npy file"),
        ("input=deep.npy", 1, "deep.npy is not a readable .npy file"),
        ("input=several.npz", 2, "several.npz holds several arrays"),
        ("other=short.npy", 2, "NAME=FILE"),
    ]:
        assert run(["run", "m.tb", "-i", option]) == code
        assert message in " ".join(capfd.readouterr().err.split())


def test_an_altered_artifact(capfd, compiled):
    library = compiled / "lib.so"
    library.write_bytes(library.read_bytes()[:-1] + b"!")
    assert run(["run", "m.tb"]) == 1
    assert "checksum" in capfd.readouterr().err


@pytest.mark.slow
def test_exit_codes_of_the_process(folder):
    command = [sys.executable, "-m", "tvm_balanced"]
    assert subprocess.run([*command, "--help"], capture_output=True, check=False).returncode == 0
    assert (
        subprocess.run([*command, "prune", "models:dense", "x", "-o", "p.pt2"], capture_output=True, check=False).returncode == 2
    )
    assert subprocess.run([*command, "run", "none"], capture_output=True, check=False).returncode == 2


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["nope"], 2), (["run", "none"], 2)])
def test_signals_are_handled_as_before_when_a_command_has_ended(arguments, code, capfd):
    def mine(*_):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        assert run(arguments) == code
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_termination_ends_a_command_with_its_cleaning_up(capfd, monkeypatch):
    cleaned = []

    def command(*_, **__):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    monkeypatch.setattr("tvm_balanced.cli.app.app", command)
    assert run(["env"]) == 143
    assert cleaned == [True]


def test_a_title_that_is_wider_than_its_table_is_one_line(capfd):
    console.print_table("a title that is much wider than the table below it", ("a", "b"), [("1", "2" * 300)] * 2)
    console.print_table("another [title] that is much wider than the table below it", ("a",), [("1",)])
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "a title that is much wider than the table below it"
    assert "another [title] that is much wider than the table below it" in lines
    assert sum("2" * 300 in line for line in lines) == 2


def test_version(capfd):
    assert ok(capfd, "--version") == f"tvm-balanced {tb.__version__}\n"


@pytest.mark.slow
def test_compile_in_8_bits(folder, capsys):
    options = ["--precision", "int8", "--calibration", "models:batches", "--json"]
    code = run(["compile", "models:pruned", "-o", "m.tb", *options, "--max-loss", "0.05"])
    said = json.loads(capsys.readouterr().out)["precision"]
    assert (code, said["data"], said["max_loss"]) == (0, "6 calls of the calibration data", 0.05)
    assert said["loss"] == json.loads((folder / "m.tb" / "manifest.json").read_text())["report"]["precision"]["loss"] <= 0.05
    assert run(["compile", "models:pruned", "-o", "n.tb", "--precision", "int3"]) == 2
    assert "give one of float32, bfloat16, int8, int4, auto" in " ".join(capsys.readouterr().err.split())
    assert run(["inspect", "models:pruned", "--precision", "int8", "--json"]) == 0
