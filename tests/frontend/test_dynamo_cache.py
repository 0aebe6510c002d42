"""What torch.compile's backend keeps for other processes: found again by all that it was made from, and by nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import fx, nn

import tvm_balanced as tb
from tvm_balanced.compiler.compile import CompileOptions
from tvm_balanced.frontend import dynamo_cache
from tvm_balanced.frontend.dynamo_graph import Inputs
from tvm_balanced.frontend.dynamo_key import key_of

PROGRAM = """
import torch
from torch._dynamo.utils import counters
import tvm_balanced as tb
from tvm_balanced.frontend.dynamo import tvm_balanced
torch._dynamo.reset()
counters.clear()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.GELU(), torch.nn.Linear(96, 16)).eval()
tb.prune(model, "4:16")
fast = torch.compile(model, backend=tvm_balanced, options={"threads": 1, "logs": False}, dynamic=True)
with torch.no_grad():
    for rows in (3, 5):
        x = torch.randn(rows, 64)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-5, atol=1e-5)
print(dict(counters["tvm_balanced"]))
"""


def started():
    return subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out.strip()


@pytest.mark.slow
def test_another_process_loads_what_this_one_compiled(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    for said in ("{'modules compiled': 1}", "{'modules loaded': 1}"):
        exec(PROGRAM, {})
        assert capsys.readouterr().out.strip() == said
    assert ended(started()) == "{'modules loaded': 1}"
    (kept,) = (tmp_path / "tvm_balanced").iterdir()
    (kept / "lib.so").write_bytes(b"")  # what is damaged is made anew
    exec(PROGRAM, {})
    assert capsys.readouterr().out.strip() == "{'modules compiled': 1}"
    assert (kept / "lib.so").stat().st_size > 0


@pytest.mark.skipif("TVM_BALANCED_NIGHTLY" not in os.environ, reason="make nightly runs this")
def test_processes_that_compile_the_same_at_once_leave_one_artifact(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    for process in [started() for _ in range(3)]:
        ended(process)
    assert len(list((tmp_path / "tvm_balanced").iterdir())) == 1
    assert ended(started()) == "{'modules loaded': 1}"


def key(model, *args, dynamic=None, **options):
    """The key of the graph that dynamo makes of a call."""
    keys = []

    def backend(graph, examples):
        given = CompileOptions(**{"threads": 1, "logs": False} | options)
        keys.append(key_of(graph, Inputs.of(graph), list(examples), dynamic, given))
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(model, backend=backend)(*args)
    return keys[0]


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 16)

    def forward(self, x, scale):
        return self.down(self.up(x).relu()) * scale


def seeded():
    torch.manual_seed(0)
    return Mlp()


def test_a_key_is_that_of_the_graph_its_weights_and_options():
    x = torch.ones(4, 32)
    same = key(seeded(), x, 1.5)
    assert same == key(seeded(), x * 2, 1.5)
    other = seeded()
    with torch.no_grad():
        other.down.bias[3] += 1e-6
    tied = seeded()
    tied.down.weight = nn.Parameter(tied.up.weight.detach().reshape(16, 128)[:, :64].contiguous())
    keys = [
        same,
        key(other, x, 1.5),
        key(tied, x, 1.5),
        key(seeded(), x, 2.5),
        key(seeded(), x, 1),
        key(seeded(), torch.ones(5, 32), 1.5),
        key(seeded().double(), x.double(), 1.5),
        key(seeded(), x, 1.5, threads=2),
        key(seeded(), x, 1.5, tolerance=0.1),
        key(seeded(), x, 1.5, kernels={"*": "cpu_portable"}),
        key(seeded(), x, 1.5, target="cpu/znver3"),
        key(seeded(), x, 1.5, copies=1),
        key(seeded(), x, 1.5, logs=None),
        key(seeded(), x, 1.5, dynamic=[{0: "any"}]),
        key(nn.Sequential(nn.Linear(32, 64), nn.ReLU()), x),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    with torch.autocast("cpu", torch.bfloat16):
        assert key(seeded(), x, 1.5) != same


def doubled(x):
    return x * 2


fx.wrap("doubled")


def test_a_graph_with_functions_of_the_user_has_no_key():
    torch.compiler.allow_in_graph(doubled)

    class Own(nn.Linear):
        def forward(self, x):
            return doubled(super().forward(x))

    assert key(Own(8, 8), torch.ones(1, 8)) is None
    assert key(nn.Linear(8, 8), torch.ones(1, 8)) is not None


def test_where_it_is_and_when_it_is_off(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert dynamo_cache.folder() == tmp_path / "home" / "tvm_balanced" / "torch_compile"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    assert dynamo_cache.folder() == tmp_path / "torch" / "tvm_balanced"
    (tmp_path / "torch" / "tvm_balanced").chmod(0o777)
    assert dynamo_cache.folder() is None  # others could put code there
    (tmp_path / "torch" / "tvm_balanced").chmod(0o700)
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    assert dynamo_cache.folder() is None


def test_what_was_used_least_recently_goes_first(monkeypatch, tmp_path, compiled_mlp):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    for age, name in enumerate(("new", "middle", "old")):
        for _ in range(2):  # the second is as one of a process that came late
            dynamo_cache.keep(name, compiled_mlp)
        os.utime(tmp_path / "tvm_balanced" / name, (10**9 - age, 10**9 - age))
    size = sum(file.stat().st_size for file in (tmp_path / "tvm_balanced" / "old").rglob("*") if file.is_file())
    monkeypatch.setattr(dynamo_cache, "LIMIT", 3 * size)
    assert isinstance(dynamo_cache.find("old"), tb.CompiledModule)  # is used, so "middle" is the oldest now
    dynamo_cache.keep("newest", compiled_mlp)
    assert {path.name for path in Path(tmp_path, "tvm_balanced").iterdir()} == {"old", "new", "newest"}
    assert dynamo_cache.find("middle") is None
