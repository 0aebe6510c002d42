"""First candidates of a kernel that was never tuned: what won for the nearest shapes, fitted to its space."""

import math
from collections.abc import Iterable

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decision, Decisions, Space
from tvm_balanced.tuning.log.record import Winner


def first_candidates(workload: Workload, space: Space, winners: Iterable[Winner], count: int) -> list[Decisions]:
    """Return up to `count` points of a space, the nearest to what won for shapes like a workload's, the nearest shape first.

    Parameters
    ----------
    workload : Workload
    space : Space
        Its space.
    winners : iterable of Winner
        Of any workloads. Those count that beat their default, of the same kernel and dtype, whose decisions mean the same.
    count : int
    """
    alike = [w for w in winners if w.won and w.space == space.fingerprint and _alike(w.workload, workload)]
    alike.sort(key=lambda winner: distance(winner.workload, workload))  # stable: of equally near ones, the first
    fitted = (fit(winner.decisions, space) for winner in alike)
    return list(dict.fromkeys(point for point in fitted if point is not None and point != space.default))[:count]


def _alike(one: Workload, other: Workload) -> bool:
    return one != other and kind_of(one) == kind_of(other)


def kind_of(workload: Workload) -> tuple[str, str, bool]:
    """Return what workloads have in common whose decisions may mean the same: kernel, dtype, and whether it is no convolution."""
    return workload.kernel, workload.dtype, workload.conv is None


def shape_of(workload: Workload) -> tuple[float, ...]:
    """Return the logarithms, to base 2, of M, N, K and of the share that is kept; an M that is known only at the call is 1."""
    return tuple(math.log2(size) for size in (workload.m or 1, workload.n, workload.k, workload.nnz / workload.block))


def distance(one: Workload, other: Workload) -> float:
    """Return how far two shapes are apart: the sum of how many times M, N, K and the share that is kept double from one to the
    other.
    """
    return sum(abs(a - b) for a, b in zip(shape_of(one), shape_of(other), strict=True))


def fit(decisions: Decisions, space: Space) -> Decisions | None:
    """Return the point of a space whose factors are nearest to those of another space's, None if they are other factors.

    The outermost factor of a tile is what the shape leaves, so that it does not count.
    """
    if [len(d) for d in decisions] != [len(d) for d in space.default]:
        return None
    point = tuple(min(of, key=lambda one: _apart(one, want)) for want, of in zip(decisions, space.choices, strict=True))
    return point if point in space else None


def _apart(one: Decision, other: Decision) -> float:
    if len(one) == 1:
        return abs(one[0] - other[0])
    return sum(abs(math.log2(max(a, 1) / max(b, 1))) for a, b in zip(one[1:], other[1:], strict=True))
