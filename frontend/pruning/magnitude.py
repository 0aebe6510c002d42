"""One-shot balanced pruning: keep the elements of largest magnitude in every block of every row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils import prune as torch_prune

from tvm_balanced.core.encoding import Array, check_finite
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.text_table import table
from tvm_balanced.core.validation import check_names, require
from tvm_balanced.core.weight_matrix import TAPS_FIRST, weight_matrix
from tvm_balanced.errors import ModelError, WeightError
from tvm_balanced.frontend.exported_program import to_numpy
from tvm_balanced.frontend.pruning.skipped import SkippedWeight, skipped_weights

ROWS_AT_ONCE = 512  # 64-bit keys for 512 rows of 8192 are 32 MB; for a whole layer they would be 1 GB


@dataclass(frozen=True)
class PrunedLayer:
    """What pruning did to one weight (N, K): share of zeros before and after, share of the squared magnitude kept.

    `also` names the parameters that are the same tensor, such as that of an embedding: pruned for their modules, too. `order`
    says how K runs over the weight (`core.weight_matrix`).
    """

    name: str
    shape: tuple[int, int]
    sparsity_before: float
    sparsity: float
    energy_kept: float
    also: tuple[str, ...] = ()
    order: str = TAPS_FIRST


@dataclass(frozen=True)
class PruningReport:
    """What `prune` did, layer by layer, and what it did not prune."""

    pattern: BalancedPattern
    layers: tuple[PrunedLayer, ...]
    skipped: tuple[SkippedWeight, ...] = ()

    @property
    def sparsity(self) -> float:
        """Share of zeros over all pruned weights."""
        total = sum(n * k for n, k in (layer.shape for layer in self.layers))
        return sum(layer.sparsity * layer.shape[0] * layer.shape[1] for layer in self.layers) / max(1, total)

    def __str__(self) -> str:
        rows = [
            (
                layer.name,
                f"{layer.shape[0]}x{layer.shape[1]}",
                f"{layer.sparsity_before:.1%}",
                f"{layer.sparsity:.1%}",
                f"{layer.energy_kept:.1%}",
            )
            for layer in self.layers
        ]
        head = f"pruned {len(rows)} layers to {self.pattern}: {self.sparsity:.2%} zeros"
        ties = [
            f"\nthe weight of {layer.name} is also {', '.join(layer.also)}: it is pruned there as well"
            for layer in self.layers
            if layer.also
        ]
        done = table(("layer", "N x K", "zeros before", "zeros", "squared magnitude kept"), rows) + "".join(ties)
        if not self.skipped:
            return f"{head}\n{done}"
        left = [(weight.name, "x".join(map(str, weight.shape)), weight.reason) for weight in self.skipped]
        return f"{head}\n{done}\nnot pruned: {len(left)} weights\n{table(('weight', 'shape', 'why'), left)}"


def prune(
    model: nn.Module,
    pattern: str | BalancedPattern,
    include: str | Sequence[str] = ("*",),
    exclude: str | Sequence[str] = (),
) -> PruningReport:
    """Prune the nn.Linear layers of a module, and GPT-2's Conv1D of transformers, in place, exactly to the pattern.

    In each block the top n by magnitude stay; of equal magnitudes the first stays. A weight that
    several layers share is pruned once for all of them, including excluded ones and embeddings; the
    report names them. It also names every other weight of two or more dimensions, and why it is not pruned.

    Parameters
    ----------
    model : torch.nn.Module
        Weights float32, float16 or bfloat16.
    pattern : str or BalancedPattern
        For instance "2:16".
    include, exclude : str or sequences of str
        Layer names, with * and ? as in a shell.

    Returns
    -------
    PruningReport

    Raises
    ------
    InputError
        If an argument has the wrong type.
    PatternError
        If the pattern cannot be read.
    WeightError
        If a weight holds NaN or infinity; nothing is pruned then.
    ModelError
        If no layer is left to prune, or a weight is computed by a parametrization.
    """
    require("model", model, nn.Module, "a torch.nn.Module")
    pattern = BalancedPattern.parse(pattern)
    include, exclude = check_names("include", include), check_names("exclude", exclude)
    layers = list(_dense_layers(model, include, exclude))
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no nn.Linear whose name is in {list(include)} and not in {list(exclude)}; "
            "there is nothing to prune",
            usage=(include, exclude) != (("*",), ()),
        )
    for name, layer in layers:
        _check(name, layer)
    names = _names_of_weights(model)
    done, reports = set(), []
    for name, layer in layers:
        address = layer.weight.data_ptr()
        if address in done:
            continue
        done.add(address)
        also = tuple(n for n in names.get(address, ()) if n not in (f"{name}.weight", "weight"))
        reports.append(replace(_prune_layer(name, _weight(layer), pattern), also=also))
    return PruningReport(pattern, tuple(reports), skipped_weights(model, [layer for _, layer in layers], _is_dense))


def keep_mask(weight: torch.Tensor, pattern: BalancedPattern) -> torch.Tensor:
    """Return a mask of the elements of `weight` (N, K) that stay: bool (N, K), exactly
    `pattern.kept` true in every block.
    """
    k = weight.shape[1]
    tail = k % pattern.block
    mask = np.zeros(tuple(weight.shape), bool)
    for start in range(0, weight.shape[0], ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        magnitude = to_numpy(weight[rows].detach().abs().float())
        _keep_top(magnitude[:, : k - tail], mask[rows, : k - tail], pattern.block, pattern.nnz)
        if tail:
            _keep_top(magnitude[:, k - tail :], mask[rows, k - tail :], tail, pattern.kept(tail))
    return torch.from_numpy(mask)


def _keep_top(magnitude: Array, mask: Array, block: int, keep: int) -> None:
    """Set in `mask` the `keep` largest of every `block` of `magnitude`, both (rows, a multiple of block)."""
    if not magnitude.size:
        return
    # A float's bits have the order of its magnitude. The position in the low bits makes every key
    # unique, so ties cannot change the count.
    keys = magnitude.reshape(len(magnitude), -1, block).view(np.int32).astype(np.int64) << 8
    keys |= np.arange(block - 1, -1, -1)
    threshold = np.partition(keys, block - keep, axis=2)[:, :, block - keep, None]
    mask[...] = (keys >= threshold).reshape(len(magnitude), -1)


def _names_of_weights(model: nn.Module) -> dict[int, list[str]]:
    """Return all names of each parameter, by the address of its first byte."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.numel():
            names.setdefault(parameter.data_ptr(), []).append(name)
    return names


def _dense_layers(model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        wanted = any(fnmatchcase(name, p) for p in include) and not any(fnmatchcase(name, p) for p in exclude)
        if _is_dense(module) and wanted:
            yield name or type(module).__name__, module


def _is_dense(module: nn.Module) -> bool:
    """Whether a module is a layer that `prune` prunes."""
    return isinstance(module, nn.Linear) or _is_conv1d(module)


def _is_conv1d(module: nn.Module) -> bool:
    """Whether a module is the dense layer of GPT-2 in transformers, which need not be installed. It
    is no convolution, despite its name.
    """
    return f"{type(module).__module__}.{type(module).__name__}" == "transformers.pytorch_utils.Conv1D"


def _weight(layer: Any) -> torch.Tensor:
    """Return a layer's weight as (N, K), a view of it."""
    weight: torch.Tensor = weight_matrix(layer.weight.T if _is_conv1d(layer) else layer.weight)
    return weight


def _check(name: str, layer: Any) -> None:
    if parametrize.is_parametrized(layer) or torch_prune.is_pruned(layer):
        raise ModelError(
            f"layer {name} has a weight computed from others; "
            "make it plain first (torch.nn.utils.prune.remove or remove_parametrizations)"
        )
    try:
        check_finite(to_numpy(layer.weight.float()))
    except WeightError as error:
        raise WeightError(f"layer {name}: {error}") from None


def _prune_layer(name: str, weight: torch.Tensor, pattern: BalancedPattern) -> PrunedLayer:
    with torch.no_grad():
        before, energy = int((weight == 0).sum()), float(weight.float().square().sum())
        weight.masked_fill_(~keep_mask(weight, pattern).to(weight.device), 0)
        after, kept = int((weight == 0).sum()), float(weight.float().square().sum())
    n, k = weight.shape
    return PrunedLayer(name, (n, k), before / (n * k), after / (n * k), kept / energy if energy else 1.0)
