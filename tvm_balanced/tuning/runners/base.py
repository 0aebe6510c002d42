"""Base of the runners, which measure candidates."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import tvm
from tvm import tirx

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.errors import last_line
from tvm_balanced.schedules import ALL_KERNELS, Workload, dense_kernels
from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.log.record import Measured

# Rounds of a race with the default. One half chooses the best candidate, the other gives its gain;
# with the same rounds for both, noise would inflate the gain.
ROUNDS = 32
LEAST_ROUNDS = 16  # even with little time: of eight, at least seven were faster then


@dataclass(frozen=True)
class Confirmed:
    """The best of some candidates compared with the default: how many times faster, and the error of its outputs."""

    decisions: Decisions
    gain: Ratio
    max_error: float | None

    @property
    def faster(self) -> bool:
        """Whether at least four of five rounds were faster: with a median alone, noise could win."""
        return self.gain.p20 > 1


@dataclass(frozen=True)
class Candidate:
    """A point of a space, and the function that is scheduled by it."""

    decisions: Decisions
    func: tirx.PrimFunc


@dataclass(frozen=True)
class Built:
    """A candidate that is compiled: what its runner runs, or why it failed."""

    decisions: Decisions
    code: Any = None
    error: str | None = None


def attempt(build: Callable[[tirx.PrimFunc], Any], candidate: Candidate) -> Built:
    """Build a candidate; compilers raise many kinds, and the search continues without it."""
    try:
        return Built(candidate.decisions, build(candidate.func))
    except Exception as error:
        return Built(candidate.decisions, None, last_line(error))


def build_together(build: Callable[[tirx.PrimFunc], Any], candidates: Sequence[Candidate], workers: int) -> Iterator[Built]:
    """Build candidates in threads; those that have not begun when nobody wants more are not built."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(partial(attempt, build), candidates)
    finally:
        pool.shutdown(cancel_futures=True)


class Runner(Protocol):
    """Builds and measures candidates."""

    parallel: int  # how many it measures at once
    stop: Callable[[], bool]  # whether to end soon; the tuner sets it, and a runner that waits for others asks it

    def fits(self, workload: Workload, decisions: Decisions) -> bool:
        """Whether the target has the resources that a candidate needs; one that does not fit is no trial."""

    def build_all(self, candidates: Sequence[Candidate]) -> Iterator[Built]:
        """Build candidates, and yield each as soon as it is built."""

    def run_all(self, workload: Workload, built: Sequence[Built]) -> Iterator[Measured]:
        """Measure what was built without an error, and yield each result as soon as it is known; raises TuningError if
        nothing can be measured any more.
        """

    def confirm(self, workload: Workload, candidates: Sequence[Decisions], seconds: float) -> Confirmed | None:
        """Check the outputs of candidates and time the correct ones in alternation with the
        default, for about `seconds`.

        Returns the fastest, None if no candidate is correct.
        """

    def dense_seconds(self, workload: Workload) -> float | None:
        """Return the time of the dense kernel on a layer of this shape, in seconds; None if there
        is no dense kernel.
        """

    def close(self) -> None:
        """Release all resources."""


def measure(runner: Runner, space: Space, workload: Workload, batch: Sequence[Decisions]) -> Iterator[Measured]:
    """Build and measure points of a space without a search."""
    candidates = []
    for decisions in batch:
        try:
            candidates.append(Candidate(decisions, space.replay(decisions)))
        except ValueError as error:  # it is none of the space
            yield Measured(decisions, None, last_line(error))
    built = list(runner.build_all(candidates))
    yield from (Measured(one.decisions, None, one.error) for one in built if one.error is not None)
    yield from runner.run_all(workload, [one for one in built if one.error is None])


def dense_workload(workload: Workload, target: tvm.target.Target) -> Workload | None:
    """Return the same layer on the dense kernel; None if there is none or `workload` is one."""
    kernels = dense_kernels(workload.conv)
    if workload.kernel in {kernel.name for kernel in kernels}:
        return None
    for kernel in kernels:
        fits = workload.conv is None or kernel.refuses_conv(workload.conv) is None
        if fits and kernel.refuses(target, workload.n, workload.k, workload.dtype) is None:
            return kernel.workload(
                workload.m,
                workload.n,
                workload.k,
                None,
                workload.dtype,
                activation=workload.activation,
                residual=workload.residual,
                conv=workload.conv,
            )
    return None


def tolerance(workload: Workload) -> float:
    """Return the largest relative error that a kernel may make on a workload, the same as in compiling a model."""
    from tvm_balanced.core.tolerance import TOLERANCE

    return max(TOLERANCE[workload.dtype], ALL_KERNELS[workload.kernel].tolerance or 0.0)
