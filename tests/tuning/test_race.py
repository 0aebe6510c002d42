from dataclasses import replace

import pytest
from support.log_records import RUN
from support.tuned_logs import KEY, WORKLOAD, log_of, winner

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.errors import TuningError
from tvm_balanced.tuning.log.tools import winners_of
from tvm_balanced.tuning.race import TIMES, host_log, race_winners
from tvm_balanced.tuning.runners.base import Confirmed


class ScriptedRunner:
    """Each race of a number of threads ends with the next of its gains; None is a kernel that is not right."""

    def __init__(self, gains):
        self.gains, self.raced = {threads: iter(of_threads) for threads, of_threads in gains.items()}, []

    def __call__(self, workload, threads):
        self.threads = threads
        return self

    def confirm(self, workload, candidates, seconds):
        self.raced.append((self.threads, *candidates))
        gain = next(self.gains[self.threads])
        return None if gain is None else Confirmed(candidates[0], Ratio(gain, gain - 0.05, gain + 0.05), 1e-7)

    def close(self):
        pass


def test_only_what_wins_each_race_stays_a_winner(tmp_path):
    won = {threads: replace(winner(), threads=threads) for threads in (1, 2, 4)}
    lost, old = replace(winner(), threads=8, won=False), replace(winner(), workload=replace(WORKLOAD, n=48), space="of before")
    log = log_of(tmp_path, RUN, *won.values(), lost, old)
    runner = ScriptedRunner({1: (1.3, 1.1, 1.2), 2: (1.2, 1.03, 1.2), 4: (1.2, None, 1.2)})
    after = {one.threads: (one.won, one.gain.p50) for one in race_winners(log, runner)}
    assert after == {1: (True, 1.2), 2: (False, 1.2), 4: (False, 1.2)}
    assert runner.raced == [(threads, one.decisions) for threads, one in won.items()] * TIMES
    kept = winners_of(log.read().records)
    assert {threads: kept[WORKLOAD, threads].won for threads in (1, 2, 4, 8)} == {1: True, 2: False, 4: False, 8: False}
    assert kept[old.workload, 1] == old


def test_a_kernel_of_this_machine_is_raced(tmp_path):
    log = log_of(tmp_path, RUN, winner())
    (after,) = race_winners(log)
    assert 0.1 < after.gain.p50 < 10  # of either outcome: this is no benchmark
    assert after.won == (after.gain.p20 > 1) or not after.won
    assert winners_of(log.read().records) == {(WORKLOAD, 1): after}


def test_another_machines_log_gets_a_sentence(tmp_path):
    log_of(tmp_path, RUN, key="llvm-x86_64-other")
    with pytest.raises(TuningError, match=f"has no log of {KEY}, which is this machine"):
        host_log(tmp_path)
