"""SparseGPT (Frantar and Alistarh, 2023): what is pruned is made up for by the weights right of it.

For any structure: a block of the balanced pattern is decided when its first column is reached, from weights that have taken up
the error of all columns before.
"""

import torch

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.frontend.pruning.masks import keep_mask
from tvm_balanced.frontend.pruning.statistics import InputStatistics
from tvm_balanced.frontend.pruning.structures import Structure, Tiles, TwoLevel

COLUMNS = 128  # columns whose error is passed on at once, as in the paper: a product of matrices for all columns right of them


def prune_matrix(weight: torch.Tensor, inputs: InputStatistics, structure: Structure) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (pruned and updated weight, mask of what stays), both (N, K).

    Parameters
    ----------
    weight : torch.Tensor (N, K)
    inputs : InputStatistics
        With the Hessian.
    structure : BalancedPattern, Unstructured or Tiles
    """
    factor = inputs.inverse_factor
    weight = weight.to(factor.dtype, copy=True)
    keep = torch.zeros_like(weight, dtype=torch.bool)
    k = weight.shape[1]
    at_once = columns_at_once(structure)
    for start in range(0, k, at_once):
        stop = min(start + at_once, k)
        errors = _prune_columns(weight[:, start:stop], keep[:, start:stop], factor[start:stop, start:stop], structure)
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    return weight, keep


def columns_at_once(structure: Structure) -> int:
    """Return COLUMNS, or the next multiple of what must be decided together."""
    together = _together(structure)
    return together * -(-COLUMNS // together)


def _together(structure: Structure) -> int:
    """Return how many columns are decided together, at the first of them."""
    if isinstance(structure, TwoLevel):
        structure = structure.outer
    if isinstance(structure, BalancedPattern):
        return structure.block
    return COLUMNS if not isinstance(structure, Tiles) else structure.columns * -(-COLUMNS // structure.columns)


def _prune_columns(weight: torch.Tensor, keep: torch.Tensor, factor: torch.Tensor, structure: Structure) -> torch.Tensor:
    """Prune columns in place; return their errors (N, columns), which the columns right of them must take up."""
    columns = weight.T.contiguous()  # a column lies in one piece: 2x
    errors = torch.zeros_like(columns)
    diagonal = factor.diagonal()
    together = _together(structure)
    for at, column in enumerate(columns):
        if at % together == 0:
            block = slice(at, at + together)
            keep[:, block] = keep_mask(columns[block].T / diagonal[block], structure)
        errors[at] = (column / diagonal[at]).masked_fill_(keep[:, at], 0.0)
        columns[at + 1 :].addr_(factor[at, at + 1 :], errors[at], alpha=-1)
    weight.copy_(columns.T.masked_fill(~keep, 0.0))
    return errors.T
