from tvm_balanced.core.ratio import Ratio
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.record import Trial, Winner
from tvm_balanced.tuning.search.exhaustive import Exhaustive
from tvm_balanced.tuning.task_state import FINALISTS, State
from tvm_balanced.tuning.tasks import Task

WORKLOAD = Workload("cpu_dense", 16, 256, 64, 1, 1)
SPACE = space_of(WORKLOAD, host_target())
OTHERS = [point for point in SPACE if point != SPACE.default]


def state(known=None):
    return State(Task(WORKLOAD), SPACE, Exhaustive(SPACE, 0), known=known)


def trial(decisions, seconds, number=1):
    return Trial("a", number, WORKLOAD, 1, SPACE.fingerprint, decisions, seconds, None if seconds else "failed", "now")


def winner(decisions, won, raced):
    gain = Ratio(1.2, 1.1, 1.3) if won else Ratio(0.9, 0.8, 1.0)
    return Winner("b", WORKLOAD, 1, SPACE.fingerprint, decisions, won, gain, 1e-7, "now", tuple(raced))


def measured(*seconds, default=1.0):
    found = state()
    found.take(trial(SPACE.default, default), own=True)
    for place, (point, taken) in enumerate(zip(OTHERS, seconds, strict=False), 2):
        found.take(trial(point, taken, place), own=True)
    return found


def test_the_fastest_are_raced():
    found = measured(0.9, None, 0.5, 0.8, 0.7, 2.0)
    assert found.finalists() == (OTHERS[2], OTHERS[4], OTHERS[3])
    assert len(found.finalists()) == FINALISTS
    assert found.to_race


def test_what_is_much_slower_than_the_default_is_not_raced():
    found = measured(1.2, 1.3)
    assert found.finalists() == ()
    assert found.to_race  # to be told that nothing came near
    found.take(winner(SPACE.default, won=False, raced=[]), own=True)
    assert not found.to_race
    assert not measured().to_race  # nothing was tried beside the default


def test_a_candidate_that_another_tuner_has_not_raced_is_raced():
    found = measured(0.5, 0.6)
    found.take(winner(OTHERS[3], won=False, raced=[OTHERS[3]]), own=False)
    assert found.to_race
    found.take(winner(OTHERS[0], won=True, raced=[OTHERS[0], OTHERS[1]]), own=False)
    assert not found.to_race


def test_what_has_won_before_is_raced_again():
    found = measured(0.5, 0.6, 0.7)
    found.take(winner(OTHERS[5], won=True, raced=[OTHERS[5]]), own=False)
    assert OTHERS[5] in found.finalists()
    known = state(known=OTHERS[6])
    assert known.finalists() == (OTHERS[6],)


def test_records_of_another_space_say_nothing():
    found = state()
    found.take(Trial("a", 1, WORKLOAD, 1, "another", SPACE.default, 1.0, None, "now"), own=True)
    assert (found.trials, found.best) == (0, None)


def test_stale_is_the_same_batch_by_batch_and_record_by_record():
    found = measured(0.5, 0.9, 0.9, 0.4, 0.9)
    assert (found.trials, found.stale) == (6, 1)
    found.learn([trial(point, 1.0) for point in OTHERS[5:8]])
    assert found.stale == 4
    found.learn([trial(point, 1.0) for point in OTHERS[8:9]], own=False)
    assert (found.trials, found.stale) == (9, 4)


def test_of_a_point_measured_twice_the_better_time_counts():
    found = measured(0.5)
    for seconds, kept in ((None, 0.5), (0.4, 0.4), (0.6, 0.4)):
        found.learn([trial(OTHERS[0], seconds)])
        assert found.best == kept
