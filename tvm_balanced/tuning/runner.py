"""Runners: what measures candidates. This one does it in this process; `rpc` on other machines."""

import itertools
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tvm
from tvm import tirx

from tvm_balanced.build import build
from tvm_balanced.compiled_module import use_threads
from tvm_balanced.encoding import Array
from tvm_balanced.huge_pages import collapse
from tvm_balanced.measure import CACHE_MULTIPLE, Ratio, Rival, Seconds, last_level_cache, race
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS, Workload
from tvm_balanced.schedules.decisions import Decisions, Space
from tvm_balanced.transform.match_dense import view
from tvm_balanced.tuning.arguments import Arguments, draw, numpy_dtype

SECONDS = 0.03  # a candidate is timed for
HELD_BYTES = 256 << 20  # of arguments of the workloads that were measured last
LONG_ENOUGH = 1e-4  # seconds that are timed at once
# Of a race with the default: one half chooses the best candidate, the other says what it gains, or noise would choose and say.
ROUNDS = 32
LEAST_ROUNDS = 16  # however little time there is: of eight, at least seven were faster then
log = logging.getLogger(__name__)
Rotation = list[list[Any]]  # arguments of a kernel, as many times as copies of the weights are needed


@dataclass(frozen=True)
class Measured:
    """A candidate's median time in seconds; None where it failed, and why."""

    decisions: Decisions
    seconds: float | None
    error: str | None = None


@dataclass(frozen=True)
class Confirmed:
    """The best of some candidates beside the default: how many times faster, and the error of its outputs."""

    decisions: Decisions
    gain: Ratio
    max_error: float | None


class Runner(Protocol):
    """What measures candidates."""

    parallel: int  # how many it measures at once
    stop: Callable[[], bool]  # whether to end soon; set by who tunes, and asked by a runner that waits for others

    def fits(self, workload: Workload, decisions: Decisions) -> bool:
        """Whether the target has what a candidate needs; one that does not fit is no trial."""

    def measure(self, workload: Workload, batch: Sequence[Decisions]) -> Iterator[Measured]:
        """Measure candidates, each yielded as soon as it is known; raises TuningError where none can be measured any more."""

    def confirm(self, workload: Workload, candidates: Sequence[Decisions], seconds: float) -> Confirmed | None:
        """Check the outputs of candidates and time the right ones in turn with the default, for about `seconds`.

        Returns the fastest, None where no candidate is right.
        """

    def dense_seconds(self, workload: Workload) -> float | None:
        """Return the time of the dense kernel on a layer of this shape, in seconds; None where there is none."""

    def close(self) -> None:
        """Let go of what it holds."""


def space_of(workload: Workload, target: tvm.target.Target) -> Space:
    """Return all schedules of a workload's kernel on a target."""
    kernel = KERNELS[workload.kernel]
    return kernel.sampled(kernel.prim_func(workload).with_attr("global_symbol", "main"), workload, target)


def dense_workload(workload: Workload, target: tvm.target.Target) -> Workload | None:
    """Return the same layer on the dense kernel, None where there is none or `workload` is one."""
    for kernel in DENSE_KERNELS:
        if kernel.name != workload.kernel and kernel.refuses(target, workload.n, workload.k, workload.dtype) is None:
            return Workload(
                kernel.name, workload.m, workload.n, workload.k, 1, 1, workload.dtype, workload.activation, workload.residual
            )
    return None


class LocalRunner:
    """Builds and times candidates in this process: a worker would import TVM for as long as a search takes.

    Parameters
    ----------
    target : tvm.target.Target
        This machine.
    threads : int
        Of a call.
    rotate : int
        Bytes of weights to rotate, so that each call finds them where it would in the model: as many as the model has, for
        instance. At most CACHE_MULTIPLE times the last-level cache are taken; 0 leaves them hot.
    """

    parallel = 1

    def __init__(self, target: tvm.target.Target, threads: int, rotate: int = 0) -> None:
        self.target, self.threads = target, threads
        self.rotate = min(rotate, CACHE_MULTIPLE * self._cache_bytes())
        self.stop: Callable[[], bool] = lambda: False
        self._held: OrderedDict[Workload, tuple[Arguments, Rotation]] = OrderedDict()

    def fits(self, workload: Workload, decisions: Decisions) -> bool:
        return True  # of a CPU's registers and caches any kernel may want too much; it is slow then, not wrong

    def measure(self, workload: Workload, batch: Sequence[Decisions]) -> Iterator[Measured]:
        space, (_, copies) = space_of(workload, self.target), self._arguments(workload)
        for decisions in batch:
            try:
                yield Measured(decisions, self._time(self._build(space.replay(decisions)), copies))
            except Exception as error:  # TVM raises many kinds; the search goes on without the candidate
                yield Measured(decisions, None, last_line(error))

    def confirm(self, workload: Workload, candidates: Sequence[Decisions], seconds: float) -> Confirmed | None:
        space, (arguments, copies) = space_of(workload, self.target), self._arguments(workload)
        reference, right, errors = arguments.reference(), {}, {}
        for decisions in dict.fromkeys((space.default, *candidates)):
            try:
                main = self._build(space.replay(decisions))
                errors[decisions] = self._error(workload, main, copies[0], reference)
            except Exception as error:  # TVM raises many kinds; the race goes on without it
                log.debug("%s cannot be raced: %s", decisions, last_line(error))
                continue
            if errors[decisions] <= tolerance(workload):
                right[decisions] = main
        others = {decisions: right[decisions] for decisions in candidates if decisions in right}
        if space.default not in right or not others:
            return None
        best, gain = self._race(right[space.default], others, copies, seconds)
        return Confirmed(best, gain, errors[best])

    def dense_seconds(self, workload: Workload) -> float | None:
        dense = dense_workload(workload, self.target)
        if dense is None:
            return None
        space, (_, copies) = space_of(dense, self.target), rotation(dense, self.rotate, self._put)
        try:
            return self._time(self._build(space.replay(space.default)), copies)
        except Exception as error:  # it is there for comparison only
            log.debug("the dense kernel cannot be timed: %s", last_line(error))
            return None

    def close(self) -> None:
        self._held.clear()

    def _cache_bytes(self) -> int:
        return last_level_cache()

    def _put(self, array: Array) -> Any:
        """Return an array where kernels take it."""
        tensor = tvm.runtime.tensor(array)
        collapse([tensor])
        return tensor

    def _read(self, tensor: Any) -> Array:
        """Return what is in a result of `_put`."""
        return view(tensor)

    def _build(self, func: tirx.PrimFunc) -> Any:
        """Return a scheduled function ready to be called."""
        return build(func, self.target)["main"]

    def _time(self, main: Any, copies: Rotation) -> float:
        return time_rotating(main, self.threads, copies)

    def _arguments(self, workload: Workload) -> tuple[Arguments, Rotation]:
        if workload not in self._held:
            self._held[workload] = rotation(workload, self.rotate, self._put)
        self._held.move_to_end(workload)
        while len(self._held) > 1 and sum(a.packed * len(r) for a, r in self._held.values()) > HELD_BYTES:
            self._held.popitem(last=False)
        return self._held[workload]

    def _error(self, workload: Workload, main: Any, given: list[Any], reference: Array) -> float:
        use_threads(self.threads)
        y = self._put(empty_result(workload))
        main(*given[:-1], y)
        return relative_error(self._read(y), reference)

    def _race(self, default: Any, others: Mapping[Decisions, Any], copies: Rotation, seconds: float) -> tuple[Decisions, Ratio]:
        """Return the fastest of `others`, and how many times faster than the default it is."""
        calls = calls_together(self._time(default, copies))
        racers = {"default": default} | {str(decisions): main for decisions, main in others.items()}
        rivals = {
            # apart in the rotation, or each would find in the cache what the one before has just read
            name: self._rival(main, copies, place * len(copies) // len(racers), calls)
            for place, (name, main) in enumerate(racers.items())
        }
        timing = race(rivals, ROUNDS, seconds, warm=4 if len(copies) == 1 else 1, least=LEAST_ROUNDS)
        best = max(others, key=lambda decisions: timing.half(0).speedup(str(decisions), "default").p50)
        return best, timing.half(1).speedup(str(best), "default")

    def _rival(self, main: Any, copies: Rotation, offset: int, calls: int) -> Rival:
        def run(call: int) -> Seconds:
            use_threads(self.threads)
            start = time.perf_counter()
            for place in range(calls):
                main(*copies[(call * calls + place + offset) % len(copies)])
            return Seconds((time.perf_counter() - start) / calls)

        return run


def rotation(workload: Workload, rotate: int, put: Callable[[Array], Any] = tvm.runtime.tensor) -> tuple[Arguments, Rotation]:
    """Draw arguments of a workload; return them, and as many copies, made by `put`, as `rotate` bytes of weights take."""
    arguments = draw(workload)
    y = empty_result(workload)
    copies = 1 + rotate // arguments.packed
    return arguments, [[put(a) for a in (*arguments.given, y)] for _ in range(copies)]


def empty_result(workload: Workload) -> Array:
    """Return y (M, N) full of NaN, all of which a kernel must write."""
    assert workload.m is not None
    return np.full((workload.m, workload.n), np.nan, numpy_dtype(workload.dtype))


def time_rotating(main: Callable[..., Any], threads: int, copies: Rotation) -> float:
    """Return the median time of a kernel in seconds, on each list of arguments in turn."""
    use_threads(threads)
    main(*copies[-1])
    call = itertools.count()

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            main(*copies[next(call) % len(copies)])
        return (time.perf_counter() - start) / calls

    calls = calls_together(seconds(1))
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        times.append(seconds(calls))
    return float(np.median(times))


def calls_together(seconds: float) -> int:
    """How many calls to time together: the clock counts in tens of nanoseconds, and small kernels take a few hundred."""
    return math.ceil(min(100.0, max(1.0, LONG_ENOUGH / seconds)))


def relative_error(got: Array, want: Array) -> float:
    """Return the largest difference, relative to the largest expected value; infinite where something is not a number."""
    error = float(np.abs(got.astype(np.float64) - want).max() / max(float(np.abs(want).max()), 1e-30))
    return error if math.isfinite(error) else math.inf


def tolerance(workload: Workload) -> float:
    """Return the largest relative error that a kernel may make on a workload, as in compiling a model."""
    from tvm_balanced.compiler import TOLERANCE

    return max(TOLERANCE[workload.dtype], KERNELS[workload.kernel].tolerance or 0.0)


def last_line(error: BaseException) -> str:
    """Return what went wrong in one line: TVM's messages have a page of text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
