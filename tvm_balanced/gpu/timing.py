"""Timing work on a GPU without the time that it takes to launch it."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm_balanced.measure import Rival

GRAPH_SECONDS = 2e-3  # of work in a CUDA graph, so that starting it does not count
GRAPH_CALLS = 256


@dataclass(frozen=True)
class Timer:
    """How one rival is timed.

    Parameters
    ----------
    clock : str
        "graph" (a CUDA graph between two events), "events" (calls between two events) or "wall".
    once : callable
        Runs some calls and returns the seconds of one.
    """

    clock: str
    once: Callable[[], float]


def gpu_timer(rival: Rival, calls: int, capture: bool = True) -> Timer:
    """Prepare to time `calls` calls of a rival in a row, numbered from 0, on torch's current CUDA device, torch being loaded.

    They are captured in a CUDA graph, unless they may not or cannot be: then they are launched one by one, and a kernel that
    takes less time than its launch is timed too slow.
    """
    torch = sys.modules["torch"]
    calls = _enough(rival, calls)
    by_events = Timer("events", lambda: _between_events(lambda: [rival(call) for call in range(calls)]) / calls)
    if not capture:
        return by_events
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            for call in range(calls):
                rival(call)
    except Exception:  # a rival that allocates outside torch, or waits for the GPU, cannot be captured
        torch.cuda.synchronize()
        return by_events
    graph.replay()
    return Timer("graph", lambda: _between_events(graph.replay) / calls)


def synced_timer(rival: Rival, calls: int, synchronize: Callable[[], Any]) -> Timer:
    """Prepare to time calls by the wall clock until `synchronize` says that they have ended: where torch knows no GPU."""

    def once() -> float:
        synchronize()
        start = time.perf_counter()
        for call in range(calls):
            rival(call)
        synchronize()
        return (time.perf_counter() - start) / calls

    return Timer("wall", once)


def _enough(rival: Rival, calls: int) -> int:
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
