"""The elements of a weight that stay, chosen by a score: for each structure exactly as many as it says."""

import numpy as np
import torch

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.frontend.arrays import to_numpy
from tvm_balanced.frontend.pruning.structures import Structure, Tiles, TwoLevel, Unstructured

ROWS_AT_ONCE = 512  # 64-bit keys for 512 rows of 8192 are 32 MB; for a whole layer they would be 1 GB


def keep_mask(scores: torch.Tensor, structure: Structure) -> torch.Tensor:
    """Return a mask of the elements that stay: those of the largest magnitude.

    Of equal magnitudes the first stays, so ties never change a count.

    Parameters
    ----------
    scores : torch.Tensor (N, K)
        Weights, or anything else whose magnitude says how much an element matters; without NaN.
    structure : BalancedPattern, TwoLevel, Unstructured or Tiles
        A balanced pattern keeps exactly `pattern.kept` of every block, also within another; the others a share of the whole
        matrix.

    Returns
    -------
    torch.Tensor (N, K) bool
        On the device of `scores`.
    """
    if isinstance(structure, BalancedPattern):
        mask = _balanced(scores, structure)
    elif isinstance(structure, TwoLevel):
        mask = _balanced(scores, structure.outer, _balanced(scores, structure.inner))
    elif isinstance(structure, Unstructured):
        mask = _top_share(to_numpy(scores.detach().abs().float()), structure.sparsity)
    else:
        mask = _tiles(to_numpy(scores.detach().float()), structure)
    return torch.from_numpy(mask).to(scores.device)


def _balanced(scores: torch.Tensor, pattern: BalancedPattern, among: Array | None = None) -> Array:
    """Return the mask of the largest of each block; of those `among`, if it is given, as far as there are as many."""
    k = scores.shape[1]
    tail = k % pattern.block
    mask = np.zeros(tuple(scores.shape), bool)
    for start in range(0, scores.shape[0], ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        magnitude = to_numpy(scores[rows].detach().abs().float())
        if among is not None:
            magnitude = np.where(among[rows], magnitude, np.float32(-1))  # whose bits are less than those of any magnitude
        _keep_top(magnitude[:, : k - tail], mask[rows, : k - tail], pattern.block, pattern.nnz)
        if tail:
            _keep_top(magnitude[:, k - tail :], mask[rows, k - tail :], tail, pattern.kept(tail))
    return mask


def _keep_top(magnitude: Array, mask: Array, block: int, keep: int) -> None:
    """Set `mask` where the `keep` largest of every `block` of `magnitude`, both (rows, a multiple of block)."""
    if not magnitude.size or not keep:
        return
    # A float's bits have the order of its magnitude. The position in the low bits makes every key
    # unique, so ties cannot change the count.
    keys = magnitude.reshape(len(magnitude), -1, block).view(np.int32).astype(np.int64) << 32
    keys |= np.arange(block - 1, -1, -1)
    threshold = np.partition(keys, block - keep, axis=2)[:, :, block - keep, None]
    mask[...] = (keys >= threshold).reshape(len(magnitude), -1)


def _top_share(magnitude: Array, sparsity: float) -> Array:
    """Return the mask of the largest elements of a whole matrix, `sparsity` of them dropped, rounded to a whole number."""
    size, mask = magnitude.size, np.zeros(magnitude.shape, bool)
    _keep_top(magnitude.reshape(1, size), mask.reshape(1, size), size, size - round(size * sparsity))
    return mask


def _tiles(scores: Array, tiles: Tiles) -> Array:
    """Keep the tiles of the largest sums of squares; those at the lower and right edge may be smaller."""
    n, k = scores.shape
    padded = np.pad(np.square(scores), ((0, -n % tiles.rows), (0, -k % tiles.columns)))
    down, across = padded.shape[0] // tiles.rows, padded.shape[1] // tiles.columns
    sums = padded.reshape(down, tiles.rows, across, tiles.columns).sum((1, 3))
    keep = _top_share(np.ascontiguousarray(sums), tiles.sparsity)
    return keep.repeat(tiles.rows, 0).repeat(tiles.columns, 1)[:n, :k]
