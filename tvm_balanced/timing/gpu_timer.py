"""Timing work on a GPU without the time that it takes to launch it."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm_balanced.timing.paired import Implementation

GRAPH_SECONDS = 2e-3  # of work in a CUDA graph, so that starting it does not count
GRAPH_CALLS = 256
CLOCK = 3e9  # cycles of a GPU in a second at most, so that one which is to sleep sleeps long enough


@dataclass(frozen=True)
class Timer:
    """How one rival is timed.

    Parameters
    ----------
    clock : str
        "graph" (a CUDA graph between two events), "queue" (calls between two events, all launched before the first one runs),
        "events" (calls between two events, as they are launched) or "wall".
    once : callable
        Runs some calls and returns the seconds of one.
    rival : callable, optional
        What is timed, kept as long as its timer: a graph replays kernels and memory that go when nobody else holds them.
    """

    clock: str
    once: Callable[[], float]
    rival: Implementation | None = None


def gpu_timer(rival: Implementation, calls: int, capture: bool = True) -> Timer:
    """Prepare to time `calls` calls of a rival in a row, numbered from 0, on torch's current CUDA device, torch being loaded.

    They are captured in a CUDA graph, unless they may not or cannot be: then they are launched while the GPU sleeps, so that
    what it takes to launch them does not count either. Where they wait for the GPU, not even that can be: they are launched as
    they are, and a kernel that takes less time than its launch is timed too slow.
    """
    torch = sys.modules["torch"]
    many = _enough(rival, calls)
    if not capture:
        return _launched(rival, calls, many)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            for call in range(many):
                rival(call)
    except Exception:  # a rival that allocates outside torch, or waits for the GPU, cannot be captured
        torch.cuda.synchronize()
        return _launched(rival, calls, many)
    graph.replay()
    return Timer("graph", lambda: _between_events(graph.replay) / many, rival)


def _launched(rival: Implementation, calls: int, many: int) -> Timer:
    """Prepare to time `many` calls that are launched one by one; only `calls` where so many do not fit the GPU's queue."""
    for count in dict.fromkeys((many, calls)):
        sleep = 2 * _launching(rival, count) + 1e-3
        if _behind_sleep(rival, count, sleep)[1]:
            return Timer("queue", partial(_queued, rival, count, sleep))
    return Timer("events", lambda: _between_events(lambda: [rival(call) for call in range(many)]) / many)


def _launching(rival: Implementation, calls: int) -> float:
    """Return the seconds that it takes to launch calls."""
    torch = sys.modules["torch"]
    torch.cuda.synchronize()
    start = time.perf_counter()
    for call in range(calls):
        rival(call)
    return time.perf_counter() - start


def _queued(rival: Implementation, calls: int, sleep: float) -> float:
    """Return the seconds of one of `calls` calls; tried again where something held up their launch, but not for ever."""
    for _ in range(3):
        seconds, queued = _behind_sleep(rival, calls, sleep)
        if queued:
            break
    return seconds / calls


def _behind_sleep(rival: Implementation, calls: int, sleep: float) -> tuple[float, bool]:
    """Return the seconds of calls that are launched while the GPU sleeps, and whether all were before it woke."""
    torch = sys.modules["torch"]
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(int(sleep * CLOCK))
    start.record()
    for call in range(calls):
        rival(call)
    end.record()
    queued = not start.query()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3, queued


def synced_timer(rival: Implementation, calls: int, synchronize: Callable[[], Any]) -> Timer:
    """Prepare to time calls by the wall clock until `synchronize` says that they have ended: where torch knows no GPU."""

    def once() -> float:
        synchronize()
        start = time.perf_counter()
        for call in range(calls):
            rival(call)
        synchronize()
        return (time.perf_counter() - start) / calls

    return Timer("wall", once)


def _enough(rival: Implementation, calls: int) -> int:
    """Return a multiple of `calls` that takes GRAPH_SECONDS or so."""
    rival(0)
    seconds = _between_events(lambda: [rival(call) for call in range(calls)])
    return calls * max(1, min(GRAPH_CALLS // calls, round(GRAPH_SECONDS / max(seconds, 1e-6))))


def _between_events(work: Callable[[], object]) -> float:
    torch = sys.modules["torch"]
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
