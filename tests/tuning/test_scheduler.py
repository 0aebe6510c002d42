"""The run inside MetaSchedule's loop: what its plug-ins do where something goes wrong."""

import gc
import weakref

import pytest
from support.fixed_latency import TASKS, FixedLatencyRunner, tune

from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Trial
from tvm_balanced.tuning.runners.base import Built
from tvm_balanced.tuning.scheduler import BATCH, Tuner

KEY = target_key(host_target())


class Boom(BaseException):
    """Of no kind that MetaSchedule's C++ knows."""


class Breaks(FixedLatencyRunner):
    """Raises where it is told to, at the third candidate of the second batch."""

    def __init__(self, where):
        super().__init__(0)
        self.where, self.count = where, 0

    def _step(self, where):
        if where == self.where:
            self.count += 1
            if self.count == BATCH + 3:
                raise Boom(where)

    def fits(self, workload, decisions):
        self._step("propose")
        return True

    def build_all(self, candidates):
        for built in super().build_all(candidates):
            self._step("build")
            yield built

    def run_all(self, workload, built):
        for measured in super().run_all(workload, built):
            self._step("run")
            yield measured


@pytest.mark.parametrize(("where", "kept"), [("propose", BATCH), ("build", BATCH), ("run", BATCH + 2)])
def test_an_exception_comes_out_as_it_was_and_what_was_measured_is_kept(where, kept, tmp_path):
    with pytest.raises(Boom, match=where):
        tune(tmp_path, TASKS[:1], Breaks(where), trials=64)
    trials = [record for record in Log(tmp_path, KEY).read().records if isinstance(record, Trial)]
    assert len(trials) == kept
    assert all(trial.error is None for trial in trials)
    assert not list(tmp_path.glob("*/.measuring-*"))
    assert tune(tmp_path, TASKS[:1], trials=24, resume=True).trials == 24


@pytest.mark.parametrize("method", ["next_task", "keep"])
def test_so_does_one_of_the_run_itself(method, tmp_path, monkeypatch):
    def raises(*_):
        raise Boom(method)

    monkeypatch.setattr(Tuner, method, raises)
    with pytest.raises(Boom, match=method):
        tune(tmp_path, TASKS[:1], trials=64)


def test_a_candidate_that_does_not_build_is_a_failed_trial(tmp_path):
    class Compiler(FixedLatencyRunner):
        def build_all(self, candidates):
            return (Built(c.decisions, None, "no such register" if c.decisions[-1][-1] == 2 else None) for c in candidates)

    tune(tmp_path, TASKS[:1], Compiler(0), trials=24, strategy="exhaustive")
    trials = [record for record in Log(tmp_path, KEY).read().records if isinstance(record, Trial)]
    assert {trial.error for trial in trials if trial.decisions[-1][-1] == 2} == {"no such register"}
    assert {trial.error for trial in trials if trial.decisions[-1][-1] != 2} == {None}


def test_a_run_leaves_nothing_behind(tmp_path):
    """MetaSchedule's objects and ours hold each other on both sides of C++; a cycle there would never be collected."""
    runner = FixedLatencyRunner(0)
    gone = weakref.ref(runner)
    tune(tmp_path, TASKS[:1], runner, trials=16)
    del runner
    gc.collect()
    assert gone() is None


@pytest.mark.slow
def test_metaschedules_own_search_learns_from_the_log(tmp_path):
    """Its strategy takes its population from our log, and its cost model what an earlier run measured."""
    pytest.importorskip("xgboost")
    tune(tmp_path, TASKS[:1], trials=16, strategy="replay")
    result = tune(tmp_path, TASKS[:1], trials=32, strategy="evolutionary")
    assert result.trials == 32
    trials = [record for record in Log(tmp_path, KEY).read().records if isinstance(record, Trial)]
    assert len({trial.decisions for trial in trials}) == len(trials) == 48
