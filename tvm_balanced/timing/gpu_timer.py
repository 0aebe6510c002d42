"""Time work on a GPU without the time to launch it."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm_balanced.timing.paired import Implementation

GRAPH_SECONDS = 2e-3  # of work in a CUDA graph, so that the time to launch the graph is negligible
GRAPH_CALLS = 256
CLOCK = 3e9  # at most so many GPU cycles per second, so that a sleep is long enough


@dataclass(frozen=True)
class Timer:
    """How one baseline is timed.

    Parameters
    ----------
    clock : str
        "graph" (a CUDA graph between two events), "queue" (calls between two events, all launched
        before the first one runs), "events" (calls between two events, as they are launched) or
        "wall".
    once : callable
        Runs some calls and returns the seconds of one.
    rival : callable, optional
        The timed baseline. The timer keeps it alive, because a graph replays kernels and memory
        that would otherwise be freed.
    """

    clock: str
    once: Callable[[], float]
    rival: Implementation | None = None


def gpu_timer(rival: Implementation, calls: int, capture: bool = True) -> Timer:
    """Prepare to time `calls` consecutive calls of a baseline, numbered from 0, on torch's current
    CUDA device. Torch must be loaded.

    The calls are captured in a CUDA graph if possible. Otherwise they are launched while the GPU
    sleeps, so that their launch time does not count either. If the calls wait for the GPU, even
    that is impossible: they are launched normally, and a kernel shorter than its launch is timed
    too slow.
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
    except Exception:  # a baseline that allocates outside torch, or waits for the GPU, cannot be captured
        torch.cuda.synchronize()
        return _launched(rival, calls, many)
    graph.replay()
    return Timer("graph", lambda: _between_events(graph.replay) / many, rival)


def _launched(rival: Implementation, calls: int, many: int) -> Timer:
    """Prepare to time `many` calls that are launched one by one, or only `calls` if `many` do not
    fit the GPU's queue.
    """
    for count in dict.fromkeys((many, calls)):
        sleep = 2 * _launching(rival, count) + 1e-3
        if _behind_sleep(rival, count, sleep)[1]:
            return Timer("queue", partial(_queued, rival, count, sleep))
    return Timer("events", lambda: _between_events(lambda: [rival(call) for call in range(many)]) / many)


def _launching(rival: Implementation, calls: int) -> float:
    """Return the seconds to launch the calls."""
    torch = sys.modules["torch"]
    torch.cuda.synchronize()
    start = time.perf_counter()
    for call in range(calls):
        rival(call)
    return time.perf_counter() - start


def _queued(rival: Implementation, calls: int, sleep: float) -> float:
    """Return the seconds of one of `calls` calls; try again, a limited number of times, if their
    launch was delayed.
    """
    for _ in range(3):
        seconds, queued = _behind_sleep(rival, calls, sleep)
        if queued:
            break
    return seconds / calls


def _behind_sleep(rival: Implementation, calls: int, sleep: float) -> tuple[float, bool]:
    """Return the seconds of calls launched while the GPU sleeps, and whether all were launched before it woke."""
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
    """Prepare to time calls by the wall clock until `synchronize` returns, for devices that torch
    does not support.
    """

    def once() -> float:
        synchronize()
        start = time.perf_counter()
        for call in range(calls):
            rival(call)
        synchronize()
        return (time.perf_counter() - start) / calls

    return Timer("wall", once)


def _enough(rival: Implementation, calls: int) -> int:
    """Return a multiple of `calls` that takes about GRAPH_SECONDS."""
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
