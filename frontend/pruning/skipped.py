"""What a pruning method leaves as it is, and why: every weight that it does not prune is named."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from tvm_balanced.frontend.pruning.weights import PrunableWeight, identity, prunable_weights


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
    (nn.Conv3d, "convolutions in three dimensions are not pruned"),
    (nn.modules.conv._ConvNd, "a depthwise convolution filters each channel by itself"),
)


def skipped_weights(model: nn.Module, pruned: Iterable[PrunableWeight]) -> tuple[SkippedWeight, ...]:
    """Return every parameter of two or more dimensions that was not pruned; a shared one is named once.

    Parameters
    ----------
    model : torch.nn.Module
    pruned : iterable of PrunableWeight
        The weights of `model` that are pruned.
    """
    done = {identity(weight.parameter) for weight in pruned}
    prunable = {identity(weight.parameter) for weight in prunable_weights(model)}
    skipped = []
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            key = identity(parameter)
            if parameter.dim() < 2 or key in done:
                continue
            done.add(key)
            full = f"{prefix}.{name}" if prefix else name
            left_out = key in prunable
            reason = "include, exclude or the patterns leave it out" if left_out else _reason(module, parameter)
            skipped.append(SkippedWeight(full, tuple(parameter.shape), reason))
    return tuple(skipped)


def _reason(module: nn.Module, parameter: torch.Tensor) -> str:
    known = next((reason for kinds, reason in REASONS if isinstance(module, kinds)), None)
    if known is not None:
        return known
    if parameter.dim() > 2:
        return (
            f"{type(module).__name__} holds it in {parameter.dim()} dimensions and does not call it experts; "
            "name it in include if it is"
        )
    return f"{type(module).__name__} is not a layer that is pruned"
