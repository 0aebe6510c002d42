"""The encoded weight: the one canonical form of a balanced-sparse matrix, which every kernel packs from.

For a weight (N, K) with pattern nnz:block and blocks = ceil(K / block):

    values   (N, blocks, nnz)  the weight's dtype
    indices  (N, blocks, nnz)  uint8, position inside the block, ascending

A block that holds fewer than nnz nonzeros ends with unused slots: value 0 and the block's last valid position. So every
index is in range, every trip count is static, and no row pointers are needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import WeightError

Array = npt.NDArray[Any]
AT_ONCE = 1 << 20  # elements that are looked at at once: what is computed of them stays in a cache, and takes little memory


@dataclass(frozen=True, eq=False)
class EncodedWeight:
    """A weight matrix (N, K) in the canonical encoding.

    Parameters
    ----------
    values : array (N, blocks, nnz), floating point
    indices : array (N, blocks, nnz), uint8
    pattern : BalancedPattern
    in_features : int
        K, the columns of the weight.
    """

    values: Array
    indices: Array
    pattern: BalancedPattern
    in_features: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the weight that was encoded."""
        return self.values.shape[0], self.in_features

    def decode(self) -> Array:
        """Return the dense weight (N, K) in the dtype of the values, bit for bit except that -0 becomes +0."""
        n, k = self.shape
        blocks, nnz = self.pattern.blocks(k), self.pattern.nnz
        dense = np.zeros((n, blocks, self.pattern.block), self.values.dtype)
        # Last slot first: an unused slot may name the position of a real nonzero, and must not overwrite it.
        for slot in reversed(range(nnz)):
            np.put_along_axis(
                dense, self.indices[..., slot : slot + 1].astype(np.intp), self.values[..., slot : slot + 1], axis=2
            )
        return np.ascontiguousarray(dense.reshape(n, -1)[:, :k])

    def validate(self) -> None:
        """Check shapes, dtypes and every index.

        Raises
        ------
        WeightError
            Naming the first row and block at fault.
        """
        n, k = self.shape
        expected = (n, self.pattern.blocks(k), self.pattern.nnz)
        if self.values.shape != expected or self.indices.shape != expected:
            raise WeightError(
                f"encoded weight has values {self.values.shape} and indices {self.indices.shape}; "
                f"pattern {self.pattern} with K = {k} needs both to be {expected}"
            )
        if self.indices.dtype != np.uint8:
            raise WeightError(f"encoded weight has indices of {self.indices.dtype}; they must be uint8")
        check_finite(self.values)
        width = np.full(expected[1], self.pattern.block)
        width[-1] = self.pattern.tail(k)
        _raise_at(self.indices >= width[None, :, None], "an index past the end of its block")
        _raise_at(np.diff(self.indices.astype(np.int16), axis=2) < 0, "indices that do not ascend")
        twice = (np.diff(self.indices.astype(np.int16), axis=2) == 0) & (self.values[..., 1:] != 0)
        _raise_at(twice, "an index that is used twice")
        kept = np.array([self.pattern.kept(int(w)) for w in width])
        _raise_at(((self.values != 0).sum(2) > kept[None])[..., None], f"more nonzeros than {self.pattern} keeps")


def encode(weight: Array, pattern: BalancedPattern) -> EncodedWeight:
    """Encode a dense weight exactly; nothing is pruned.

    Parameters
    ----------
    weight : array (N, K), float16, bfloat16 or float32
    pattern : BalancedPattern
        Must cover the weight: no block may hold more nonzeros than it keeps.

    Raises
    ------
    WeightError
        Where a block holds too many nonzeros (naming row and block of the first) or a value is not finite.
    """
    if weight.ndim != 2:
        raise WeightError(f"weight has shape {weight.shape}; a dense layer's weight is (N, K)")
    check_finite(weight)
    n, k = weight.shape
    blocks, tail = pattern.blocks(k), pattern.tail(k)
    full = _encode_full(weight, pattern)
    if full is not None:
        return full
    row, column = np.nonzero(weight != 0)
    block, position = np.divmod(column, pattern.block)
    flat = row * blocks + block
    counts = np.bincount(flat, minlength=n * blocks).reshape(n, blocks)
    kept = np.full(blocks, pattern.nnz)
    kept[-1] = pattern.kept(tail)
    if (counts > kept).any():
        r, b = (int(v) for v in np.argwhere(counts > kept)[0])
        raise WeightError(
            f"row {r}, block {b} of the weight holds {counts[r, b]} nonzeros where pattern {pattern} keeps {kept[b]}; "
            "prune it to the pattern first, or choose a pattern that covers it"
        )
    # nonzero() walks row by row, so a nonzero's rank inside its block is its distance to the block's first.
    first = np.cumsum(counts.ravel()) - counts.ravel()
    slot = np.arange(flat.size) - first[flat]
    values = np.zeros((n * blocks, pattern.nnz), weight.dtype)
    indices = np.full((n * blocks, pattern.nnz), pattern.block - 1, np.uint8)
    indices[blocks - 1 :: blocks] = tail - 1
    values[flat, slot] = weight[row, column]
    indices[flat, slot] = position
    shape = (n, blocks, pattern.nnz)
    return EncodedWeight(values.reshape(shape), indices.reshape(shape), pattern, k)


def _encode_full(weight: Array, pattern: BalancedPattern) -> EncodedWeight | None:
    """Encode a weight whose blocks all hold as many nonzeros as the pattern keeps; None for any other."""
    (n, k), block, nnz = weight.shape, pattern.block, pattern.nnz
    place = np.flatnonzero(weight != 0)  # of truth values: 10x faster than of numbers
    if k % block or place.size != weight.size // block * nnz:
        return None
    position = place.reshape(-1, nnz) - block * np.arange(weight.size // block)[:, None]  # in its block
    if position.min(initial=0) < 0 or position.max(initial=0) >= block:
        return None
    shape = (n, k // block, nnz)
    return EncodedWeight(weight.reshape(-1)[place].reshape(shape), position.astype(np.uint8).reshape(shape), pattern, k)


def check_finite(weight: Array) -> None:
    """Raise WeightError, naming the first place, where a value of `weight` (any shape) is NaN or infinite."""
    first = 0
    for part in parts(weight):
        finite = np.isfinite(part)
        if not finite.all():
            row, *rest = (int(v) for v in np.argwhere(~finite)[0])
            at = (first + row, *rest)
            raise WeightError(f"weight holds {weight[at]} at {at}; every value must be finite")
        first += len(part)


def parts(weight: Array) -> Iterator[Array]:
    """Yield the rows of a weight (any shape but ()) in parts of about AT_ONCE elements; nothing where it is empty."""
    rows = max(1, AT_ONCE * len(weight) // max(1, weight.size))
    yield from (weight[start : start + rows] for start in range(0, len(weight) if weight.size else 0, rows))


def _raise_at(bad: Array, what: str) -> None:
    if bad.any():
        row, block = (int(v) for v in np.argwhere(bad)[0][:2])
        raise WeightError(f"row {row}, block {block} of the encoded weight has {what}; encode the dense weight again")
