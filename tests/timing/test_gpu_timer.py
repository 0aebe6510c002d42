import gc
import weakref
from contextlib import contextmanager

import pytest
import torch

from tvm_balanced.timing.gpu_timer import gpu_timer, synced_timer


class FakeEvent:
    """A CUDA event whose clock is the number of calls that were made; a GPU that sleeps has done nothing that was recorded."""

    calls, asleep = 0, False

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = FakeEvent.calls

    def query(self):
        return not FakeEvent.asleep

    def synchronize(self):
        FakeEvent.asleep = False

    def elapsed_time(self, end):
        return (end.at - self.at) * 0.5  # ms


class FakeGraph:
    def __init__(self):
        self.calls = 0

    def replay(self):
        FakeEvent.calls += self.calls


@pytest.fixture
def fake(monkeypatch):
    """Return a function that puts a GPU in place that captures calls or does not, and the rival that is to be timed."""

    def put(captures, most_queued=1000):
        @contextmanager
        def capture(graph, stream):
            before = FakeEvent.calls
            yield
            if not captures:
                raise RuntimeError("operation not permitted when stream is capturing")
            graph.calls, FakeEvent.calls = FakeEvent.calls - before, before

        queue, numbers = [], []

        def sleep(cycles):
            assert cycles >= 3e6  # a millisecond
            FakeEvent.asleep = True
            queue.clear()

        def rival(call):
            FakeEvent.calls += 1
            numbers.append(call)
            queue.append(call)
            if len(queue) > most_queued:  # a full queue is waited for, as a rival waits that reads a result
                FakeEvent.asleep = False

        names = {"Event": FakeEvent, "CUDAGraph": FakeGraph, "Stream": object, "graph": capture, "_sleep": sleep}
        for name, value in (names | {"synchronize": lambda: None}).items():
            monkeypatch.setattr(torch.cuda, name, value)
        return rival, numbers

    return put


@pytest.mark.parametrize(("captures", "asked", "clock"), [(True, True, "graph"), (False, True, "queue"), (True, False, "queue")])
def test_the_time_to_launch_does_not_count(captures, asked, clock, fake):
    rival, numbers = fake(captures)
    timer = gpu_timer(rival, 3, capture=asked)
    assert timer.clock == clock
    assert timer.once() == pytest.approx(0.5e-3)
    assert set(numbers) == {0, 1, 2}


@pytest.mark.parametrize("captures", [True, False])
def test_a_timer_keeps_its_rival(captures, fake):
    """A graph replays kernels whose code and memory go with the rival: the next kernel that is loaded may lie there."""
    rival, _ = fake(captures)
    alive = weakref.ref(rival)
    timer = gpu_timer(rival, 3)
    del rival
    gc.collect()
    assert alive() is not None
    del timer


@pytest.mark.parametrize(("most", "clock", "times"), [(2, "queue", {2}), (0, "events", {4})])
def test_no_more_calls_than_fit_the_queue_and_none_of_a_rival_that_waits(most, clock, times, fake, monkeypatch):
    monkeypatch.setattr("tvm_balanced.timing.gpu_timer.GRAPH_SECONDS", 2e-3)  # four calls of the fake GPU
    rival, numbers = fake(captures=True, most_queued=most)
    timer = gpu_timer(rival, 2, capture=False)
    assert timer.clock == clock
    numbers.clear()
    assert timer.once() == pytest.approx(0.5e-3)
    assert {len(numbers)} == times


def test_a_launch_that_is_held_up_is_tried_again(fake, monkeypatch):
    rival, _ = fake(captures=True)
    timer, held_up = gpu_timer(rival, 2, capture=False), [True, False]
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: setattr(FakeEvent, "asleep", not held_up.pop(0)))
    timer.once()
    assert held_up == []


def test_the_wall_clock_waits_for_the_work_before_and_after():
    said = []
    timer = synced_timer(said.append, 2, lambda: said.append("synchronized"))
    assert timer.clock == "wall"
    assert timer.once() > 0
    assert said == ["synchronized", 0, 1, "synchronized"]
