"""The models on the CPU instead of a GPU, small and in float32. Only a run on a GPU checks the measurements."""

import time
from functools import partial

import pytest
import torch

from benchmarks.gpu import models, plan
from benchmarks.gpu.device import Cpu
from benchmarks.gpu.devices import open_device
from benchmarks.gpu.folder import MACHINE_UNITS, Folder


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


@pytest.mark.slow
@pytest.mark.pocl
def test_the_run_book_measures_every_model(device, tmp_path):
    """On the stand-in, whose models run on the CPU: decoder, images, prompt and feed-forward."""
    book = plan.RunBook.of(open_device("stand-in"), Folder(tmp_path), time.time() + 600)
    units = plan.only(book.plan(), ["model: *"])[len(MACHINE_UNITS) :]
    assert plan.work(book, units) == 0
    outcomes = book.folder.read("units.csv")
    assert [(row["unit"], row["outcome"]) for row in outcomes] == [(f"model: {case}", "done") for case in models.STAND_IN_CASES]
    rows = book.folder.read("gpu_models.csv")
    assert (
        {row["model"] for row in rows}
        == {"decoder", "images", "prompt", "feed-forward"}
        == set(models.MODELS) - {"encoder", "lstm"}
    )
    assert {row["rival"] for row in rows} == {"balanced", "eager"}
    assert all(float(row["us"]) > 0 and float(row["error"]) < 1e-5 for row in rows)


def test_a_feed_forward_block_is_what_decoders_compute(rng):
    block, x = models.FeedForward(32, 64).double(), torch.from_numpy(rng.standard_normal((3, 32)))
    normed = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)
    gate, up = normed @ block.gate.weight.T, normed @ block.up.weight.T
    torch.testing.assert_close(block(x), x + (gate / (1 + torch.exp(-gate)) * up) @ block.down.weight.T)
