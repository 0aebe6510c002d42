"""The models on the CPU instead of a GPU, small and in float32. Only a run on a GPU checks the measurements."""

from functools import partial

import pytest
import torch

import tvm_balanced as tb
from benchmarks.gpu import models
from benchmarks.gpu.folder import Folder
from tvm_balanced.timing.gpu_timer import synced_timer


class Here:
    name, torch = "this CPU", "cpu"


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    compile_here = tb.compile

    def compile_in_float32(model, args, target, dynamic_shapes):
        assert target == "cuda"
        return compile_here(model.float(), tuple(map(widened, args)), dynamic_shapes=dynamic_shapes)

    monkeypatch.setattr(models, "BLOCKS", 1)
    monkeypatch.setattr(models, "WIDTH", 64)
    monkeypatch.setattr(models, "HIDDEN", 128)
    monkeypatch.setattr(models, "ROUNDS", 2)
    monkeypatch.setattr(models, "CALLS", 1)
    monkeypatch.setattr(models.tb, "compile", compile_in_float32)
    monkeypatch.setattr(torch, "compile", lambda model: model)
    monkeypatch.setattr(models, "gpu_timer", lambda rival, calls: synced_timer(rival, calls, lambda: None))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


def widened(arg):
    return arg.float() if arg.is_floating_point() else arg


def subject(rows=(1, 3)):
    made = models.Subject(models.Case("feed-forward", rows, "2:16", "float16"), Here())
    made.args = tuple(map(widened, made.args))
    return made


@pytest.mark.slow
def test_every_form_is_timed_at_every_number_of_rows(tmp_path):
    made, folder = subject(), Folder(tmp_path)
    with torch.no_grad():
        for m in made.case.rows:
            folder.append("gpu_models.csv", models.COLUMNS, made.measure(m))
    rows = folder.read("gpu_models.csv")
    assert {(row["m"], row["rival"]) for row in rows} == {
        (m, rival) for m in ("1", "3") for rival in ("balanced", "eager", "torch.compile")
    }
    assert len(rows) == 12  # by a graph's clock and by the wall clock
    assert all(float(row["us"]) > 0 and float(row["error"]) < 1e-5 for row in rows)


def test_a_wrong_result_is_not_timed():
    made = subject((2,))
    made.forms["eager"] = partial(torch.full_like, fill_value=float("nan"))
    with torch.no_grad(), pytest.raises(RuntimeError, match="eager is wrong"):
        made.measure(2)


def test_a_feed_forward_block_is_what_decoders_compute(rng):
    block, x = models.FeedForward(32, 64).double(), torch.from_numpy(rng.standard_normal((3, 32)))
    normed = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)
    gate, up = normed @ block.gate.weight.T, normed @ block.up.weight.T
    torch.testing.assert_close(block(x), x + (gate / (1 + torch.exp(-gate)) * up) @ block.down.weight.T)
