"""Wanda (Sun et al., 2023): a weight matters by its magnitude times the norm of its input; no weight is changed."""

import torch

from tvm_balanced.frontend.pruning.masks import keep_mask
from tvm_balanced.frontend.pruning.statistics import InputStatistics
from tvm_balanced.frontend.pruning.structures import Structure, Unstructured


def prune_matrix(weight: torch.Tensor, inputs: InputStatistics, structure: Structure) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (pruned weight, mask of what stays), both (N, K).

    Without structure each row is judged by itself, as in the paper.

    Parameters
    ----------
    weight : torch.Tensor (N, K)
    inputs : InputStatistics
        The diagonal is enough.
    structure : BalancedPattern, Unstructured or Tiles
    """
    scores = weight.float().abs() * inputs.squares.sqrt()
    if isinstance(structure, Unstructured):
        keep = torch.cat([keep_mask(row[None], structure) for row in scores])
    else:
        keep = keep_mask(scores, structure)
    return weight.masked_fill(~keep, 0.0), keep
