import time
from types import SimpleNamespace

import numpy as np
import pytest

from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.timing import paired
from tvm_balanced.timing.paired import Seconds, Timing, copies, measure_paired


def test_race_alternates_and_reverses():
    calls = []
    timing = measure_paired({"a": lambda i: calls.append(("a", i)), "b": lambda i: calls.append(("b", i))}, rounds=5)
    assert len(timing.times["a"]) == len(timing.times["b"]) == 5
    assert [name for name, _ in calls[:8]] == ["b", "b", "a", "a", "a", "a", "b", "b"]
    assert [i for _, i in calls[:8]] == [0, 1, 0, 1, 2, 3, 2, 3]


def test_race_ends_in_time_with_enough_rounds():
    timing = measure_paired({"slow": lambda i: time.sleep(0.02)}, rounds=1000, seconds=0.1)
    assert 5 <= len(timing.times["slow"]) < 50


def test_a_rival_that_reports_its_own_seconds_is_believed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(paired, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda _: None))

    def takes(seconds, result):
        now[0] += seconds
        return result

    def remote(call):
        return takes(2, Seconds(call))  # the way there and back

    timing = measure_paired({"remote": remote, "local": lambda call: takes(0.5, float(call))}, rounds=5, warm=1)
    assert timing.times["remote"].tolist() == [5, 7, 9, 11, 13]  # two rounds of two calls were thrown away
    assert (timing.times["local"] == 0.5).all()


def test_speedup_is_the_median_of_paired_ratios():
    timing = Timing({"fast": np.array([1.0, 2.0, 3.0]), "slow": np.array([2.0, 8.0, 9.0])})
    assert timing.speedup("fast", "slow").p50 == 3
    assert timing.microseconds("fast") == pytest.approx(2e6)
    ratio = timing.speedup("fast", "slow")
    assert ratio.p20 < ratio.p50 < ratio.p80


def test_cold_copies_exceed_the_cache():
    assert copies(1 << 20, "hot") == 1
    assert copies(1 << 20, "cold") * (1 << 20) > CACHE_MULTIPLE * last_level_cache()
