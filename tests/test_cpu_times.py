"""The table of `pytest --cpu-times`."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.cpu_times import LAST, CpuTimes, lasts, used

BUSY = "sum(i * i for i in range(3_000_000))"


def test_processes_that_were_waited_for_count():
    before = used()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert used() - before > 0.05


def test_a_report_has_what_was_used_since_the_one_before():
    plugin = CpuTimes(iter([5.0, 7.0, 7.5]).__next__)
    for seconds in (2.0, 0.5):
        hook = plugin.pytest_runtest_makereport(None, None)
        next(hook)
        with pytest.raises(StopIteration) as done:
            hook.send(SimpleNamespace())
        assert done.value.value.cpu_seconds == seconds


def test_files_and_tests_are_listed_most_first():
    reports = [("a.py::x", 1.0), ("a.py::y", 2.0), ("b.py::z", 2.5), ("a.py::x", 0.25)]
    lines = []
    stats = {"passed": [SimpleNamespace(nodeid=node, cpu_seconds=seconds) for node, seconds in reports], "warnings": [object()]}
    CpuTimes().pytest_terminal_summary(SimpleNamespace(stats=stats, section=lines.append, write_line=lines.append))
    assert [line.split()[-1] for line in lines] == ["6", "a.py", "b.py", "6", "b.py::z", "a.py::y", "a.py::x"]


def test_the_last_tests_of_each_process_are_listed():
    def report(worker, node, start, stop, when="call"):
        return SimpleNamespace(worker_id=worker, nodeid=node, start=start, stop=stop, when=when)

    first = [report("gw0", f"a.py::{i}", i, i + 1) for i in range(LAST + 1)]
    other = [report("gw1", "b.py::x", 0, 10), report("gw1", "b.py::x", 10, 12, "teardown")]
    lines = [line.split() for line in lasts([*other, *first])]
    assert lines[:LAST] == [["gw0", f"{12 - i:.1f}", f"{11 - i:.1f}", f"a.py::{i}"] for i in range(1, LAST + 1)]
    assert lines[LAST:] == [["gw1", "12.0", "2.0", "b.py::x"]]
