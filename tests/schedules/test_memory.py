"""No kernel touches memory outside its arguments: each argument ends at an inaccessible page."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.runtime.host import host_target, runs_here
from tvm_balanced.schedules import KERNELS

HERE = [name for name, kernel in KERNELS.items() if kernel.refuses(host_target(), 64, 64, "float32") is None]
CASES = [f"{name},cpu,2:16" for name in HERE]
if "cpu_avx2" in HERE and runs_here(parse_target("cpu/x86-64-v3")):
    CASES += [f"cpu_avx2,cpu/x86-64-v3,{pattern}" for pattern in ("2:16", "1:8")]
PROGRAM = "import sys, support.no_torch; from support.guarded import main; main(*sys.argv[1:])"
ROWS = [pytest.param(rows, marks=pytest.mark.xdist_group(f"memory, {rows}")) for rows in ("known", "symbolic")]


def run_guarded(rows, cases):
    """Case to what went wrong, empty where nothing did: of all in one process, and of those after one that ends it in another."""
    found = {}
    while remaining := [case for case in cases if case not in found]:
        command = [sys.executable, "-c", PROGRAM, rows, *remaining]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
        found |= {line.removeprefix("passed "): "" for line in done.stdout.splitlines() if line.startswith("passed ")}
        if done.returncode != 0:
            ended = next((case for case in remaining if case not in found), "all have passed")
            found[ended] = f"ended with {done.returncode}\n{done.stderr[-2000:]}"
    return found


@pytest.fixture(scope="module")
def guarded():
    """A function from the kind of rows to what `run_guarded` says of all the cases."""
    found = {}

    def of(rows):
        if rows not in found:
            found[rows] = run_guarded(rows, CASES)
        return found[rows]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rows", ROWS)
def test_nothing_past_an_argument_is_touched(case, rows, guarded):
    assert guarded(rows)[case] == ""


@pytest.mark.slow
@pytest.mark.avx512
@pytest.mark.parametrize("rows", ["known", "symbolic"])
def test_nothing_past_an_argument_is_touched_where_weights_are_fetched(rows):
    case = "cpu_avx512,cpu,2:16"
    assert run_guarded(f"{rows}-prefetched", [case]) == {case: ""}


@pytest.mark.slow
def test_an_access_past_an_argument_is_seen_and_what_comes_after_it_still_runs():
    found = run_guarded("known", ["past", "past again"])
    assert sorted(found) == ["past", "past again"]
    assert all(what.startswith(f"ended with {-signal.SIGSEGV}") for what in found.values())
