"""What a pruning method leaves as it is, and why: every weight that it does not prune is named."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class SkippedWeight:
    """A parameter of two or more dimensions that was not pruned, and why."""

    name: str
    shape: tuple[int, ...]
    reason: str


# By the class of the module that has the parameter; the first that fits is taken.
REASONS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str], ...] = (
    ((nn.Embedding, nn.EmbeddingBag), "a lookup multiplies nothing, so zeros save no time"),
    (nn.modules.conv._ConvTransposeNd, "transposed convolutions are not pruned"),
    (nn.modules.conv._ConvNd, "convolutions are not pruned"),
    (nn.MultiheadAttention, "the joined input projections of nn.MultiheadAttention are not pruned"),
    ((nn.RNNBase, nn.RNNCellBase), "recurrent layers are not pruned"),
    (nn.Bilinear, "bilinear layers are not pruned"),
)


def skipped_weights(
    model: nn.Module, pruned: Iterable[nn.Module], prunable: Callable[[nn.Module], bool]
) -> tuple[SkippedWeight, ...]:
    """Return every parameter of two or more dimensions that is in no pruned layer; a shared one is named once.

    Parameters
    ----------
    model : torch.nn.Module
    pruned : iterable of torch.nn.Module
        Modules of `model` whose weights are pruned.
    prunable : callable
        Whether a module would have been pruned if its name had not been left out.
    """
    done = {id(parameter) for layer in pruned for parameter in layer.parameters(recurse=False)}
    skipped = []
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() < 2 or id(parameter) in done:
                continue
            done.add(id(parameter))
            full = f"{prefix}.{name}" if prefix else name
            reason = "include and exclude leave it out" if prunable(module) else _reason(module, parameter)
            skipped.append(SkippedWeight(full, tuple(parameter.shape), reason))
    return tuple(skipped)


def _reason(module: nn.Module, parameter: torch.Tensor) -> str:
    known = next((reason for kinds, reason in REASONS if isinstance(module, kinds)), None)
    if known is not None:
        return known
    if parameter.dim() > 2:
        return f"{type(module).__name__} holds it in {parameter.dim()} dimensions; only matrices of nn.Linear are pruned"
    return f"{type(module).__name__} is not a layer that is pruned; only nn.Linear and GPT-2's Conv1D are"
