"""What a model's outputs lose if one of its weights is pruned, measured by calling a copy of the model."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from tvm_balanced.frontend.inference import float_tensors, inference
from tvm_balanced.frontend.pruning.calibration import Batch, call, moved
from tvm_balanced.frontend.pruning.weights import PrunableWeight

SAMPLES = 64  # entries of batches that the model is called with; with more, the order of MiniLM's layers stays
MOST_BATCHES = 8


class OutputLoss:
    """A copy of a model, and its outputs before anything is pruned.

    Parameters
    ----------
    model : torch.nn.Module
    weights : sequence of PrunableWeight
        Those that will be asked for.
    batches : sequence
        What the model is called with; the first ones are used, up to SAMPLES entries.
    """

    def __init__(self, model: nn.Module, weights: Sequence[PrunableWeight], batches: Sequence[Batch]) -> None:
        self._model = copy.deepcopy(model)
        modules = dict(zip(map(id, model.modules()), self._model.modules(), strict=True))
        self._weights = {weight: modules[id(weight.module)] for weight in weights}
        device = next((weight.parameter.device for weight in weights), torch.device("cpu"))
        self._batches = [moved(batch, device) for batch in _first(batches)]
        self._outputs = [self._call(batch) for batch in self._batches]

    def __call__(self, weight: PrunableWeight, matrix: torch.Tensor) -> float:
        """Return the squared change of the outputs, relative to them, if a weight is replaced by `matrix` (E * N, K)."""
        parameter: torch.Tensor = getattr(self._weights[weight], weight.attribute)  # in place, for others may share it
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.copy_(weight.back(matrix))
        try:
            found = [self._call(batch) for batch in self._batches]
        finally:
            with torch.no_grad():
                parameter.copy_(before)
        return _relative(found, self._outputs)

    def _call(self, batch: Batch) -> list[torch.Tensor]:
        with inference(self._model):
            return float_tensors(call(self._model, batch))


def _first(batches: Sequence[Batch]) -> Iterator[Batch]:
    """Yield batches until there are SAMPLES entries, MOST_BATCHES at most."""
    entries = 0
    for batch in batches[:MOST_BATCHES]:
        if entries >= SAMPLES:
            return
        yield batch
        entries += max((leaf.shape[0] for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor) and leaf.dim()), default=1)


def _relative(found: Sequence[Sequence[torch.Tensor]], expected: Sequence[Sequence[torch.Tensor]]) -> float:
    """Return the mean over the outputs of the squared difference over the squared output; what is not finite does not count."""
    shares = []
    for of_output, wanted in zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True):
        both = [_squares(one, other) for one, other in zip(of_output, wanted, strict=True)]
        total = sum(size for _, size in both)
        shares.append(sum(change for change, _ in both) / total if total else 0.0)
    return sum(shares) / len(shares) if shares else 0.0


def _squares(found: torch.Tensor, expected: torch.Tensor) -> tuple[float, float]:
    found, expected = found.double(), expected.double()
    finite = torch.isfinite(expected) & torch.isfinite(found)
    change: Any = torch.where(finite, found - expected, 0.0).square().sum()
    return float(change), float(torch.where(finite, expected, 0.0).square().sum())
