import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# ncu's output: text of the program, the column names, their units, a row for each kernel
NCU = """#!/bin/sh
echo "==PROF== Connected to process 1"
echo "cell 16x64 m1 2:16 float32 cuda_gemv default"
cat <<'END'
"ID","gpu__time_duration.sum","launch__registers_per_thread","smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio"
"","ns","register/thread","inst"
"0","21,792.5","48","1.25"
END
exit $NCU_STATUS
"""


def profile(out, path, status="0"):
    command = [sys.executable, "-m", "benchmarks.gpu.profile", "--out", str(out), "16x64 *"]
    environment = os.environ | {"PATH": str(path), "NCU_STATUS": status}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def ncu(tmp_path):
    script = tmp_path / "bin" / "ncu"
    script.parent.mkdir()
    script.write_text(NCU)
    script.chmod(0o755)
    return f"{script.parent}:/bin:/usr/bin"


def test_counters_become_a_table(tmp_path, ncu):
    done = profile(tmp_path / "out", ncu)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out" / "profile.md").read_text()
    assert "| 16x64 m1 2:16 float32 cuda_gemv default | 21,792.5 |" in table
    assert "| 48 |" in table
    assert "barrier 1.2" in table
    assert (tmp_path / "out" / "profile.csv").read_text().startswith("cell,ID,gpu__time_duration.sum")


def test_what_ncu_says_is_shown_where_it_fails(tmp_path, ncu):
    assert "==PROF== Connected" in profile(tmp_path / "out", ncu, status="9").stderr


def test_without_ncu_there_is_a_sentence(tmp_path):
    done = profile(tmp_path / "out", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "ncu was not found; install Nsight Compute and put it on the PATH\n"
