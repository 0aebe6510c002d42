from contextlib import contextmanager

import pytest
import torch

from tvm_balanced.gpu.timing import gpu_timer, synced_timer


class FakeEvent:
    """A CUDA event whose clock is the number of calls that were made."""

    calls = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = FakeEvent.calls

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return (end.at - self.at) * 0.5  # ms


@pytest.mark.parametrize(("captured", "clock"), [(True, "graph"), (False, "events")])
def test_a_gpu_is_timed_by_graphs_where_a_rival_can_be_captured(captured, clock, monkeypatch):
    class Graph:
        def __init__(self):
            self.calls = 0

        def replay(self):
            FakeEvent.calls += self.calls

    @contextmanager
    def capture(graph, stream):
        before = FakeEvent.calls
        yield
        if not captured:
            raise RuntimeError("operation not permitted when stream is capturing")
        graph.calls, FakeEvent.calls = FakeEvent.calls - before, before

    for name, fake in (("Event", FakeEvent), ("CUDAGraph", Graph), ("Stream", object), ("graph", capture)):
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    numbers = []

    def rival(call):
        FakeEvent.calls += 1
        numbers.append(call)

    timer = gpu_timer(rival, 3)
    assert timer.clock == clock
    assert timer.once() == pytest.approx(0.5e-3)
    assert set(numbers) == {0, 1, 2}
    assert gpu_timer(rival, 3, capture=False).clock == "events"


def test_the_wall_clock_waits_for_the_work_before_and_after():
    said = []
    timer = synced_timer(said.append, 2, lambda: said.append("synchronized"))
    assert timer.clock == "wall"
    assert timer.once() > 0
    assert said == ["synchronized", 0, 1, "synchronized"]
