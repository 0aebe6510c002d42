"""What a pruning method leaves as it is, and why: every weight that it does not prune is named."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from tvm_balanced.frontend.pruning.computed import computed_weights, kind_of
from tvm_balanced.frontend.pruning.weights import PrunableWeight, identity, own_weights, prunable_weights, weights_to_make_plain


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
    computed = {(weight.module, weight.attribute): by.reason for weight, by in weights_to_make_plain(model)}
    skipped = []
    for prefix, module in _modules(model):
        for name, parameter in own_weights(module).items():
            is_own = name not in computed_weights(module)  # what is computed anew for each look has no memory of its own
            key = identity(parameter)
            if parameter.dim() < 2 or (is_own and key in done):
                continue
            if is_own:
                done.add(key)
            left_out = is_own and key in prunable
            reason = "include, exclude or the patterns leave it out" if left_out else _reason(module, parameter)
            full = f"{prefix}.{name}" if prefix else name
            skipped.append(SkippedWeight(full, tuple(parameter.shape), computed.get((module, name), reason)))
    return tuple(skipped)


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield `named_modules` without the parts of parametrizations: the weight that they compute is named in their place."""
    parts = {part for module in model.modules() if isinstance(module, ParametrizationList) for part in module.modules()}
    return ((name, module) for name, module in model.named_modules() if module not in parts)


def _reason(module: nn.Module, parameter: torch.Tensor) -> str:
    known = next((reason for kinds, reason in REASONS if isinstance(module, kinds)), None)
    if known is not None:
        return known
    if parameter.dim() > 2:
        return (
            f"{kind_of(module).__name__} holds it in {parameter.dim()} dimensions and does not call it experts; "
            "name it in include if it is"
        )
    return f"{kind_of(module).__name__} is not a layer that is pruned"
