"""What TVM and torch print: remarks that no user can act on are dropped, all else comes through, and all if asked for."""

import os
import subprocess
import sys

import pytest

REMARK = "[14:04:26] /x/executable.cc:276: Warning: Scope Saving:"
FILTER = f"""
import os, subprocess, sys, threading
from tvm_balanced.noise import without_noise
with without_noise():
    os.write(2, b"{REMARK}\\n[14:04:26] /x/other.cc:1: Warning: something real\\n")
    other = threading.Thread(target=without_noise()(lambda: os.write(2, b"from a thread\\n")))
    other.start(); other.join()
    os.write(2, b"{REMARK}\\n")
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); print('from a child', file=sys.stderr)"],
                             stdin=subprocess.PIPE)
    sys.stderr.write("no end of line")
os.write(2, b"|after\\n")
child.communicate()
with without_noise():
    os.write(2, b"again\\n{REMARK}\\n")
"""


def stderr_of(script, **environment):
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_only_known_remarks_are_dropped():
    shown = stderr_of(FILTER)
    assert "Scope Saving" not in shown
    lines = ["something real", "from a thread", "no end of line|after", "from a child", "again"]
    assert all(line in shown for line in lines)
    assert "end of what is filtered" not in shown


def test_all_is_shown_when_asked_for():
    assert stderr_of(FILTER, TVM_BALANCED_VERBOSE="1").count(REMARK) == 3


def test_a_closed_standard_error_is_no_failure():
    stderr_of("import os; from tvm_balanced.noise import without_noise\nos.close(2)\nwith without_noise(): pass")


PYTHON = """
import sys, torch, tvm_balanced as tb
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm = torch.nn.Embedding(10, 8), torch.nn.LSTM(8, 8, batch_first=True)
    def forward(self, ids):
        return self.lstm(self.embed(ids))[0]
ids = torch.ones(2, 3, dtype=torch.long)
tb.compile(Model(), (ids,)).save("m.tb")
tb.load("m.tb")(ids)
try:
    tb.compile(torch.nn.LayerNorm(8).double(), (torch.ones(3, 8).double(),))  # which TVM does not know
except tb.TvmBalancedError:
    print("refused")
"""


@pytest.mark.parametrize("verbose", ["0", "1"])
def test_python_is_as_quiet_as_asked(verbose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = stderr_of(PYTHON, TVM_BALANCED_VERBOSE=verbose)
    remarks = ("Scope Saving", "Scope Loaded", "assigned during export", "BlockBuilder destroyed")
    assert [remark in shown for remark in remarks] == [verbose == "1"] * len(remarks)
    assert verbose == "1" or shown == ""


@pytest.mark.parametrize("options", [[], ["-v"]])
def test_the_command_line_is_as_quiet_as_asked(options, tmp_path):
    (tmp_path / "damaged.pt2").write_bytes(b"PK cut off")
    command = [sys.executable, "-m", "tvm_balanced", *options, "inspect", "damaged.pt2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "not a readable .pt2 file" in done.stderr
    assert ("Traceback" in done.stderr) == bool(options)
