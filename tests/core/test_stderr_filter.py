"""What TVM and torch print: remarks that no user can act on are dropped, all else comes through, and all if asked for."""

import os
import re
import subprocess
import sys
import zipfile

import pytest

REMARK = "[14:04:26] /x/executable.cc:276: Warning: Scope Saving:"
FILTER = f"""
import os, subprocess, sys, threading
from tvm_balanced.core.stderr_filter import quiet_tvm
with quiet_tvm():
    os.write(2, b"{REMARK}\\n[14:04:26] /x/other.cc:1: Warning: something real\\n")
    other = threading.Thread(target=quiet_tvm()(lambda: os.write(2, b"from a thread\\n")))
    other.start(); other.join()
    os.write(2, b"{REMARK}\\n")
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); print('from a child', file=sys.stderr)"],
                             stdin=subprocess.PIPE)
    sys.stderr.write("no end of line")
os.write(2, b"|after\\n")
child.communicate()
with quiet_tvm():
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


def test_the_last_words_of_a_process_that_aborts_are_read():
    script = """
import os
from tvm_balanced.core.stderr_filter import quiet_tvm
with quiet_tvm():
    os.write(2, b"LLVM ERROR: unknown CPU\\n")
    os.abort()
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode < 0
        assert "LLVM ERROR: unknown CPU" in done.stderr


def test_a_filter_that_was_killed_stops_nothing():
    script = (
        FILTER.split("with quiet_tvm():")[0]
        + """
from tvm_balanced.core import stderr_filter
with quiet_tvm():
    stderr_filter._filter.child.process.kill()
    stderr_filter._filter.child.process.wait()
print("went on", file=sys.stderr)
"""
    )
    assert stderr_of(script) == "went on\n"


def test_blocks_that_follow_one_another_share_a_child_and_a_fork_has_its_own():
    script = """
import os
from tvm_balanced.core import stderr_filter
from tvm_balanced.core.stderr_filter import quiet_tvm
def said(text):
    with quiet_tvm():
        os.write(2, text)
        return stderr_filter._filter.child.process
first = said(b"first\\n")
assert said(b"second\\n") is first
if os.fork() == 0:
    os._exit(said(b"third\\n") is first)
assert os.wait()[1] == 0
assert said(b"fourth\\n") is first
reading, writing = os.pipe()
before = os.dup(2)
os.dup2(writing, 2)
stderr_filter.LINGER = 0.0
other = said(b"elsewhere\\n")
os.dup2(before, 2)
assert other is not first
assert os.read(reading, 99) == b"elsewhere\\n"
assert first.wait(20) == other.wait(20) == 0
assert said(b"fifth\\n") not in (first, other)
"""
    assert stderr_of(script) == "first\nsecond\nthird\nfourth\nfifth\n"


def test_a_closed_standard_error_is_no_failure():
    stderr_of("import os; from tvm_balanced.core.stderr_filter import quiet_tvm\nos.close(2)\nwith quiet_tvm(): pass")


OF_OPERATORS = ("Unknown pragma", "Detected pow")
PYTHON = """
import os, sys, torch, tvm_balanced as tb
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(8, 8)
    def forward(self, x):
        return self.lstm(x)[0].pow(3).scatter(1, torch.zeros(1, 1, dtype=torch.int64), x)
def work(path):
    x = torch.ones(1, 8)
    tb.compile(Model(), (x,)).save(path)
    tb.load(path)(x)
    images, any_width = torch.ones(1, 4, 6).double(), ({2: torch.export.Dim("width", min=2)},)
    for model, args, sizes in (torch.nn.GroupNorm(2, 4).double(), (images,), any_width), ("damaged.pt2", (), None):  # neither can
        try:
            tb.compile(model, args, dynamic_shapes=sizes)
        except tb.TvmBalancedError:
            continue
        raise SystemExit("compiled")
work("quiet.tb")
print("now all", file=sys.stderr)
os.environ["TVM_BALANCED_VERBOSE"] = "1"
work("all.tb")
print("now a command", file=sys.stderr)
del os.environ["TVM_BALANCED_VERBOSE"]
from tvm_balanced.cli.app import run
assert run(["-v", "inspect", "damaged.pt2"]) == 1
"""


def damage(path):
    """Write a .pt2 that is a zip archive, as it should be, but holds no program: torch logs that with a traceback."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("damaged/archive_format", "pt2")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What a process shows when it is to be quiet, when it is to show all, and of a command with -v."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("quiet"))
        damage("damaged.pt2")
        return re.split("now (?:all|a command)\n", stderr_of(PYTHON))


@pytest.mark.slow
def test_python_is_as_quiet_as_asked(shown):
    quiet, everything, _ = shown
    assert quiet == ""
    for remark in (
        "Scope Saving",
        "Scope Loaded",
        "assigned during export",
        "BlockBuilder destroyed",
        "Traceback",
        *OF_OPERATORS,
    ):
        assert remark in everything


@pytest.mark.slow
def test_the_command_line_shows_all_when_asked(shown):
    *_, said = shown
    assert "Traceback" in said
    assert "not a readable .pt2 file" in said
