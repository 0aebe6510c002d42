import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import __main__ as run_book
from benchmarks.gpu import correctness, models, plan, supervise
from benchmarks.gpu.cells import GPU_SHAPES, by_section, kernels_for
from benchmarks.gpu.device import Absent, Cpu
from benchmarks.gpu.devices import open_device
from benchmarks.gpu.folder import Folder
from benchmarks.gpu.layer import Cell, Layer, check, error_of, rotate, upload
from benchmarks.gpu.measuring import COLUMNS, Ceilings
from benchmarks.gpu.report import write_report
from benchmarks.gpu.rivals import BASELINES, rivals_of
from benchmarks.gpu.tuning import Found, tune
from benchmarks.gpu.worst import worst_of
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base import gpu_specs
from tvm_balanced.schedules.kernels import cuda_gemv
from tvm_balanced.tuning import task_state
from tvm_balanced.tuning.log import tools

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("run-book")  # processes that measure, and are killed
CELL = Cell(16384, 8192, 1, "2:16", "float32", "cuda_gemv")


def command(out, *more):
    return [sys.executable, "-m", "benchmarks.gpu", "--stand-in", "--out", str(out), *more]


@pytest.mark.slow
@pytest.mark.pocl
def test_the_rehearsal_is_killed_and_goes_on(tmp_path):
    """A part of the plan: the machine, its ceilings, cases, and a search with its cell."""
    units = (
        *("correct: 70x200 m1 8:16 float32 cuda_gemv residual", "correct: 512x8192 m16 4:16 float32 cuda_gemm_fp32 residual"),
        "tune: 64x200 m1 1:16 float32 cuda_gemv default",
    )
    folder, options = Folder(tmp_path), ("--minutes", "5", *(part for unit in units for part in ("--only", unit)))
    with subprocess.Popen(command(tmp_path, *options), cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        until_correct = next(line for line in first.stdout if line.startswith("done correct"))
        assert "cuda_gemv" in until_correct
        first.send_signal(signal.SIGKILL)
    done = folder.read("units.csv")
    again = subprocess.run(command(tmp_path, *options), cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    after = folder.read("units.csv")
    assert [row["unit"] for row in after[: len(done)]] == [row["unit"] for row in done]
    assert len({row["unit"] for row in after}) == len(after) > len(done)
    assert {row["outcome"] for row in after} == {"done"}, after
    rows = folder.read("gpu.csv")
    rivals = {"balanced", "default", "cublas", "cublas_tf32", "csr", "cuda_dense", "triton_bitmask"}
    assert {row["rival"] for row in rows} == rivals
    assert {row["schedule"] for row in rows} == {"tuned"}
    there = [row for row in rows if row["rival"] != "triton_bitmask" or not row["note"]]  # not on every machine
    assert all(float(row["us"]) > 0 and float(row["error"]) < 1e-5 for row in there)
    assert tools.verify(folder.logs) == []
    (log,) = tools.listed(folder.logs)
    assert log.trials == 4
    assert log.failed == 0
    assert all(float(row["error"]) <= float(row["limit"]) for row in folder.read("correctness.csv"))
    report = (tmp_path / "report.md").read_text()
    assert "the times mean nothing" in report
    assert "## Tuning" in report
    assert str(tmp_path / "report.md") in again.stdout
    assert sum(path.is_file() for path in tmp_path.rglob("*")) <= 8


@pytest.mark.slow
@pytest.mark.pocl
def test_a_search_writes_a_log_that_may_be_shipped(tmp_path):
    cell = Cell(64, 200, 1, "1:16", "float32", "cuda_gemv")
    found = tune(cell, open_device("stand-in"), tmp_path, seconds=60, candidates=2)
    assert found.trials == 2
    assert tools.verify(tmp_path) == []
    (trials,) = (log.trials for log in tools.listed(tmp_path))
    assert trials == 2


@pytest.mark.pocl
def test_a_search_with_nothing_near_the_default_finds_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr(task_state, "NEAR", 0.0)
    cell = Cell(64, 200, 1, "1:16", "float32", "cuda_gemv")
    assert tune(cell, open_device("stand-in"), tmp_path, seconds=60, candidates=2).gain == 1.0
    assert tools.verify(tmp_path) == []


@pytest.mark.pocl
def test_a_search_that_finds_nothing_says_so(tmp_path):
    cell = Cell(64, 200, 1, "1:16", "float32", "cuda_gemv")
    with pytest.raises(RuntimeError, match=r"no candidate for 64x200 m1 1:16 .* is usable: time is up"):
        tune(cell, open_device("stand-in"), tmp_path, seconds=-60, candidates=2)


def test_a_worker_that_dies_or_hangs_is_recorded(tmp_path, monkeypatch):
    folder = Folder(tmp_path)

    def worker(script):
        return supervise._one_worker([sys.executable, "-uc", script], folder, time.time() + 60)

    said = worker("print('begin a'); print('done a: fine'); print('begin b'); print('an illegal access'); import os; os._exit(7)")
    assert said[:2] == (7, True)
    monkeypatch.setattr(supervise, "SILENT", 10)  # on a busy machine a process takes a second to begin
    worker("print('begin c'); import time; time.sleep(60)")
    rows = {row["unit"]: row for row in folder.read("units.csv")}
    assert rows["b"]["outcome"] == rows["c"]["outcome"] == "died"
    assert "an illegal access" in rows["b"]["note"]
    assert "said nothing" in rows["c"]["note"]


def test_what_time_cut_off_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "CLOSING", 0.2)
    script = "print('begin a'); import time; time.sleep(60)"
    supervise._one_worker([sys.executable, "-uc", script], Folder(tmp_path), time.time())
    assert Folder(tmp_path).outcomes() == {}


WORKER = """
import pathlib, sys, time
from benchmarks.gpu import plan
from benchmarks.gpu.device import Absent
plan.ROOT = pathlib.Path(sys.argv[1])
plan.RunBook(Absent(), None, time.time() + 60, None, None)._tests()
"""
TEST = """
import os, pathlib, time, pytest
@pytest.mark.cuda
def test_for_long():
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(float(os.environ["FOR"]))
"""


@pytest.fixture
def environment(tmp_path):
    """The variables of a worker whose tests, in a folder of their own, take FOR seconds."""
    folder = tmp_path / "tests" / "runtime" / "cuda"
    folder.mkdir(parents=True)
    (folder / "test_a.py").write_text(TEST)
    return {"PYTHONPATH": str(ROOT), "FOR": "0"}


@pytest.mark.slow
def test_the_tests_of_a_worker_that_is_killed_end_with_it(environment, tmp_path):
    given = os.environ | environment | {"FOR": "50"}
    with subprocess.Popen([sys.executable, "-c", WORKER, tmp_path], env=given) as worker:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        pid = int((tmp_path / "pid").read_text())
        assert Path(f"/proc/{pid}").exists()
        worker.kill()
    wait_until(lambda: not running(pid))


@pytest.mark.slow
def test_the_tests_of_a_worker_say_what_came_of_them(environment, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(plan, "ROOT", tmp_path)
    assert "1 passed" in plan.RunBook(Absent(), None, time.time() + 60, None, None)._tests()


def wait_until(true):
    for _ in range(1000):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("it never became true")


def running(pid):
    """Whether a process still runs; one that has ended may still be waiting for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_never_begins_is_given_up(tmp_path, capfd):
    assert supervise.supervise(["--no-such-option"], Folder(tmp_path), time.time() + 60) == 2
    assert "--no-such-option" in capfd.readouterr().err


def test_a_part_of_the_plan_is_in_the_order_of_its_patterns():
    units = [
        plan.Unit(name, 0, lambda: "")
        for name in ("environment", "ceilings", "correct: a", "measure: a", "measure: b", "tune: a")
    ]
    names = [unit.name for unit in plan.only(units, ["tune: *", "measure: b", "*: a"])]
    assert names == ["environment", "ceilings", "tune: a", "measure: b", "correct: a", "measure: a"]
    assert plan.only(units, None) == units


@pytest.fixture
def clock(monkeypatch):
    """A clock that only units move, for the time of day and for what a unit takes."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(plan.time, "time", lambda: Clock.now)
    monkeypatch.setattr(plan.time, "monotonic", lambda: Clock.now)
    return Clock


def timed(clock, done, name, seconds, section, expected=None):
    def run():
        clock.now += seconds
        done.append(name)
        return "fine"

    return plan.Unit(name, seconds if expected is None else expected, run, section)


def test_a_section_waits_when_its_share_is_spent(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(plan, "SHARES", {"correctness": 25.0, "short": 30.0})
    done = []
    units = [timed(clock, done, f"correct: {i}", 10, "correctness") for i in range(4)]
    units += [timed(clock, done, f"measure: {i}", 15, "short") for i in range(3)]
    units += [timed(clock, done, "tests", 5, "rest")]
    plan.work(plan.RunBook.of(Absent(), Folder(tmp_path), clock.now + 1000), units)
    assert done[:4] == ["correct: 0", "correct: 1", "measure: 0", "measure: 1"], "a third would go past each share"
    assert done[4:] == ["correct: 2", "correct: 3", "measure: 2", "tests"], "and then what is left, in order"


def test_a_second_call_goes_on_where_the_first_was_cut(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(plan, "SHARES", {"correctness": 25.0, "short": 30.0})
    done = []
    units = [timed(clock, done, f"correct: {i}", 10, "correctness") for i in range(4)]
    units += [timed(clock, done, f"measure: {i}", 15, "short") for i in range(3)]
    book = plan.RunBook.of(Absent(), Folder(tmp_path), clock.now + 40)
    plan.work(book, units)
    assert done == ["correct: 0", "correct: 1", "measure: 0"]
    plan.work(plan.RunBook.of(Absent(), Folder(tmp_path), clock.now + 40), units)
    assert done[3:] == ["measure: 1", "correct: 2", "correct: 3"], "the share of the second section first"


def test_a_unit_takes_what_others_of_its_kind_took(tmp_path, clock):
    """After three of them; until then, what the plan says. So nothing is begun that would end too late."""
    done = []
    units = [timed(clock, done, f"measure: {i}", 20, "rest", expected=5) for i in range(9)]
    begun = clock.now
    plan.work(plan.RunBook.of(Absent(), Folder(tmp_path), begun + 99), units)
    assert len(done) == 4
    assert clock.now - begun <= 99


def test_the_shares_of_the_plan_fit_eight_minutes(tmp_path):
    units = plan.RunBook.of(Absent(), Folder(tmp_path), 0).plan()
    assert {unit.section for unit in units} == {*plan.SHARES, "rest"}
    assert sum(plan.SHARES.values()) <= 8 * 60 - 30, "half a minute is for starting"
    assert list(dict.fromkeys(unit.section for unit in units)) == [*plan.SHARES, "rest"]
    for section, share in plan.SHARES.items():
        assert min(unit.seconds for unit in units if unit.section == section) <= share


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_eight_minutes_and_two_more_say_something_of_everything(share, tmp_path, clock):
    """The plan of an H200 on the clock, where each unit takes this share of what the plan allows it."""
    done = []
    units = [
        timed(clock, done, unit.name, share * unit.seconds, unit.section, unit.seconds)
        for unit in plan.RunBook.of(Absent(), Folder(tmp_path), 0).plan()
    ]
    sections = {unit.name: unit.section for unit in units}
    for minutes in (8, 2):
        begun, before = clock.now, len(done)
        plan.work(plan.RunBook.of(Absent(), Folder(tmp_path), begun + 60 * minutes), units)
        assert clock.now - begun <= 60 * minutes
        assert len(done) > before
    assert {sections[name] for name in done} >= plan.SHARES.keys()
    assert len(set(done)) == len(done), "the second call repeats nothing"
    found = [name.split()[1] for name in done if name.startswith("model: ")]
    assert found == ["decoder", "images", "prompt", "encoder"][: 2 if share == 1 else 4]


def test_convolutions_are_among_the_first_cases_in_every_dtype():
    first, later = correctness.cases(Absent())
    kinds = {(case.dtype, case.conv) for case in first if case.kernel == "cuda_conv_dense"}
    assert kinds == {(dtype, name) for dtype in Absent.dtypes for name in ("3x3", "strided", "depthwise")}
    assert {case.conv for case in later} - {""} == correctness.CONVS.keys() - {"3x3", "strided", "depthwise"}
    assert {case.symbolic for case in first if case.conv == "strided"} == {True}


@pytest.mark.pocl
def test_a_convolution_is_checked_at_every_number_of_images(monkeypatch):
    device = open_device("stand-in")
    first, _ = correctness.cases(device)
    case = next(case for case in first if case.conv == "strided" and case.dtype == "bfloat16")
    problem = correctness._Problem(case, device)
    assert max(errors := list(problem.errors(case.rows))) < 1e-2
    assert len(errors) == len(correctness.IMAGES)
    problem.dense = np.roll(problem.dense, 1, axis=1)
    assert min(problem.errors(case.rows)) > 0.1


def row_of(cell, rival, p50="1", of_roofline=""):
    return {name: str(value) for name, value in cell.row().items()} | {"rival": rival, "p50": p50, "of_roofline": of_roofline}


def test_the_worst_cells_are_the_farthest_from_what_is_wanted():
    far, near, good = (Cell(28672, 8192, m, "8:16", "float16", "cuda_decode_mma") for m in (2, 4, 16))
    plain, missing = Cell(4096, 4096, 16, "8:16", "float16", "cuda_decode_mma"), Cell(64, 64, 1, "8:16", "float16", "cuda_gemv")
    rows = [row_of(plain, "balanced", of_roofline="0.30"), row_of(good, "balanced", of_roofline="0.70")]
    rows += [row_of(cell, "balanced", of_roofline="0.9") for cell in (near, far)]
    rows += [row_of(cell, "cublas", p50) for cell, p50 in ((far, "1.1"), (near, "1.4"), (good, "1.31"), (missing, ""))]
    assert worst_of(rows) == [far, near, plain, good]
    rows += [row_of(far.tuned, "balanced", of_roofline="0.9")]
    assert worst_of(rows, searched=False) == [near, plain, good]
    assert worst_of([]) == []


def test_the_worst_cell_is_searched_with_meta_schedule(tmp_path, monkeypatch):
    pytest.importorskip("xgboost")
    searched = []
    monkeypatch.setattr(plan, "tune", lambda *given: searched.append(given) or plan_found())
    monkeypatch.setattr(plan.RunBook, "_measure", lambda *_: "measured")
    book = plan.RunBook.of(Absent(), Folder(tmp_path), time.time() + 300)
    with pytest.raises(RuntimeError, match="no cell has been measured"):
        book._search()
    book.folder.append("gpu.csv", COLUMNS, [row_of(CELL, "balanced", of_roofline="0.5")])
    assert "16384x8192 m1 2:16 float32 cuda_gemv default by evolutionary: 1.10x of 5 candidates" in book._search()
    assert searched[0][0] == CELL
    assert searched[0][3] == book.effort.searching
    assert searched[0][-1] == "evolutionary"


def plan_found():
    return Found(None, 1.1, 5)


def test_work_goes_on_after_a_failure_and_stops_in_time(tmp_path, capsys):
    def fails():
        raise ValueError("wrong\nin two lines")

    done = []
    units = [plan.Unit("a", 0, fails), plan.Unit("b", 0, lambda: done.append("b") or "fine"), plan.Unit("c", 99, fails)]
    book = plan.RunBook.of(Absent(), Folder(tmp_path), time.time() + 50)
    assert plan.work(book, units) == plan.work(book, units) == 0
    assert done == ["b"]
    assert Folder(tmp_path).outcomes() == {"a": "failed", "b": "done"}
    assert Folder(tmp_path).read("units.csv")[0]["note"] == "ValueError: wrong in two lines"
    assert "begin c" not in capsys.readouterr().out


def test_what_failed_is_done_again_where_it_is_asked_for(tmp_path):
    folder = Folder(tmp_path)
    outcomes = {"environment": "done", "ceilings": "failed", "correct: a": "failed", "correct: b": "died", "correct: c": "done"}
    for unit, outcome in outcomes.items():
        folder.finish(unit, outcome, 1, "wrong")
    folder.retry()
    assert folder.outcomes().keys() == outcomes.keys() - {"ceilings"}
    folder.retry(everything=True)
    assert folder.outcomes().keys() == {"environment", "correct: c"}
    book, done = plan.RunBook.of(Absent(), folder, time.time() + 50), []
    plan.work(book, [plan.Unit(unit, 0, lambda unit=unit: done.append(unit) or "fine") for unit in outcomes])
    assert done == ["ceilings", "correct: a", "correct: b"]
    assert "All that ended did work" in write_report(folder).read_text()


@pytest.mark.parametrize("options", [[], ["--retry"]])
def test_a_run_begins_with_what_is_done_again(options, tmp_path, monkeypatch):
    units = ("ceilings", "correct: a")
    for unit in units:
        Folder(tmp_path).finish(unit, "failed", 1)
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--out", str(tmp_path), *options])
    monkeypatch.setattr(run_book, "supervise", lambda arguments, folder, until: len(folder.outcomes()))
    assert run_book.main() == (0 if options else 1)


def test_cells_are_measured_where_the_ceilings_are_not_known(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(plan, "measure", lambda cell, device, ceilings, *_: given.append(ceilings) or [])
    book = plan.RunBook.of(Absent(), Folder(tmp_path), time.time())
    book._measure(CELL)
    book.folder.learn({"ceilings": {"copy_gbytes": 4000.0, "read_gbytes": 4100.0, "gflops": {"float32": 60e3}}})
    book._measure(CELL)
    assert [ceilings.gbytes for ceilings in given] == [gpu_specs.GPUS["h200"].gbytes, 4100]
    assert given[0].gflops["bfloat16"] == 2 * gpu_specs.GPUS["h200"].half_gmacs
    assert given[0].seconds(CELL, 4_800_000) == pytest.approx(1e-6)


def test_a_case_that_was_done_again_counts_once(tmp_path):
    folder, case = Folder(tmp_path), correctness.Case("cuda_gemv", "float32", "2:16", 1, 64, 64)
    for error in (1.0, 1e-7):
        folder.append("correctness.csv", correctness.COLUMNS, [correctness.row(case, Absent(), error)])
    assert "| cuda_gemv | float32 | 1 | 1.0e-07 | 1e-05 | 0 |" in write_report(folder).read_text()


def test_slices_share_the_plan(tmp_path):
    units = plan.RunBook.of(Absent(), Folder(tmp_path), 0).plan()
    slices = [plan.slice_of(units, part, 3) for part in (1, 2, 3)]
    assert all([unit.name for unit in part[:2]] == ["environment", "ceilings"] for part in slices)
    assert sorted(u.name for part in slices for u in part[2:]) == sorted(u.name for u in units[2:])
    assert len({unit.name for unit in units}) == len(units)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["0/3", "4/3", "x", "1"])
def test_a_wrong_slice_gets_one_sentence(text, tmp_path):
    done = subprocess.run(command(tmp_path, "--slice", text), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "write for instance 1/3" in done.stderr


def test_the_plan_has_every_cell_that_is_asked_for():
    sections = by_section(Absent(), GPU_SHAPES)
    short = {(c.dtype, c.m, c.pattern) for c in sections["short"] if (c.n, c.k) == GPU_SHAPES.large}
    assert short == {("float16", m, p) for m in (2, 4, 8, 16, 64) for p in ("8:16", "4:16", "2:16")} | {
        ("float16", 1, pattern) for pattern in ("4:32", "8:16", "2:16")
    }
    first = [str(cell) for cell in sections["short"][:6]]  # what has not run on a GPU yet
    kernels = ("cuda_gemv", "cuda_gemv_w8", "cuda_decode_mma")
    assert [cell.split()[-2] for cell in first] == [kernel for kernel in kernels for _ in range(2)]
    assert {(c.n, c.k) for c in sections["short"]} > {(4096, 4096), (5120, 5120)}
    assert {c.dtype for c in sections["bfloat16"]} == {"bfloat16"}
    assert {c.pattern for c in sections["2:4"]} == {"8:16"}, "where cuSPARSELt is a baseline"
    every = [c for cells in sections.values() for c in cells]
    assert len(set(every)) == len(every)
    assert {("float32", 1, p) for p in ("8:16", "4:16", "2:16", "1:16")} <= {(c.dtype, c.m, c.pattern) for c in every}
    first, later = correctness.cases(Absent())
    kinds = {(c.kernel, c.dtype) for c in first}
    assert ("cuda_dense_mma", "bfloat16") in kinds
    assert kinds == {(c.kernel, c.dtype) for c in first if c.symbolic}
    sparse = [c for c in (*first, *later) if c.kernel == "cuda_decode_mma" and c.dtype == "float16"]
    assert {(c.m, c.pattern) for c in sparse if not c.symbolic} == {
        (m, p) for m in correctness.ROWS for p in ("8:16", "4:16", "2:16", "1:16")
    }


@pytest.mark.parametrize("dtype", Absent.dtypes)
def test_cases_have_x_in_several_stages(dtype):
    """At M = 8, as in the large cells."""
    first, later = correctness.cases(Absent())
    cases = [c for c in (*first, *later) if (c.kernel, c.dtype, c.m) == ("cuda_gemv", dtype, 8)]
    workloads = [Workload(c.kernel, c.m, c.n, c.k, BalancedPattern.parse(c.pattern).nnz, 16, dtype) for c in cases]
    assert max(cuda_gemv._split(workload, 8, workload.dtype).stages for workload in workloads) > 1


def test_kernels_come_in_the_order_of_the_model():
    assert kernels_for(Absent(), 28672, 8192, 64, "2:16", "float16")[0] == "cuda_decode_mma"
    assert kernels_for(Absent(), 16384, 8192, 1, "2:16", "float32")[0] == "cuda_gemv"
    assert kernels_for(Absent(), 16384, 8192, 1, "15:16", "float32") == []


def test_a_roofline_is_bytes_or_arithmetic():
    ceilings = Ceilings(4000, {"float32": 50e3, "float16": 700e3, "tf32": 400e3})
    assert ceilings.seconds(CELL, 4_000_000) == pytest.approx(1e-6)
    dense = Cell(8192, 8192, 64, "8:16", "float16", "cuda_decode_mma")
    assert ceilings.seconds(dense, 4) == pytest.approx(2 * 8192 * 8192 * 64 / 700e12)


def test_repeated_rows_are_packed_as_they_would_be_whole():
    """If a weight has more rows than are drawn, packed and dense must still be the same weight."""
    device = Cpu()
    for kernel, n, k in (("cpu_avx512", 2500, 40), ("cpu_portable", 1100, 33)):
        if device.kernels("float32") and kernel in {k.name for k in device.kernels("float32")}:
            layer = Layer(Cell(n, k, 2, "2:16", "float32", kernel), device)
            assert layer.dense.shape == (n, k)
            assert check(kernel, layer.ours(layer.default())(0), layer.x, layer.dense, 1e-5) < 1e-5


def test_rivals_compute_what_they_say():
    weight, x = torch.randn(37, 52) * (torch.rand(37, 52) < 0.25), torch.randn(3, 52)
    for name in ("cublas", "csr", "block"):
        for m in (1, 3):
            made = BASELINES[name](weight, x[:m], lambda nbytes: 2)
            assert error_of(made.run(1), x[:m], made.weight) < 1e-5
    assert rivals_of("float16", "8:16", 64) == ("cublas", "csr", "cusparselt_2:4")
    assert rivals_of("float32", "8:16", 1) == ("cublas", "cublas_tf32", "csr", "triton_bitmask")
    with pytest.raises(ValueError, match="TF32 is for float32"):
        BASELINES["cublas_tf32"](weight.half(), x.half(), lambda nbytes: 2)


def test_a_wrong_result_is_seen():
    x, weight = torch.randn(2, 8), torch.randn(4, 8)
    y = x @ weight.T
    assert check("ours", y, x, weight, 1e-5) < 1e-5
    y[0, 0] = float("nan")
    with pytest.raises(RuntimeError, match="ours is wrong: relative error inf"):
        check("ours", y, x, weight, 1e-2)
    assert error_of(y[:, :2], x, weight) == float("inf")


def test_weights_rotate_over_four_times_the_cache():
    assert rotate(512 << 20, Absent()) == 2
    assert rotate(60 << 20, Absent()) == 5
    bits = upload(np.array([1.5, -2], "float32"), Absent())
    assert bits.data_ptr() % 64 == 0


def test_the_report_says_what_was_reached_and_what_was_wanted(tmp_path):
    folder = Folder(tmp_path)
    ours = {"gpu": "NVIDIA H200", **CELL.row(), "rival": "balanced", "us": "20.00", "p50": "1", "gbytes": "4000.0",
            "weight_bytes": "0.5625", "of_bandwidth": "0.930", "of_roofline": "0.930"}  # fmt: skip
    rival = {"gpu": "NVIDIA H200", **CELL.row(), "rival": "cublas", "us": "120.00", "p20": "5.9", "p50": "6.0", "p80": "6.1"}
    missing = {"gpu": "NVIDIA H200", **CELL.row(), "rival": "csr", "note": "not here"}
    tf32 = rival | {"rival": "cublas_tf32", "clock": "queue"}
    folder.append("gpu.csv", COLUMNS, [ours, rival | {"clock": "graph"}, tf32, missing])
    folder.finish("tune: x", "died", 3, "its process ended with -6")
    folder.learn({"gpu": "NVIDIA H200", "units": 3})
    text = write_report(folder).read_text()
    assert "3 units planned: 1 died, 2 left" in text
    assert "| 16384x8192 | 1 | 2:16 | float32 | cuda_gemv | default | 20.00 |" in text
    assert "| 6.000 (5.900 to 6.100) | 6.000 (5.900 to 6.100, queue) |" in text
    assert "- not here" in text
    assert "| 5.5 |" in text
    assert "its process ended with -6" in text
    assert "mean nothing" not in text


def test_the_report_has_models_and_counters(tmp_path):
    folder = Folder(tmp_path)
    row = {"model": "decoder", "m": "1", "pattern": "4:16", "dtype": "float16", "kernels": "cuda_gemv", "clock": "graph"}
    times = {"us": "50.0", "p20": "1.9", "p50": "2.0", "p80": "2.1"}
    rows = [row | times | {"rival": rival} for rival in ("balanced", "eager")]
    folder.append("gpu_models.csv", models.COLUMNS, rows)
    folder.learn({"counters": {"28672x8192 m2": {"ns": "70", "DRAM %": "80"}}})
    text = write_report(folder).read_text()
    assert "| decoder | 1 | 4:16 | float16 | cuda_gemv | graph | 50.0 | 2.00 (1.90 to 2.10) |  |" in text
    assert "| 28672x8192 m2 | 70 | 80 |" in text


def test_facts_are_added_to(tmp_path):
    folder = Folder(tmp_path)
    folder.learn({"a": 1})
    folder.learn({"b": 2})
    assert json.loads((tmp_path / "environment.json").read_text()) == {"a": 1, "b": 2}
    assert os.listdir(tmp_path) == ["environment.json"]  # noqa: PTH208
