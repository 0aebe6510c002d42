"""Races by a clock that only the rivals move."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import tvm_balanced as tb
from tvm_balanced.core.imported_model import Eager
from tvm_balanced.core.mapped_files import MappedFile
from tvm_balanced.core.report import FunctionReport
from tvm_balanced.timing import paired
from tvm_balanced.timing import race as races
from tvm_balanced.timing.paired import Timing


class Clock:
    """Stands still but for `sleep`."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def perf_counter(self):
        return self.now

    thread_time = perf_counter

    def sleep(self, seconds):
        self.now += seconds

    def rival(self, name, seconds):
        def call(*_args, **_kwargs):
            self.calls.append(name)
            self.now += seconds

        return call


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(paired, "time", made)
    monkeypatch.setattr(races, "time", made)
    monkeypatch.setenv(races.VARIABLE, "1")
    return made


class Module:
    """What a race needs of a compiled module; each of its entry points takes `seconds`."""

    def __init__(self, clock, seconds, threads=1):
        self.clock, self.seconds, self.threads, self.machine = clock, seconds, threads, object()
        self.facts = SimpleNamespace(on_gpu=False)
        self.report = SimpleNamespace(
            functions=[FunctionReport("cumsum", 1, 1.0, False), FunctionReport("all others", 1, 1.0, True)]
        )
        self.races = []

    def __getitem__(self, name):
        function = self.clock.rival(name, self.seconds)
        rows = [SimpleNamespace(name=row, share=share) for row, share in (("cumsum", 0.7), ("layer", 0.28), ("tiny", 0.02))]
        function.profile = lambda *args, rounds, **kwargs: SimpleNamespace(rows=rows)
        return function

    def with_races(self, found):
        self.races = found
        return self


def model(clock, seconds, entries=("main",), weights=()):
    eager = Eager(clock.rival("eager", seconds), (1,), {}, lambda _threads: nullcontext())
    return SimpleNamespace(
        entry_points={name: SimpleNamespace(eager=eager) for name in entries}, weight_names=dict.fromkeys(weights, "weight")
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("seconds", [(0.001, 0.0025), (0.04, 0.1), (0.2, 0.5), (0.8, 2.0)])
def test_paired_ratios_within_three_seconds(clock, seconds, threads):
    ours, theirs = seconds
    module = races.race(Module(clock, ours, threads), model(clock, theirs))
    (found,) = module.races
    assert found.speedup.p20 == pytest.approx(2.5)
    assert found.speedup.p80 == pytest.approx(2.5)
    assert found.microseconds == pytest.approx(1e6 * ours)
    assert clock.now <= races.SECONDS + 1e-6
    assert found.rounds == (31 if ours == 0.001 else found.rounds)
    assert found.rounds >= (4 if ours <= 0.2 else 1)
    assert not found.blamed
    assert clock.calls.count("main") == clock.calls.count("eager") >= found.rounds


def test_a_slower_module_blames_its_functions(clock):
    (found,) = races.race(Module(clock, 0.02), model(clock, 0.01)).races
    assert found.speedup.p50 == pytest.approx(0.5)
    assert found.blamed == (("cumsum, a naive loop", 0.7), ("layer", 0.28))
    assert str(found) == (
        "SLOWER THAN PYTORCH: 0.50 times as fast as eager PyTorch (0.50 to 0.50) on the examples; "
        "most of its time goes to cumsum, a naive loop (70%), layer (28%)"
    )


def test_a_race_of_few_calls_says_so(clock):
    (found,) = races.race(Module(clock, 1.0), model(clock, 1.9)).races
    assert str(found) == "1.90 times as fast as eager PyTorch (1.90 to 1.90) on the examples, in a single pair of calls"
    (found,) = races.race(Module(clock, 0.6), model(clock, 0.3)).races
    assert str(found).startswith(
        "SLOWER THAN PYTORCH: 0.50 times as fast as eager PyTorch (0.50 to 0.50) on the examples, in 3 pairs of"
    )


def test_entry_points_share_the_seconds(clock):
    module = races.race(Module(clock, 0.01), model(clock, 0.1, ("prefill", "decode")))
    assert [found.entry_point for found in module.races] == ["prefill", "decode"]
    assert clock.now <= races.SECONDS + 1e-6


@pytest.mark.parametrize("why", ["switched off", "for another machine", "on a GPU", "no PyTorch"])
def test_nothing_is_called(clock, monkeypatch, why):
    module, imported = Module(clock, 0.01), model(clock, 0.1)
    if why == "switched off":
        monkeypatch.setenv(races.VARIABLE, "0")
    elif why == "for another machine":
        module.machine = None
    elif why == "on a GPU":
        module.facts.on_gpu = True
    else:
        imported.entry_points["main"].eager = None
    assert races.race(module, imported).races == []
    assert not clock.calls


def test_only_a_models_own_files_are_too_large(clock, monkeypatch, tmp_path):
    """Another model of the process may have its weights mapped, too."""
    monkeypatch.setattr(races, "MOST_MAPPED", 1000)
    (tmp_path / "weights").write_bytes(bytes(2000))
    mapped = np.frombuffer(MappedFile(tmp_path / "weights"), np.uint8)
    inside, outside = mapped[1000:].ctypes.data, np.ones(8).ctypes.data
    assert races.race(Module(clock, 0.01), model(clock, 0.1, weights=[outside])).races
    assert not races.race(Module(clock, 0.01), model(clock, 0.1, weights=[outside, inside])).races


def test_the_report_of_a_real_module_says_it_and_an_artifact_keeps_it(mlp, monkeypatch, tmp_path):
    import torch

    rounds = {"ours": np.array([1.0, 2.0, 1.0]), "eager": np.array([2.0, 4.0, 3.0])}
    seen, before = [], torch.get_num_threads()

    def timed(ours, theirs, _seconds, threads):
        seen.append((ours(0) > 0, theirs(0) > 0, threads, torch.get_num_threads(), torch.is_grad_enabled()))
        return Timing(rounds)

    monkeypatch.setenv(races.VARIABLE, "1")
    monkeypatch.setattr(races, "_timed", timed)
    module = tb.compile(*mlp, threads=2)
    assert seen == [(True, True, 2, 2, False)]
    assert torch.get_num_threads() == before
    assert "2.00 times as fast as eager PyTorch (2.00 to 2.60) on the examples, in 3 pairs of calls" in str(module.report)
    assert module.report.to_json()["races"][0]["speedup"] == {"p50": 2.0, "p20": 2.0, "p80": pytest.approx(2.6)}
    module.save(tmp_path / "mlp.tb")
    assert tb.load(tmp_path / "mlp.tb").report.races == module.report.races
    tb.compile(*mlp, race=False)
    assert len(seen) == 1
