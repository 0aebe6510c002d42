"""Tuning over loopback, through a tracker and two servers."""

import gc
import itertools
import os
import signal
import threading
import time

import pytest
import tvm
from support.fixed_latency import TASKS, fake_seconds, tune
from support.rpc_fleet import wait_for_servers
from tvm.script import tirx as T

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.caches import last_level_cache
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.errors import TuningError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import cores, host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log import manifest
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Trial, Winner
from tvm_balanced.tuning.rpc import runner as rpc_runner
from tvm_balanced.tuning.rpc import tracker
from tvm_balanced.tuning.rpc.runner import RpcRunner
from tvm_balanced.tuning.rpc.serve import serve
from tvm_balanced.tuning.rpc.tracker import RpcOptions
from tvm_balanced.tuning.runners.base import Confirmed, measure
from tvm_balanced.tuning.tasks import Task
from tvm_balanced.tuning.tune import TuneOptions, tune_tasks

pytest.importorskip("tornado")
pytestmark = pytest.mark.xdist_group("rpc")  # trackers listen on ports
KEY = target_key(host_target())
WORKLOAD = Workload("cpu_dense", 16, 256, 64, 1, 1)
LATENCY = 0.15


@pytest.fixture(scope="module")
def fleet():
    with serve("127.0.0.1", "box", 2) as fleet:
        wait_for_servers(fleet, 2)
        yield fleet


@pytest.fixture
def both(fleet):
    """The fleet with both of its servers."""
    fleet.revive()
    wait_for_servers(fleet, 2)
    return fleet


@pytest.fixture(scope="module")
def sleeper(tmp_path_factory):
    """A library that sleeps for LATENCY where it is called."""
    micros = int(LATENCY * 1e6)

    @T.prim_func(s_tir=True)
    def main():
        T.func_attr({"global_symbol": "main"})
        T.evaluate(T.call_extern("int32", "usleep", T.int32(micros)))

    path = tmp_path_factory.mktemp("sleeper") / "sleeper.so"
    tvm.compile(main, host_target()).export_library(str(path), cc=environment.c_compiler())
    return path


class RemoteSleeper(RpcRunner):
    """The fixed-latency runner on servers: uploads a library that sleeps there, and says a time that follows from decisions."""

    library = None

    def build(self, func):
        return self.library

    def time(self, session, workload, job):
        self.upload(session, job.library)["main"]()
        return fake_seconds(job.decisions)

    def confirm(self, workload, candidates, seconds):
        return Confirmed(min(candidates, key=fake_seconds), Ratio(2.0, 2.0, 2.0), 0.0)

    def dense_seconds(self, workload):
        return None


def sleeping(fleet, sleeper, workers=None):
    runner = RemoteSleeper(RpcOptions.parse(fleet.tracker, "box", workers), host_target(), 1)
    runner.library = sleeper
    return runner


def trials(folder):
    return [record for record in Log(folder, KEY).read().records if isinstance(record, Trial)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_as_many_servers_as_there_are_workers_measure_at_the_same_time(workers, both, sleeper, tmp_path):
    """So that two take little more than half the time: every candidate waits for as many, and their calls overlap."""
    together, order = threading.Barrier(workers), []

    class Together(RemoteSleeper):
        def time(self, session, workload, job):
            main = self.upload(session, job.library)["main"]
            together.wait(60)
            order.append("begins")
            main()
            order.append("ends")
            return fake_seconds(job.decisions)

    runner = Together(RpcOptions.parse(both.tracker, "box", workers), host_target(), 1)
    runner.library = sleeper
    tune(tmp_path, TASKS[:1], runner, trials=24, strategy="replay")
    done = trials(tmp_path)
    assert len(done) == 24
    assert all(trial.seconds == fake_seconds(trial.decisions) for trial in done)
    running = list(itertools.accumulate(1 if event == "begins" else -1 for event in order))
    assert max(running) == workers
    assert running.count(workers) > 12 / workers  # of 24 / workers times; a busy machine may keep one of a pair waiting


@pytest.mark.slow
def test_a_server_that_dies_costs_a_retry_and_not_the_run(both, sleeper, tmp_path):
    killed = []

    def kill_one(tuner):
        if not killed:
            killed.append(both.servers[0])
            os.killpg(killed[0].pid, signal.SIGKILL)

    result = tune(tmp_path, TASKS, sleeping(both, sleeper), kill_one, trials=40)
    assert killed[0].wait(5) == -signal.SIGKILL
    assert result.ended == "all trials measured"
    done = trials(tmp_path)
    assert len(done) == 40
    assert all(trial.seconds == fake_seconds(trial.decisions) for trial in done)


def test_real_kernels_are_measured_checked_and_raced_there(both, tmp_path):
    runner = RpcRunner(RpcOptions.parse(both.tracker, "box"), host_target(), 1)
    result = tune(tmp_path, [Task(WORKLOAD)], runner, trials=8)
    assert result.kernels[0].trials == 8
    assert all(trial.seconds > 0 for trial in trials(tmp_path))
    (winner,) = (r for r in Log(tmp_path, KEY).read().records if isinstance(r, Winner))
    assert winner.max_error is None or winner.max_error < 1e-5
    confirmed = RpcRunner(RpcOptions.parse(both.tracker, "box"), host_target(), 1, rotate=1 << 40).confirm(
        WORKLOAD, [space_of(WORKLOAD, host_target()).default], 0.1
    )
    assert confirmed.max_error < 1e-5


@pytest.mark.slow
def test_servers_are_free_again_at_once(both):
    """Not when Python next collects garbage: a race would wait for that."""
    runner = RpcRunner(RpcOptions.parse(both.tracker, "box"), host_target(), 1)
    candidates = [space_of(WORKLOAD, host_target()).at(place) for place in range(2)]
    gc.collect()
    gc.disable()
    try:
        assert all(measured.seconds for measured in measure(runner, space_of(WORKLOAD, host_target()), WORKLOAD, candidates))
        assert runner.confirm(WORKLOAD, candidates, 0.1) is not None
        wait_for_servers(both, 2)
        for _ in range(2):
            both_at_once = [runner.options.connect_soon(lambda: False) for _ in range(2)]
            del both_at_once
    finally:
        gc.enable()


def test_a_wrong_candidate_never_wins(both, monkeypatch):
    monkeypatch.setattr(rpc_runner, "tolerance", lambda _: -1.0)
    runner = RpcRunner(RpcOptions.parse(both.tracker, "box"), host_target(), 1)
    assert runner.confirm(WORKLOAD, [space_of(WORKLOAD, host_target()).default], 0.1) is None


@pytest.mark.slow
def test_a_candidate_that_fails_on_two_servers_is_stored_as_failed(both, sleeper, tmp_path):
    class Crashing(RemoteSleeper):
        def time(self, session, workload, job):
            if job.decisions == bad:
                raise RuntimeError("connection reset")
            return super().time(session, workload, job)

    bad = space_of(TASKS[0].workload, host_target()).at(3)
    runner = Crashing(RpcOptions.parse(both.tracker, "box"), host_target(), 1)
    runner.library = sleeper
    tune(tmp_path, TASKS[:1], runner, trials=16, strategy="exhaustive")
    failed = [trial for trial in trials(tmp_path) if trial.seconds is None]
    assert [(trial.decisions, trial.error) for trial in failed] == [(bad, "connection reset")]
    assert len(trials(tmp_path)) == 16


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up(both, sleeper, tmp_path, monkeypatch):
    monkeypatch.setattr(rpc_runner, "OVERDUE_SECONDS", 2.0)
    hung = threading.Event()

    class Hanging(RemoteSleeper):
        def time(self, session, workload, job):
            if not hung.is_set():
                hung.set()
                time.sleep(6)
            return super().time(session, workload, job)

    runner = Hanging(RpcOptions.parse(both.tracker, "box"), host_target(), 1)
    runner.library = sleeper
    tune(tmp_path, TASKS[:1], runner, trials=10)
    assert hung.is_set()
    assert all(trial.seconds for trial in trials(tmp_path))


@pytest.mark.slow
def test_a_session_that_is_old_is_renewed_before_its_server_ends_it(both, sleeper, tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, "RENEW_SECONDS", 0.4)
    sessions = []
    connect = RpcOptions.connect
    monkeypatch.setattr(RpcOptions, "connect", lambda self, *seconds: sessions.append(1) or connect(self, *seconds))
    tune(tmp_path, TASKS[:1], sleeping(both, sleeper, 1), trials=16, strategy="replay")
    assert all(trial.seconds == fake_seconds(trial.decisions) for trial in trials(tmp_path))
    assert len(sessions) > 4  # two batches and a race would need three


def test_a_server_that_is_not_the_target_is_refused(both):
    other = parse_target("cpu/skylake-avx512")
    with pytest.raises(TuningError, match=f"the server is a {KEY} and the target a llvm-x86_64-skylake-avx512"):
        RpcRunner(RpcOptions.parse(both.tracker, "box"), other, 1)
    with pytest.raises(TuningError, match="threads was 4096; give at most"):
        RpcRunner(RpcOptions.parse(both.tracker, "box"), host_target(), 4096)


def test_servers_say_how_many_threads_and_whose_times(both, sleeper, tmp_path):
    """Those of the model's calls are the servers' cores unless told otherwise."""
    options = TuneOptions(work_dir=tmp_path, trials=4, rpc=RpcOptions.parse(both.tracker, "box"))
    tune_tasks(TASKS[:1], options, "a test", runner=sleeping(both, sleeper))
    assert {trial.threads for trial in trials(tmp_path)} == {cores()}
    assert manifest.read(Log(tmp_path, KEY))["device"] == environment.cpu_name()


def test_weights_beyond_the_servers_cache_are_cold(both):
    options = RpcOptions.parse(both.tracker, "box")
    assert not RpcRunner(options, host_target(), 1, last_level_cache()).cold
    assert RpcRunner(options, host_target(), 1, last_level_cache() + 1).cold


def test_what_is_missing_is_named(fleet, monkeypatch):
    monkeypatch.setattr(tracker, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(TuningError, match="knows no server of key other; start one with tvm-balanced serve-rpc"):
        RpcRunner(RpcOptions.parse(fleet.tracker, "other"), host_target(), 1)


@pytest.mark.slow
def test_the_run_ends_with_a_sentence_where_no_server_is_left(both, sleeper, tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, "PATIENCE_SECONDS", 1.0)
    runner = sleeping(both, sleeper)

    def kill_all(tuner):
        for server in both.servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()

    with pytest.raises(TuningError, match="no server of key box is left; start one and run tune --resume"):
        tune(tmp_path, TASKS, runner, kill_all, trials=60)
    assert len(trials(tmp_path)) >= 1  # what was measured is kept
    both.revive()
    wait_for_servers(both, 2)
    assert tune(tmp_path, TASKS, sleeping(both, sleeper), trials=24, resume=True).trials == 24
