import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import deepsparse_process, engines
from benchmarks.deepsparse_process import EngineError, Worker
from benchmarks.engines import ENGINES, Engine, available
from tvm_balanced.bench.kernel import KernelBenchmark
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.timing.paired import Seconds


def benchmark():
    return KernelBenchmark(64, 64, 4, BalancedPattern.parse("2:16"), 1, "hot", rounds=5)


def dense(weight, x, copies, threads):
    return lambda call: x @ weight.T


def test_what_is_missing_is_left_out_with_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(ENGINES, "onnxruntime", Engine(dense, ("no-such-package", "numpy")))
    monkeypatch.setattr(deepsparse_process, "installed", lambda: False)
    said = []
    assert available(["onnxruntime", "torch.compile", "deepsparse"], said.append) == ("torch.compile",)
    assert "onnxruntime is left out: no-such-package not installed" in said[0]
    assert "deepsparse is left out: its environment" in said[1]
    assert len(said) == 2
    monkeypatch.setattr(deepsparse_process, "installed", lambda: True)
    monkeypatch.setitem(ENGINES, "deepsparse", replace(ENGINES["deepsparse"], packages=("no-such-package",)))
    assert available(["deepsparse"], said.append) == ()
    assert "deepsparse is left out: no-such-package not installed" in said[2]


@pytest.mark.grid
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [name for name in ENGINES if name != "torch.compile"])  # it compiles for seconds
def test_an_engine_that_is_here_is_right_in_every_copy(name, threads):
    if ENGINES[name].missing():
        pytest.skip(ENGINES[name].missing())
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((48, 64)) < 0.2, rng.standard_normal((48, 64)), 0).astype(np.float32)
    for rows in (1, 5):
        x = rng.standard_normal((rows, 64)).astype(np.float32)
        rival = ENGINES[name].make(weight, x, 2, threads)
        for call in range(3):
            y = rival(call)
            y = rival.result() if isinstance(y, Seconds) else y
            np.testing.assert_allclose(np.asarray(y), x @ weight.T, rtol=1e-4, atol=1e-4)


def test_a_rival_that_is_wrong_is_refused():
    def off_by_little(weight, x, copies, threads):
        return lambda call: x @ weight.T * 1.001

    right = benchmark().time((), {"mine": Engine(dense, ("numpy",)).bound("hot", 1)}, seconds=1)
    assert set(right.times) == {"balanced", "mine"}
    with pytest.raises(RuntimeError, match="mine is wrong"):
        benchmark().time((), {"mine": Engine(off_by_little, ("numpy",)).bound("hot", 1)}, seconds=1)
    with pytest.raises(RuntimeError, match="mine is wrong"):
        benchmark().time((), {"mine": lambda weight, x: lambda call: np.zeros((1, 1))}, seconds=1)


def test_copies_follow_the_bytes_that_an_engine_takes(monkeypatch):
    asked = []
    weight, x = np.zeros((64, 64), np.float32), np.zeros((1, 64), np.float32)
    weight[:, ::16] = 1
    monkeypatch.setattr(engines, "copies", lambda nbytes, regime: asked.append((nbytes, regime)) or 1)
    Engine(dense, ()).bound("cold", 1)(weight, x)
    Engine(dense, (), sparse_bytes=8).bound("hot", 1)(weight, x)
    assert asked == [(64 * 64 * 4, "cold"), (64 * 4 * 8, "hot")]


WORKER = """
import sys, time
import numpy as np
for line in sys.stdin:
    command, *rest = line.split()
    if command == "save":
        np.save(sys.argv[1] + "/y.npy", np.full((2, 3), 7, np.float32))
    if command == "load" and "bad" in line:
        print("failed no such file", flush=True)
    elif command == "call":
        print("done 0.25", flush=True)
    else:
        print("done", flush=True)
"""


def test_a_worker_reports_its_own_seconds(tmp_path):
    worker = Worker(tmp_path, 1, [sys.executable, "-c", WORKER, str(tmp_path)])
    worker.load(Path("model.onnx"), 2)
    worker.fetch_result()
    assert worker(3) == 0.25
    assert isinstance(worker(3), Seconds)
    assert (worker.result() == 7).all()
    with pytest.raises(EngineError, match="no such file"):
        worker.load(Path("bad.onnx"), 2)
    worker.close()
    with pytest.raises(EngineError, match="its process ended"):
        Worker(tmp_path, 1, [sys.executable, "-c", "pass"])(0)


def test_deepsparse_that_cannot_be_installed_says_why(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(deepsparse_process, "PYTHONS", ("2.1",))
    with pytest.raises(EngineError, match=r"needs a Python of 2\.1 and none was found"):
        deepsparse_process.install(tmp_path / "environment")

    monkeypatch.setattr(deepsparse_process, "PYTHONS", (f"{sys.version_info.major}.{sys.version_info.minor}",))
    refusal = subprocess.CompletedProcess([], 1, stderr="WARNING: x\nERROR: No matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: refusal)
    with pytest.raises(EngineError, match=r"could not install deepsparse==1\.8\.0: ERROR: No matching distribution"):
        deepsparse_process.install(tmp_path / "environment")
    assert not deepsparse_process.installed(tmp_path / "environment")
