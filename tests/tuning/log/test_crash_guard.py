import os

import pytest
from support.fixed_latency import TASKS, FixedLatencyRunner, forkserver, tune

from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.crash_guard import InFlight
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Trial
from tvm_balanced.tuning.log.tools import verify

WORKLOAD, ONE, OTHER = Workload("cpu_dense", 1, 16, 16, 1, 1), ((1, 2), (3, 4)), ((2, 1), (3, 4))


def test_a_candidate_is_measured_in_two_processes_and_no_more(tmp_path):
    for allowed in (True, True, False, False):
        assert InFlight(tmp_path, "a").begin(WORKLOAD, ONE) == allowed


def test_what_ended_well_or_was_another_does_not_count(tmp_path):
    for _ in range(3):
        flight = InFlight(tmp_path, "a")
        assert flight.begin(WORKLOAD, ONE)
        flight.end()
    for _ in range(3):
        assert InFlight(tmp_path, "a").begin(WORKLOAD, ONE)
        assert InFlight(tmp_path, "a").begin(WORKLOAD, OTHER)
    assert InFlight(tmp_path, "b").begin(WORKLOAD, ONE)


@pytest.mark.parametrize(
    "left",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"candidate": "x", "deaths": 1e999}',
        '{"candidate": "x"}',
        '{"candidate": "x", "deaths": "many"}',
    ],
)
def test_a_note_that_cannot_be_read_says_nothing(left, tmp_path):
    (tmp_path / ".measuring-a.json").write_text(left)
    assert InFlight(tmp_path, "a").begin(WORKLOAD, ONE)


class Deadly(FixedLatencyRunner):
    """Dies of the fourth point of the first task's space."""

    def run_all(self, workload, built):
        for one in built:
            if workload == TASKS[0].workload and one.decisions == space_of(workload, host_target()).at(3):
                os._exit(9)
            yield from super().run_all(workload, [one])


def _run(folder):
    tune(folder, TASKS[:1], runner=Deadly(0), trials=24, strategy="exhaustive", resume=True)


@pytest.mark.slow
@pytest.mark.xdist_group("tuning")
def test_a_run_gets_past_a_candidate_that_ends_the_process(tmp_path):
    codes = []
    for _ in range(3):
        process = forkserver().Process(target=_run, args=(tmp_path,))
        process.start()
        process.join(60)
        codes.append(process.exitcode)
    assert codes == [9, 9, 0]
    trials = [record for record in Log(tmp_path, target_key(host_target())).read().records if isinstance(record, Trial)]
    assert [trial.number for trial in trials] == list(range(1, 25))
    (failed,) = [trial for trial in trials if trial.seconds is None]
    assert failed.error == "its process died while it was measured, twice"
    assert verify(tmp_path) == []
    assert not list(tmp_path.glob("*/.measuring-*"))
