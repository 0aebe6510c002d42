"""Which balanced pattern a weight's zeros have, and what it would cost to store them in another.

Detection only counts zeros; it never prunes. A weight with unstructured zeros gets the cheapest pattern that covers
it, with the padding that this takes.
"""

from dataclasses import dataclass, field

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.pattern import MAX_BLOCK, BalancedPattern

COUNTS_AT_ONCE = 1 << 19  # running counts in the second-level cache, and few calls: 255 block lengths for every part of the rows


@dataclass(frozen=True)
class Detection:
    """What the zeros of one weight (N, K) look like.

    Parameters
    ----------
    shape : (N, K)
    nonzeros : int
    needed : dict
        Block length to the smallest nnz whose pattern covers the weight; blocks that save nothing are left out.
    """

    shape: tuple[int, int]
    nonzeros: int
    needed: dict[int, int] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of zeros, 0 to 1."""
        return 1 - self.nonzeros / max(1, self.shape[0] * self.shape[1])

    @property
    def pattern(self) -> BalancedPattern | None:
        """The pattern that stores the fewest slots (of equals the shortest block), None where every block is full."""
        patterns = [BalancedPattern(nnz, block) for block, nnz in self.needed.items()]
        return min(patterns, key=lambda p: (self.stored(p), p.block), default=None)

    def covering(self, block: int) -> BalancedPattern:
        """Return the sparsest pattern with this block length that covers the weight; full where nothing is saved."""
        return BalancedPattern(self.needed.get(block, block), block)

    def stored(self, pattern: BalancedPattern) -> int:
        """Slots that the weight takes in this pattern, unused ones included."""
        n, k = self.shape
        return n * pattern.blocks(k) * pattern.nnz

    def padding(self, pattern: BalancedPattern) -> float:
        """Unused slots for each nonzero: 0.0 where the pattern fits exactly."""
        return self.stored(pattern) / max(1, self.nonzeros) - 1


def detect(weight: Array) -> Detection:
    """Count the nonzeros of every block of every length from 2 to 256.

    Parameters
    ----------
    weight : array (N, K), any floating dtype

    Returns
    -------
    Detection
    """
    n, k = weight.shape
    needed = dict.fromkeys(range(2, min(MAX_BLOCK, max(k, 2)) + 1), 1)
    nonzeros = 0
    counts = np.int16 if k < np.iinfo(np.int16).max else np.int32
    rows = max(1, COUNTS_AT_ONCE // (k + 1))
    for start in range(0, n, rows):
        mask = (weight[start : start + rows] != 0).T
        running = np.zeros((k + 1, mask.shape[1]), counts)  # a block's edges are whole rows of it
        np.cumsum(mask, axis=0, out=running[1:])
        nonzeros += int(running[-1].sum(dtype=np.int64))
        for block in list(needed):
            needed[block] = max(needed[block], _needed_nnz(running, block))
            if needed[block] >= block:  # nothing saved: no need to count this length in the rows that follow
                del needed[block]
    return Detection((n, k), nonzeros, needed)


def _needed_nnz(running: Array, block: int) -> int:
    """Smallest nnz of this block length that covers some rows, given their running counts (K + 1, rows)."""
    k = len(running) - 1
    edges = running[::block]
    whole = int((edges[1:] - edges[:-1]).max(initial=0))
    tail = k % block
    if not tail:
        return whole
    in_tail = int((running[-1] - edges[-1]).max(initial=0))
    # ceil(nnz * tail / block) >= in_tail  <=>  nnz > (in_tail - 1) * block / tail
    return max(whole, (in_tail - 1) * block // tail + 1 if in_tail else 0)
