"""Runners: what measures candidates, and what they share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import tvm

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS, Workload
from tvm_balanced.schedules.base.space import Decisions, Space
from tvm_balanced.tuning.log.record import Measured

# Of a race with the default: one half chooses the best candidate, the other says what it gains, or noise would choose and say.
ROUNDS = 32
LEAST_ROUNDS = 16  # however little time there is: of eight, at least seven were faster then


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


class Spaces:
    """The spaces of workloads on a target, each sampled once: sampling costs a fifth of a trial."""

    def __init__(self, target: tvm.target.Target) -> None:
        self.target = target
        self._known: dict[Workload, Space] = {}

    def __getitem__(self, workload: Workload) -> Space:
        if workload not in self._known:
            self._known[workload] = space_of(workload, self.target)
        return self._known[workload]


def dense_workload(workload: Workload, target: tvm.target.Target) -> Workload | None:
    """Return the same layer on the dense kernel, None where there is none or `workload` is one."""
    for kernel in DENSE_KERNELS:
        if kernel.name != workload.kernel and kernel.refuses(target, workload.n, workload.k, workload.dtype) is None:
            return kernel.workload(
                workload.m,
                workload.n,
                workload.k,
                None,
                workload.dtype,
                activation=workload.activation,
                residual=workload.residual,
            )
    return None


def tolerance(workload: Workload) -> float:
    """Return the largest relative error that a kernel may make on a workload, as in compiling a model."""
    from tvm_balanced.core.tolerance import TOLERANCE

    return max(TOLERANCE[workload.dtype], KERNELS[workload.kernel].tolerance or 0.0)
