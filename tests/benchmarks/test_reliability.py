import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import fuzz_targets

from benchmarks.reliability import fuzzing, page, random_inputs, rows, shared_weights, soak

LAYER = random_inputs.Layer("cpu_portable", "float32", 20, 40, 3, 2, "gelu", bias=True, residual=True, seed=0)
NIGHTLY = pytest.mark.skipif("TVM_BALANCED_NIGHTLY" not in os.environ, reason="seconds of each kernel or process: make nightly")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Rows go to a folder of the test."""
    monkeypatch.setattr(rows, "DATA", tmp_path)
    rows.path_of.cache_clear()
    yield tmp_path
    rows.path_of.cache_clear()


def test_random_inputs_are_inside_of_bounds_that_are_not_wide(monkeypatch):
    results, outside, share = random_inputs.tried(LAYER, 30)
    assert (results, outside) == (30 * 3 * 20, 0)
    assert 0.005 < share < 1
    monkeypatch.setattr(random_inputs, "allowed", lambda *_: share / 2 * original(*_))
    assert random_inputs.tried(LAYER, 30)[1] > 0


original = random_inputs.allowed


@NIGHTLY
@pytest.mark.parametrize(("kernel", "dtype"), random_inputs.here())
def test_every_kernel_has_a_bound_that_holds(kernel, dtype):
    layer = replace(LAYER, kernel=kernel, dtype=dtype, k=70, activation="none")
    _, outside, share = random_inputs.tried(layer, 10)
    assert outside == 0
    assert share > 0.005


def test_layers_are_drawn_always_the_same():
    drawn = list(random_inputs.drawn(3))
    assert drawn == list(random_inputs.drawn(3))
    assert len(set(drawn)) == random_inputs.BUILDS
    assert {(layer.kernel, layer.dtype) for layer in drawn} <= set(random_inputs.here())


def test_random_inputs_go_on_where_they_stopped(data, monkeypatch):
    seen = []
    monkeypatch.setattr(random_inputs, "tried", lambda layer, inputs: seen.append(layer.seed) or (10, layer.seed == 41, 0.5))
    assert random_inputs.run("a", 2 * random_inputs.BUILDS)
    assert random_inputs.run("a", 2 * random_inputs.BUILDS)
    assert seen == list(range(2 * random_inputs.BUILDS))
    assert not random_inputs.run("a", 3 * random_inputs.BUILDS)
    assert [row["outside"] for row in rows.read("inputs", "a")] == ["0", "0", "1"]
    assert "seed=41" in rows.read("inputs", "a")[2]["first_outside"]


def test_fuzzing_goes_on_until_each_reader_had_its_time(data, monkeypatch, tmp_path):
    def fuzz(name, seconds, corpus):
        return {"reader": name, "cpu_seconds": 30, "inputs": 5, "reached": 7, "finding": "a fault" if name == "npy" else ""}

    monkeypatch.setattr(fuzzing, "fuzz", fuzz)
    assert not fuzzing.run("a", 60, tmp_path)
    assert {name: fuzzing.spent("a", name) for name in fuzz_targets.TARGETS} == {
        name: 30 if name == "npy" else 60 for name in fuzz_targets.TARGETS
    }
    assert fuzzing.findings("a", "npy") == ["a fault"]


def test_the_slope_of_memory_is_of_what_comes_behind_the_first_minutes(data):
    for minute in range(1, 31):
        grown = 1000 * minute if minute <= soak.WARM else 50_000 + 10 * minute
        counts = dict.fromkeys(("calls", "loads", "saves", "wrong", "errors"), minute)
        sizes = {"rss_kb": 90_000, "anonymous_kb": grown, "mappings": 400, "files": 9, "threads": 6}
        rows.write("soak", "a", {"run": 0, "process": 0, "minute": minute} | counts | sizes)
    (found,) = soak.slopes("a")
    assert (found["minutes"], found["loads"], found["kb_per_hour"]) == (30, 30, 600.0)
    assert (found["anonymous_kb_first"], found["anonymous_kb_last"]) == (50_110, 50_300)
    assert not soak.run("a", 30)  # nothing is left to do, and what was wrong stays wrong


@pytest.mark.slow
def test_a_process_of_the_soak_works_and_ends(mlp, compiled_mlp, artifact, tmp_path):
    _, (x,) = mlp
    (tmp_path / "m.tb").symlink_to(artifact)
    np.savez(tmp_path / "m.npz", x=x.numpy(), y=compiled_mlp(x).numpy())
    command = [sys.executable, "-m", "benchmarks.reliability.soak_process", tmp_path, "2", "1.9", "0.5"]
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    said, end = {"loads": 0}, time.monotonic() + 120
    while said["loads"] < 4 and time.monotonic() < end:
        said = json.loads(process.stdout.readline())
    process.communicate("")
    assert process.returncode == 0
    assert said["loads"] >= 4
    assert (said["wrong"], said["errors"]) == (0, 0)
    assert said["anonymous_kb"] > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.npz", "m.tb"]


@NIGHTLY
def test_two_processes_share_weights_and_do_not_share_copies(data):
    shared_weights.run("a", 0.02, side=1024)
    shared, copied = rows.read("shared", "a")
    assert (shared["weights"], copied["weights"]) == ("shared", "copied")
    megabytes = int(shared["bytes"]) / 1e6
    assert megabytes > 15
    assert int(copied["pss_mb_of_both"]) - int(shared["pss_mb_of_both"]) > 0.5 * megabytes


def test_the_page_has_the_totals(data, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    for batch in range(2):
        row = {"batch": batch, "builds": 20, "inputs": 500, "results": 1_000_000, "outside": 0, "largest_share": f"0.{batch + 5}"}
        rows.write("inputs", "a", row)
        rows.write("fuzz", "a", {"reader": "npy", "cpu_seconds": 300.2, "inputs": 600, "reached": 40 + batch, "finding": ""})
    rows.write("inputs", "b", row | {"builds": 9})
    page.write("a")
    text = (tmp_path / "page.md").read_text()
    assert "40      1,000   2,000,000  0                       0.600" in text
    assert "npy     600          1,200   41       none" in text
