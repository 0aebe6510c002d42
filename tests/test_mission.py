"""The mission as one program: prune, tune by MetaSchedule, compile, save, load in a new process, call."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from support.fixed_latency import FixedLatencyRunner
from torch import nn
from tvm.s_tir import meta_schedule as ms

import tvm_balanced as tb
from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Measured, Trial
from tvm_balanced.tuning.runners.base import Confirmed, attempt
from tvm_balanced.tuning.tasks import Task
from tvm_balanced.tuning.tune import TuneOptions, tune_tasks

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tuning")]
ELSEWHERE = """
import numpy as np, tvm_balanced as tb
np.save("y.npy", np.asarray(tb.load("model.tb")(np.load("x.npy"))))
"""


class Model(nn.Module):
    """A convolution, an LSTM and a dense head that stays dense."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 32, 3, padding=1)
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.head = nn.Linear(64, 32)

    def forward(self, x):
        seen = torch.relu(self.conv(x)).mean(2).transpose(1, 2)  # a step for each column, of the means of its channels
        steps, _ = self.lstm(seen[:, :, :8])
        return self.head(steps.mean(1))


@pytest.mark.avx2
def test_from_a_pruned_model_to_a_tuned_artifact_elsewhere(tmp_path, monkeypatch):
    pytest.importorskip("xgboost")
    loops, tune_loop = [], ms.tune.tune_tasks
    monkeypatch.setattr(ms.tune, "tune_tasks", lambda **given: loops.append(len(given["tasks"])) or tune_loop(**given))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(1, 16, 6, 6)
    tb.prune(model, "2:16", exclude="head")
    result = tb.tune(model, (x,), work_dir=tmp_path / "logs", per_kernel=3, threads=1)
    assert loops == [len(result.kernels)]
    layers = {layer.partition(".")[0] for kernel in result.kernels for layer in kernel.layers}
    assert layers == {"conv", "lstm", "head"}
    assert all(kernel.trials == min(3, kernel.space) and kernel.best_us > 0 for kernel in result.kernels)
    module = tb.compile(model, (x,), logs=tmp_path / "logs", threads=1)
    assert any(layer.schedule in ("tuned: user log", "default: nothing beat it, user log") for layer in module.report.layers)
    module.save(tmp_path / "model.tb")
    np.save("x.npy", x.numpy())
    subprocess.run([sys.executable, "-c", ELSEWHERE], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load("y.npy"), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


class MachineCode(FixedLatencyRunner):
    """Compiles candidates to machine code of a GPU, and takes shorter code for faster."""

    parallel = 2

    def build_all(self, candidates):
        def build(func):
            return nvcc.cubin(cuda_source(func, "sm_90"), "sm_90")

        return (attempt(build, candidate) for candidate in candidates)

    def run_all(self, workload, built):
        self.measured += [(workload, one.decisions) for one in built]
        return (Measured(one.decisions, len(one.code) * 1e-9) for one in built)

    def confirm(self, workload, candidates, seconds):
        return Confirmed(candidates[0], Ratio(1.1, 1.1, 1.1), 0.0)


@pytest.mark.nvcc
def test_for_a_gpu_up_to_machine_code(tmp_path):
    """Without a GPU: MetaSchedule's loop builds each candidate by nvcc, and what it finds is what a model is compiled with."""
    target = parse_target("cuda/h200")
    workload = Workload("cuda_gemv", 1, 256, 256, 2, 16, "float16")
    options = TuneOptions(target=target, work_dir=tmp_path, trials=4, threads=1, strategy="replay")
    result = tune_tasks([Task(workload)], options, "a test", runner=MachineCode(0))
    (log,) = (Log(tmp_path, path.name) for path in tmp_path.iterdir())
    trials = [record for record in log.read().records if isinstance(record, Trial)]
    assert len(trials) == result.trials == 4
    assert all(trial.seconds > 1e-6 for trial in trials)  # a kilobyte at least
    assert TunedSchedules.of(target, 1, tmp_path).source(Variant(workload)) == "tuned: user log"
