"""A runner that takes a fixed time per candidate and reports a time computed from its decisions,
and tuners that use it.
"""

import math
import multiprocessing
import os
import signal
import time
from pathlib import Path
from unittest.mock import patch

from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.runners.base import Built, Confirmed
from tvm_balanced.tuning.tasks import Task
from tvm_balanced.tuning.tune import TuneOptions, tune_tasks

TASKS = [Task(Workload("cpu_dense", m, n, 64, 1, 1), calls) for m, n, calls in ((16, 768, 4), (8, 512, 1), (16, 256, 2))]


def fake_seconds(decisions):
    """A smooth function with one minimum, so that a search can be better than chance."""
    values = [math.log2(v) for decision in decisions for v in decision[1:]]
    return 1e-4 * (1 + sum((value - place - 1) ** 2 for place, value in enumerate(values)) / 10)


class FixedLatencyRunner:
    parallel = 1

    def __init__(self, latency=0.002, fails=lambda _: False, fits=lambda _: True):
        self.latency, self.fails, self.fits_, self.measured, self.raced = latency, fails, fits, [], 0

    def fits(self, workload, decisions):
        return self.fits_(decisions)

    def build_all(self, candidates):
        return (Built(candidate.decisions) for candidate in candidates)

    def run_all(self, workload, built):
        for one in built:
            time.sleep(self.latency)
            self.measured.append((workload, one.decisions))
            failed = self.fails(one.decisions)
            yield Measured(one.decisions, None if failed else fake_seconds(one.decisions), "it failed" if failed else None)

    def confirm(self, workload, candidates, seconds):
        self.raced += 1
        best = min(candidates, key=fake_seconds)
        gain = fake_seconds(space_of(workload, host_target()).default) / fake_seconds(best)
        return Confirmed(best, Ratio(gain, gain, gain), 1e-7)

    def dense_seconds(self, workload):
        return 1e-3

    def close(self):
        pass


def tune(folder, tasks=TASKS, runner=None, on_progress=lambda _: None, source="a test", known=None, **options):
    """Tune with the runner in this process; `known` is the earlier winner."""
    runner = runner or FixedLatencyRunner()
    winners = (lambda _self, workload: known(workload)) if known else TunedSchedules.__call__
    with patch.object(TunedSchedules, "__call__", winners):
        return tune_tasks(tasks, TuneOptions(work_dir=folder, threads=1, **options), source, on_progress, runner=runner)


def _child(folder, latency, options):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tune(folder, runner=FixedLatencyRunner(latency), **options)


def _real_child(folder, options):
    tune_tasks(TASKS, TuneOptions(work_dir=folder, threads=1, **options), "a test")


def start(folder, latency=0.002, **options):
    """Start a tuner in a separate process, forked from one that has only imported TVM."""
    return _start(_child, folder, latency, options)


def start_real(folder, **options):
    """The same with real kernels."""
    return _start(_real_child, folder, options)


def _start(function, *args):
    process = forkserver().Process(target=function, args=args)
    process.start()
    return process


def forkserver():
    """A context whose processes are forked from one that has imported this module, and so TVM, but not torch."""
    here = str(Path(__file__).parents[1])
    if here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):  # the fork server does not inherit sys.path
        os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.no_torch", __name__])
    return context


def wait_for_lines(folder, count, seconds=240.0):
    """Wait until the log has `count` lines, so that tests do not depend on how fast the machine is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if sum(path.read_bytes().count(b"\n") for path in folder.glob("*/log.jsonl")) >= count:
            return
        time.sleep(0.001)
    raise AssertionError(f"no {count} lines after {seconds} s")
