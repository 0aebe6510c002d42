"""The user's model run as it is deployed, and left as it was: each module has its own mode afterwards, frozen children too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode while the block runs; afterwards each of its modules has the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Run a model in eval mode and without gradients; the mode of each module is as before afterwards."""
    with eval_mode(model), torch.no_grad():
        yield


def float_tensors(result: Any) -> list[torch.Tensor]:
    """Return the tensors of floating point of what a model or an operator returned, however nested."""
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
