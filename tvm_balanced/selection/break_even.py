"""The break-even of kernels: where M is known only at the call, which of them computes a layer from which M on.

Each kernel that takes part keeps a copy of the weight in its own layout, so that another is taken in only where it pays.
"""

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise, permutations
from typing import TypeVar

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.row_range import RowRange

MOST_COPIES = 3  # decoding one row, a batch of requests, a prompt: the ranges of M that want kernels of their own
# A further copy must make some M faster by this much: profiled times are off by up to 1.2x (docs/measurements/verdicts.md).
WORTH = 1.2
NEVER = 1e6  # the cost of a place that dense is faster at
EVERY = 64  # up to which every M is compared, for a kernel computes whole tiles of rows: 9 rows may take the time of 16
# Of larger M those that are compared: every step is at most 1.5x, and tiles no longer show.
ROWS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)

Candidate = TypeVar("Candidate")
Seconds = Callable[[Candidate, int], float]


def sample(rows: RowRange) -> list[int]:
    """Return M of a range at which to compare times, its ends among them."""
    first, last = rows.first, max(rows.first, ROWS[-1]) if rows.last is None else rows.last
    return sorted({first, last, *range(first, min(last, EVERY) + 1), *(m for m in ROWS if first <= m <= last)})


def divide(
    seconds: Seconds[Candidate], sparse: Sequence[Candidate], dense: Candidate, rows: RowRange, most: int
) -> list[tuple[int, Candidate]]:
    """Return [(first M, what computes a layer from there on)], in ascending order, each taken once.

    A sparse kernel is taken only where it is nowhere slower than dense in its range. Alone, that is the one whose least gain
    over dense is largest. Of more, those whose times are least on average; as many as are worth their copies.

    Parameters
    ----------
    seconds : callable
        (candidate, M) to the time that it takes.
    sparse : sequence
        The sparse kernels, in a form of the caller's.
    dense : same form
    rows : RowRange
        Of the M that the layer may meet.
    most : int
        How many may be taken, from 1 up.
    """
    sampled, candidates = sample(rows), [*sparse, dense]
    times = np.array([[seconds(candidate, m) for m in sampled] for candidate in candidates])
    gains = np.round(np.log(times[-1] / times), 9)
    alone = max(range(len(candidates)), key=lambda i: (gains[i].min(), gains[i].mean(), candidates[i] is dense))
    taken, took = [(0, alone)], times[alone]
    for count in range(2, min(most, len(candidates), len(sampled)) + 1):
        found = _fastest(times, sampled, count)
        if found is None:
            continue
        takes = np.concatenate([times[i, a:b] for (a, i), (b, _) in pairwise([*found, (len(sampled), -1)])])
        if (took / takes).max() >= WORTH:
            taken, took = found, takes
    parts = [(sampled[0], candidates[taken[0][1]])]
    for (_, before), (place, after) in pairwise(taken):
        between = range(sampled[place - 1] + 1, sampled[place] + 1)
        overtakes = (m for m in between if seconds(candidates[after], m) < seconds(candidates[before], m))
        parts.append((next(overtakes, sampled[place]), candidates[after]))
    return parts


def _fastest(times: Array, sampled: list[int], count: int) -> list[tuple[int, int]] | None:
    """Return [(first place, candidate)] of the `count` candidates that take least on average.

    `times` is (candidates, places); the last candidate is dense.

    M from 1 to 2 counts as much as M from 100 to 200. None where no sparse one beats dense all over its places.
    """
    candidates, places = times.shape
    steps = np.log(np.array([*sampled[1:], 2 * sampled[-1]]) / sampled)
    slower = np.log(times / times[-1]) > 1e-9
    cost = np.pad(np.cumsum(np.log(times) * steps + NEVER * slower, axis=1), ((0, 0), (1, 0)))  # of the places before each
    cuts = np.array([(0, *cut, places) for cut in combinations(range(1, places), count - 1)])
    least, best = NEVER / 2, None
    for order in permutations(range(candidates), count) if len(cuts) else ():
        total = sum(cost[i, cuts[:, j + 1]] - cost[i, cuts[:, j]] for j, i in enumerate(order))
        place = int(np.argmin(total))
        if total[place] < least:
            least, best = total[place], list(zip(map(int, cuts[place][:-1]), order, strict=True))
    return best
