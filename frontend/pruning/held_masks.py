"""Masks of weights that are held while a model is trained: what is pruned stays zero after every step of the optimizer."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from tvm_balanced.core.validation import require
from tvm_balanced.errors import InputError
from tvm_balanced.frontend.pruning.weights import PrunableWeight, distinct, prunable_weights


class HeldMasks:
    """Masks by weight, as factors 0 and 1 in the shape, dtype and place of the parameter."""

    def __init__(self) -> None:
        self._factors: dict[PrunableWeight, torch.Tensor] = {}

    @classmethod
    def of_zeros(cls, model: nn.Module) -> "HeldMasks":
        """Return the masks of a model that was pruned: what is zero stays so; weights without zeros have none."""
        held = cls()
        for weight in distinct(prunable_weights(model, embeddings=True)):
            keep = weight.parameter.detach() != 0
            if not bool(keep.all()):
                held._factors[weight] = keep.to(weight.parameter.dtype)
        return held

    def __len__(self) -> int:
        return len(self._factors)

    def __iter__(self) -> Iterator[PrunableWeight]:
        return iter(self._factors)

    def set(self, weight: PrunableWeight, keep: torch.Tensor) -> None:
        """Hold a mask (E * N, K) of what stays of a weight, in place of the one before."""
        parameter = weight.parameter
        factor = weight.back(keep).to(parameter.device, parameter.dtype).contiguous()
        if parameter.stride() != factor.stride():
            factor = torch.empty_like(parameter).copy_(factor)
        self._factors[weight] = factor

    def mask(self, weight: PrunableWeight) -> torch.Tensor | None:
        """Return the mask of a weight in its parameter's shape, bool; None if it has none yet."""
        factor = self._factors.get(weight)
        return None if factor is None else factor != 0

    @torch.no_grad()
    def apply(self) -> None:
        """Set to zero what is pruned."""
        by_kind: dict[Any, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        for weight, factor in self._factors.items():
            if factor.device != weight.parameter.device:  # the model was moved
                factor = self._factors[weight] = factor.to(weight.parameter.device)
            parameters, factors = by_kind.setdefault((factor.device, factor.dtype), ([], []))
            parameters.append(weight.parameter)
            factors.append(factor)
        for parameters, factors in by_kind.values():
            torch._foreach_mul_(parameters, factors)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the masks by the name of the weight: bool, in the shape of the parameter."""
        return {weight.name: (factor != 0).cpu() for weight, factor in self._factors.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor], weights: Mapping[str, PrunableWeight]) -> None:
        """Hold the masks that `state_dict` returned, and no others.

        Raises
        ------
        InputError
            If a weight is missing or has another shape.
        """
        require("the masks of a state", state, Mapping, "what state_dict returned")
        factors = {}
        for name, keep in state.items():
            weight = weights.get(name)
            if weight is None:
                raise InputError(f"the state has a mask of {name}, which is not pruned here; give the state of the same model")
            if weight.parameter.shape != keep.shape:
                raise InputError(
                    f"the state's mask of {name} has shape {tuple(keep.shape)}, the weight {tuple(weight.parameter.shape)}; "
                    "give the state of the same model"
                )
            factors[weight] = torch.empty_like(weight.parameter).copy_(keep)
        self._factors = factors
