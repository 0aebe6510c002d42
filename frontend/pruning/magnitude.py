"""Magnitude pruning: the largest weights stay, and none is changed."""

import torch

from tvm_balanced.frontend.pruning.masks import keep_mask
from tvm_balanced.frontend.pruning.statistics import InputStatistics
from tvm_balanced.frontend.pruning.structures import Structure


def prune_matrix(weight: torch.Tensor, inputs: InputStatistics | None, structure: Structure) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (pruned weight, mask of what stays), both (N, K); `inputs` are not looked at."""
    keep = keep_mask(weight, structure)
    return weight.masked_fill(~keep, 0.0), keep
