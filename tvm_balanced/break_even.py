"""The break-even of kernels: where M is known only at the call, which of them computes a layer from which M on.

Each kernel that takes part keeps a copy of the weight in its own layout, so that another is taken in only where it pays.
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise, permutations
from typing import TypeVar

import numpy as np

from tvm_balanced.encoding import Array
from tvm_balanced.imported import Range

MOST_COPIES = 3  # decoding one row, a batch of requests, a prompt: the ranges of M that want kernels of their own
# A further copy must make some M faster by this much: calibrated times are off by up to 1.2x (docs/cpu.md, the verdicts).
WORTH = 1.2
# Where times are compared: every step is at most 1.5x, below which no kernel's time changes by more than its tiles explain.
ROWS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)

Offer = TypeVar("Offer")
Seconds = Callable[[Offer, int], float]


def sample(rows: Range) -> list[int]:
    """Return M of a range at which to compare times, its ends among them."""
    first, last = rows[0], max(rows[0], ROWS[-1]) if rows[1] is None else rows[1]
    return sorted({first, last, *(m for m in ROWS if first <= m <= last)})


def divide(seconds: Seconds[Offer], sparse: Sequence[Offer], dense: Offer, rows: Range, most: int) -> list[tuple[int, Offer]]:
    """Return [(first M, what computes a layer from there on)], in ascending order, each taken once.

    A sparse kernel is taken only where it beats dense at every M of its range. Alone, that is the one whose least gain over
    dense is largest. Of more, those whose times are least on average over the sampled M; as many as are worth their copies.

    Parameters
    ----------
    seconds : callable
        (offer, M) to the time that it takes.
    sparse : sequence
        The sparse kernels, in a form of the caller's.
    dense : same form
    rows : Range
        Of the M that the layer may meet.
    most : int
        How many may be taken, from 1 up.
    """
    sampled, offers = sample(rows), [*sparse, dense]
    times = np.array([[seconds(offer, m) for m in sampled] for offer in offers])
    alone = max(range(len(offers)), key=lambda i: ((times[-1] / times[i]).min(), offers[i] is dense))
    taken, took = [(0, alone)], times[alone]
    for count in range(2, min(most, len(offers), len(sampled)) + 1):
        found = _fastest(times, count)
        if found is None:
            continue
        takes = np.concatenate([times[i, a:b] for (a, i), (b, _) in pairwise([*found, (len(sampled), -1)])])
        if (took / takes).max() >= WORTH:
            taken, took = found, takes
    parts = [(sampled[0], offers[taken[0][1]])]
    for (_, before), (place, after) in pairwise(taken):
        between = range(sampled[place - 1] + 1, sampled[place] + 1)
        overtakes = (m for m in between if seconds(offers[after], m) < seconds(offers[before], m))
        parts.append((next(overtakes, sampled[place]), offers[after]))
    return parts


def _fastest(times: Array, count: int) -> list[tuple[int, int]] | None:
    """Return [(first place, offer)] of the `count` offers whose times (offers, places), the last dense, are least on average.

    None where no sparse one beats dense all over its places.
    """
    offers, places = times.shape
    cost = np.where((times < times[-1]) | (np.arange(offers) == offers - 1)[:, None], np.log(times), math.inf)
    cuts = [(0, *cut, places) for cut in combinations(range(1, places), count - 1)]
    total = np.array([[cost[i, a:b].sum() for b in range(places + 1)] for i in range(offers) for a in range(places)])
    total = total.reshape(offers, places, places + 1)  # from place a up to b
    starts, ends = np.array([cut[:-1] for cut in cuts]), np.array([cut[1:] for cut in cuts])
    least, best = math.inf, None
    for order in permutations(range(offers), count):
        costs = sum(total[i, starts[:, j], ends[:, j]] for j, i in enumerate(order))
        place = int(np.argmin(costs))
        if costs[place] < least:
            least, best = costs[place], list(zip(cuts[place][:-1], order, strict=True))
    return best
