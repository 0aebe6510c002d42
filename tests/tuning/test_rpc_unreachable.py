"""Servers that the tracker lists and nobody reaches: the run ends as it was told, with a sentence."""

import threading
import time

import pytest
from support.fixed_latency import TASKS, tune

from tvm_balanced.errors import TuningError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.rpc import tracker
from tvm_balanced.tuning.rpc.batch import Batch, Job
from tvm_balanced.tuning.rpc.runner import RpcRunner
from tvm_balanced.tuning.rpc.tracker import RpcOptions
from tvm_balanced.tuning.runners.base import measure
from tvm_balanced.tuning.scheduler import Budget


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(RpcOptions, "servers", lambda _: 1)
    monkeypatch.setattr(RpcOptions, "machine", None)
    monkeypatch.setattr(RpcRunner, "build", lambda *_: None)
    return RpcRunner(RpcOptions("127.0.0.1", 9190, "k"), host_target(), 1)


def refuse(*_):
    raise OSError("Connection refused")


def wait_for_ever(*_):
    threading.Event().wait()


def test_minutes_end_the_run(runner, monkeypatch, tmp_path):
    refused, looks = threading.Event(), []

    def refuse_and_tell(_):
        refused.set()
        refuse()

    def left(_):
        """Time is up from the first refusal on, whenever that is."""
        looks.append(refused.is_set())
        return -1.0 if refused.is_set() else 3.0

    monkeypatch.setattr(RpcOptions, "connect", refuse_and_tell)
    monkeypatch.setattr(tracker, "PATIENCE_SECONDS", 1e9)
    monkeypatch.setattr(Budget, "left", left)
    result = tune(tmp_path, runner=runner, minutes=0.05)
    assert (result.ended, result.trials) == ("time is up", 0)
    assert sum(looks) < 20  # nothing went on after that


def test_minutes_are_those_of_the_clock(runner, monkeypatch, tmp_path):
    monkeypatch.setattr(RpcOptions, "connect", refuse)
    monkeypatch.setattr(tracker, "PATIENCE_SECONDS", 1e9)
    assert tune(tmp_path, runner=runner, minutes=0.02).ended == "time is up"


@pytest.mark.parametrize("connect", [refuse, wait_for_ever])
def test_an_interrupt_ends_the_run(runner, connect, monkeypatch, tmp_path):
    monkeypatch.setattr(RpcOptions, "connect", connect)
    stopped, asked = threading.Event(), []

    class Interrupted(RpcRunner):
        def run_all(self, workload, built):
            threading.Timer(0.5, lambda: setattr(self, "stop", lambda: asked.append(True) or True)).start()
            yield from super().run_all(workload, built)
            stopped.set()

    runner.__class__ = Interrupted
    runner.dense_seconds = lambda _: None
    workload = TASKS[0].workload
    assert list(measure(runner, space_of(workload, host_target()), workload, [space_of(workload, host_target()).default])) == []
    assert stopped.is_set()
    assert len(asked) == 1  # it ends at the first look


def test_what_keeps_the_servers_away_is_said(runner, monkeypatch):
    monkeypatch.setattr(RpcOptions, "connect", refuse)
    monkeypatch.setattr(tracker, "PATIENCE_SECONDS", 0.2)
    workload = TASKS[0].workload
    with pytest.raises(TuningError, match=r"no server of key k can be reached \(Connection refused\); the tracker gives out"):
        list(measure(runner, space_of(workload, host_target()), workload, [space_of(workload, host_target()).default]))


def test_a_race_waits_for_a_server_and_gives_up(runner, monkeypatch):
    monkeypatch.setattr(RpcOptions, "connect", wait_for_ever)
    monkeypatch.setattr(tracker, "PATIENCE_SECONDS", 0.2)
    workload = TASKS[0].workload
    with pytest.raises(TuningError, match="no server of key k is free; wait for those that tune, or start another"):
        runner.confirm(workload, [space_of(workload, host_target()).default], 1.0)


def test_a_job_that_answers_while_it_is_given_up_is_not_given_up_twice(runner):
    batch = Batch(TASKS[0].workload)
    overdue = Job(space_of(TASKS[0].workload, host_target()).default, None)
    overdue.began = -1e9

    class Answered(dict):
        def items(self):
            return [(1, overdue)]  # which has gone since

    batch.running = Answered()
    runner._look_after(batch, time.monotonic())
    assert batch.results.empty()
