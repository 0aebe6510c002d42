"""The models on the CPU instead of a GPU, small and in float32. Only a run on a GPU checks the measurements."""

from functools import partial

import pytest
import torch

from benchmarks.gpu import models
from benchmarks.gpu.device import Cpu
from benchmarks.gpu.folder import Folder


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(models, "SECONDS", 0.1)
    monkeypatch.setattr(models, "CALLS", 1)
    return Cpu()


@pytest.mark.slow
def test_every_form_is_timed_at_every_number_of_rows(device, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "compiled_by_torch", lambda model: {"torch.compile": model})
    folder = Folder(tmp_path)
    lines = models.measure(models.Case("feed-forward", (1, 3), "2:16", "float32", models.TINY), device, folder)
    rows = folder.read("gpu_models.csv")
    assert {(row["m"], row["rival"]) for row in rows} == {
        (m, rival) for m in ("1", "3") for rival in ("balanced", "eager", "torch.compile")
    }
    assert len(rows) == 12  # by a graph's clock and by the wall clock
    assert all(float(row["us"]) > 0 and float(row["error"]) < 1e-5 for row in rows)
    assert [line.partition(":")[0] for line in lines] == ["m1", "m3"]


def test_a_wrong_result_is_not_timed(device):
    made = models.Subject(models.Case("feed-forward", (2,), "2:16", "float32", models.TINY), device)
    made.forms["eager"] = partial(torch.full_like, fill_value=float("nan"))
    with torch.no_grad(), pytest.raises(RuntimeError, match="eager is wrong"):
        made.measure(2)


@pytest.mark.parametrize("model", ["images", *(pytest.param(name, marks=pytest.mark.slow) for name in ("decoder", "prompt"))])
def test_a_model_of_what_libraries_compute_compiles_and_agrees(model, device):
    made = models.Subject(models.Case(model, (2,), "2:4", "float32", models.TINY), device)
    rivals = {"balanced": lambda _: made.compiled(*made.args)}
    with torch.no_grad():
        assert made._errors(rivals, made.args)["balanced"] < 1e-5


def test_a_feed_forward_block_is_what_decoders_compute(rng):
    block, x = models.FeedForward(32, 64).double(), torch.from_numpy(rng.standard_normal((3, 32)))
    normed = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)
    gate, up = normed @ block.gate.weight.T, normed @ block.up.weight.T
    torch.testing.assert_close(block(x), x + (gate / (1 + torch.exp(-gate)) * up) @ block.down.weight.T)
