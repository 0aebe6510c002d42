"""One-shot pruning of a module in place, by one of several methods, layer by layer."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import nn

from tvm_balanced.core.encoding import check_finite
from tvm_balanced.core.validation import check_names, require
from tvm_balanced.errors import InputError, ModelError, WeightError
from tvm_balanced.frontend.arrays import to_numpy
from tvm_balanced.frontend.pruning import magnitude, sparsegpt, wanda
from tvm_balanced.frontend.pruning.calibration import Batch, Calibration
from tvm_balanced.frontend.pruning.inputs import Rows
from tvm_balanced.frontend.pruning.plain import what_is_wrong
from tvm_balanced.frontend.pruning.report import PrunedLayer, PruningReport
from tvm_balanced.frontend.pruning.skipped import skipped_weights
from tvm_balanced.frontend.pruning.statistics import InputStatistics
from tvm_balanced.frontend.pruning.structures import Structure, parse_structure
from tvm_balanced.frontend.pruning.weights import (
    PrunableWeight,
    distinct,
    names_by_address,
    prunable_weights,
    weights_to_make_plain,
)

Parts = list[tuple[Rows, InputStatistics]]  # what is known of a weight's inputs, by rows


@dataclass(frozen=True)
class Method:
    """A way to prune one matrix, and what it must know of the layer's inputs X: nothing, the diagonal of X^T X, or all of it."""

    prune_matrix: Callable[[torch.Tensor, Any, Structure], tuple[torch.Tensor, torch.Tensor]]
    needs: Literal["nothing", "diagonal", "hessian"]


METHODS = {
    "magnitude": Method(magnitude.prune_matrix, "nothing"),
    "wanda": Method(wanda.prune_matrix, "diagonal"),
    "sparsegpt": Method(sparsegpt.prune_matrix, "hessian"),
}


def prune(
    model: nn.Module,
    pattern: str | Structure | Mapping[str, Any],
    include: str | Sequence[str] = ("*",),
    exclude: str | Sequence[str] = (),
    method: str | None = None,
    calibration: Iterable[Batch] | None = None,
    embeddings: bool = False,
    progress: Callable[[str], None] | None = None,
) -> PruningReport:
    """Prune a module's weights in place, exactly to the pattern.

    Taken are nn.Linear, nn.MultiheadAttention, convolutions in one and two dimensions (not depthwise ones), LSTM, GRU and RNN
    and their cells, nn.Bilinear, transformers' Conv1D and the three-dimensional weights of experts. In each block the n
    elements of the best score stay; of equal scores the first. A weight that several layers share is pruned once for all of
    them, including excluded ones and embeddings; the report names them. It also names every other weight of two or more
    dimensions, and why it is not pruned: one that weight norm, a mask or another parametrization computes stays as it is.

    Parameters
    ----------
    model : torch.nn.Module
        Weights float32, float16 or bfloat16.
    pattern : str, BalancedPattern, or mapping of layer names to them
        For instance "2:16", or "4:16 within 2:4", of which sparse tensor cores could skip half, too; a mapping, as `allocate`
        returns it, leaves layers that it does not name dense. "unstructured:0.75", "block8x8:0.75" and "vector8:0.75" are there
        to be compared with: no kernel uses them.
    include, exclude : str or sequences of str
        Names of layers or parameters, with * and ? as in a shell.
    method : str, optional
        "magnitude" keeps the largest weights; "wanda" weighs them by the norm of their inputs; "sparsegpt" also changes the
        weights that stay, to make up for those that went. By default "sparsegpt" if there are calibration data.
    calibration : iterable, optional
        Batches of what the model is called with: a tensor, a tuple of arguments or a dict of keyword arguments. A few hundred
        samples of what the model is used for are enough.
    embeddings : bool
        Whether tables of embeddings are pruned, too; always by magnitude.
    progress : callable, optional
        Gets a line of text before each layer.

    Returns
    -------
    PruningReport

    Raises
    ------
    InputError
        If an argument has the wrong type, a method is unknown or lacks its calibration data, or the model fails on these.
    PatternError
        If the pattern cannot be read.
    WeightError
        If a weight, or a layer's input, holds NaN or infinity; in the former case nothing is pruned.
    ModelError
        If no layer is left to prune.
    """
    require("model", model, nn.Module, "a torch.nn.Module")
    include, exclude = check_names("include", include), check_names("exclude", exclude)
    structures = structures_of(pattern)
    method = _method_name(method, calibration)
    weights = weights_to_prune(model, structures, include, exclude, embeddings)
    names = names_by_address(model)
    layers = {}
    for at, (weight, statistics) in enumerate(_in_order(model, weights, method, calibration)):
        if progress:
            progress(f"{at + 1} of {len(weights)}: {weight.name}")
        layers[weight] = _prune_weight(weight, weights[weight], method, statistics, names)
    ordered = tuple(layers[weight] for weight in weights)
    whole = None if isinstance(pattern, Mapping) else parse_structure(pattern)
    return PruningReport(whole, ordered, method, skipped_weights(model, weights))


def structures_of(pattern: Any) -> Callable[[PrunableWeight], Structure | None]:
    """Return a function that gives the structure of a weight, None if it stays dense; raises PatternError."""
    if not isinstance(pattern, Mapping):
        whole = parse_structure(pattern)
        return lambda _: whole
    parsed = {name: parse_structure(p) for name, p in pattern.items() if p is not None}

    def structure(weight: PrunableWeight) -> Structure | None:
        if weight.name in parsed:
            return parsed[weight.name]
        return next((s for name, s in parsed.items() if fnmatchcase(weight.name, name)), None)

    return structure


def _method_name(method: str | None, calibration: Any) -> str:
    if calibration is not None:
        require("calibration", calibration, Iterable, "a list of batches, or a DataLoader")
    if method is None:
        return "magnitude" if calibration is None else "sparsegpt"
    if method not in METHODS:
        raise InputError(f'method is "{method}"; give one of {", ".join(METHODS)}')
    if calibration is None and METHODS[method].needs != "nothing":
        raise InputError(
            f'method "{method}" needs calibration data; give calibration, a list of batches of what the model is called with'
        )
    return method


def weights_to_prune(
    model: nn.Module,
    structures: Callable[[PrunableWeight], Structure | None],
    include: Sequence[str],
    exclude: Sequence[str],
    embeddings: bool,
) -> dict[PrunableWeight, Structure]:
    """Return the weights that have a structure, each tensor once; raises ModelError or WeightError if one cannot be pruned."""
    found = {weight: structures(weight) for weight in prunable_weights(model, include, exclude, embeddings)}
    chosen = {weight: structure for weight, structure in found.items() if structure is not None}
    if not chosen and not found:
        _require_plain(model, include, exclude, embeddings)
    if not chosen:
        raise ModelError(
            f"{type(model).__name__} has no layer to prune whose name is in {list(include)} and not in {list(exclude)}"
            f"{' and has a pattern' if found else ''}; there is nothing to prune",
            usage=(include, exclude) != (("*",), ()) or bool(found),
        )
    for weight in chosen:
        _check(weight)
    return {weight: chosen[weight] for weight in distinct(chosen)}


def _require_plain(model: nn.Module, include: Sequence[str], exclude: Sequence[str], embeddings: bool) -> None:
    """Raise ModelError if there are weights that could be pruned, were they not computed from others."""
    computed = list(weights_to_make_plain(model, include, exclude, embeddings))
    if computed:
        weight, by = computed[0]
        others = f", as are those of {len(computed) - 1} other layers" if len(computed) > 1 else ""
        raise ModelError(
            f"the weight of layer {weight.name} is computed by {by.by}{others}, and no other is left to prune; "
            f"make it plain first: {by.remedy}"
        )


def _check(weight: PrunableWeight) -> None:
    wrong = what_is_wrong(weight.parameter)
    if wrong is not None:
        raise ModelError(f"layer {weight.name} cannot be pruned: its weight {wrong}")
    try:
        check_finite(to_numpy(weight.parameter.float()))
    except WeightError as error:
        raise WeightError(f"layer {weight.name}: {error}") from None


def _in_order(
    model: nn.Module, weights: Collection[PrunableWeight], method: str, calibration: Iterable[Batch] | None
) -> Iterator[tuple[PrunableWeight, Parts]]:
    """Yield each weight with what is known of its inputs, in forward order; then those that no batch reaches."""
    needs = METHODS[method].needs
    reached = set()
    if needs != "nothing" and calibration is not None:
        for group, statistics in Calibration(model, list(weights), calibration).groups(needs == "hessian"):
            for weight in group.weights:
                reached.add(weight)
                yield weight, statistics(weight)
    yield from ((weight, []) for weight in weights if weight not in reached)


def _prune_weight(
    weight: PrunableWeight, structure: Structure, method: str, parts: Parts, names: Mapping[int, list[str]]
) -> PrunedLayer:
    """Prune one weight in place: rows whose inputs are known by the method, the others by magnitude."""
    before = weight.matrix().clone()
    known = sum(stop - start for (start, stop), _ in parts)
    after = torch.empty_like(before) if known == len(before) else magnitude.prune_matrix(before, None, structure)[0]
    lost = total = 0.0
    for (start, stop), statistics in parts:
        rows = slice(start, stop)
        try:
            pruned, _ = METHODS[method].prune_matrix(before[rows], statistics, structure)
        except WeightError as error:
            raise WeightError(f"layer {weight.name}: {error}") from None
        after[rows] = pruned.to(after.dtype)
        difference, output = statistics.lost(before[rows], after[rows])
        lost, total = lost + difference, total + output
    weight.assign(after)
    n, k = before.shape
    energy = float(before.float().square().sum())
    own = (f"{weight.layer}.{weight.attribute}".lstrip("."),)
    return PrunedLayer(
        name=weight.name,
        shape=(n, k),
        sparsity_before=int((before == 0).sum()) / (n * k),
        sparsity=int((after == 0).sum()) / (n * k),
        energy_kept=float(before.float()[after != 0].square().sum()) / energy if energy else 1.0,
        also=tuple(name for name in names.get(weight.parameter.data_ptr(), ()) if name not in own),
        pattern=str(structure),
        method=method if parts else "magnitude",
        error=lost / total if total else (0.0 if parts else None),
    )
