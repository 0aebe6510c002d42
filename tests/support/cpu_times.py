"""What `pytest --cpu-times` prints: the CPU seconds of tests and files, with those of processes that they waited for.

Unlike --durations, it says the same where other programs run beside the tests. Where several processes run tests, it says too
when each was done, and with what: one that ends long before the others left its core idle.
"""

import resource
from collections import Counter

import pytest

SHOWN, LAST = 40, 3
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def used() -> float:
    """Return the CPU seconds of this process so far, and of its children that have ended."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, WHO))


class CpuTimes:
    """A plugin of pytest: each report carries what was used since the one before it, also from a worker of xdist."""

    def __init__(self, clock=used):
        self.clock, self.before = clock, clock()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        now = self.clock()
        report.cpu_seconds, self.before = now - self.before, now
        return report

    def pytest_terminal_summary(self, terminalreporter):
        reports = [report for kind in terminalreporter.stats.values() for report in kind if hasattr(report, "cpu_seconds")]
        tests, files = Counter(), Counter()
        for report in reports:
            tests[report.nodeid] += report.cpu_seconds
            files[report.nodeid.partition("::")[0]] += report.cpu_seconds
        for name, times in (("files", files), ("tests", tests)):
            terminalreporter.section(f"CPU seconds of {name}: {sum(times.values()):.0f}")
            for node, seconds in times.most_common(SHOWN):
                terminalreporter.write_line(f"{seconds:7.1f}  {node}")
        last = lasts([report for report in reports if hasattr(report, "worker_id")])
        if last:
            terminalreporter.section("the last tests of each process: seconds to the end of all, from begin and end")
        for line in last:
            terminalreporter.write_line(line)


def lasts(reports):
    """A line for each of the last tests of each process, by what reports that come from one say."""
    end = max((report.stop for report in reports), default=0.0)
    lines = []
    for worker in sorted({report.worker_id for report in reports}):
        calls = sorted((r for r in reports if r.worker_id == worker and r.when == "call"), key=lambda r: r.stop)
        lines += [f"{worker} {end - r.start:7.1f} {end - r.stop:7.1f}  {r.nodeid}" for r in calls[-LAST:]]
    return lines
