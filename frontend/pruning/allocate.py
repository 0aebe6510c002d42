"""How much to prune where: a pattern for each layer, so that the least is lost in a given time, or at a given sparsity."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.layer_plan import DenseLayer
from tvm_balanced.core.pattern import MAX_BLOCK, BalancedPattern
from tvm_balanced.core.text_table import table
from tvm_balanced.core.validation import check_names, require
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.pruning import sparsegpt
from tvm_balanced.frontend.pruning.calibration import Batch, Calibration
from tvm_balanced.frontend.pruning.inputs import Rows
from tvm_balanced.frontend.pruning.output_loss import OutputLoss
from tvm_balanced.frontend.pruning.prune import weights_to_prune
from tvm_balanced.frontend.pruning.statistics import InputStatistics
from tvm_balanced.frontend.pruning.weights import PrunableWeight
from tvm_balanced.schedules import KERNELS
from tvm_balanced.selection.kernel_choice import KernelSelector

BLOCK = 16
CHOICES = (1, 2, 4, 8, 16)  # of BLOCK that a layer may keep; the last leaves it dense
LOSSES = ("output", "layer")
GRAIN = 20_000  # parts of the budget that costs are rounded up to: with 200 layers 1% of it may stay unused


@dataclass(frozen=True)
class AllocatedLayer:
    """One layer: what each of CHOICES loses (of squared outputs, relative) and takes, in seconds, and the choice."""

    name: str
    shape: tuple[int, int]
    lost: tuple[float, ...]
    seconds: tuple[float, ...]
    chosen: int

    @property
    def pattern(self) -> BalancedPattern | None:
        """The pattern; None if the layer stays dense."""
        return BalancedPattern(CHOICES[self.chosen], BLOCK) if CHOICES[self.chosen] < BLOCK else None


class Allocation(Mapping[str, BalancedPattern]):
    """Layer names to patterns, as `prune` takes them; layers that stay dense are left out. Prints as a table."""

    def __init__(self, layers: Sequence[AllocatedLayer]) -> None:
        self.layers = tuple(layers)
        self._patterns = {layer.name: layer.pattern for layer in layers if layer.pattern is not None}

    def __getitem__(self, name: str) -> BalancedPattern:
        return self._patterns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._patterns)

    def __len__(self) -> int:
        return len(self._patterns)

    @property
    def speedup(self) -> float:
        """How many times as fast as our dense kernels the layers are thought to be, all together; 1 if TVM computes them all."""
        taken = sum(layer.seconds[layer.chosen] for layer in self.layers)
        return sum(layer.seconds[-1] for layer in self.layers) / taken if taken else 1.0

    @property
    def sparsity(self) -> float:
        """Share of zeros over all layers."""
        kept = sum(CHOICES[layer.chosen] / BLOCK * layer.shape[0] * layer.shape[1] for layer in self.layers)
        return 1 - kept / sum(layer.shape[0] * layer.shape[1] for layer in self.layers)

    @property
    def lost(self) -> float:
        """The share of the squared output that a layer loses, on average over the layers."""
        return float(np.mean([layer.lost[layer.chosen] for layer in self.layers]))

    def __str__(self) -> str:
        head = (
            f"{self.sparsity:.1%} zeros, {self.speedup:.2f}x as fast as dense, "
            f"{self.lost:.1%} of the squared output lost by a layer on average"
        )
        rows = [
            (
                layer.name,
                f"{layer.shape[0]}x{layer.shape[1]}",
                str(layer.pattern or "dense"),
                f"{layer.seconds[layer.chosen] * 1e6:.0f}",
                f"{layer.seconds[-1] * 1e6:.0f}",
                f"{layer.lost[layer.chosen]:.2%}",
            )
            for layer in self.layers
        ]
        return head + "\n" + table(("layer", "N x K", "pattern", "us", "us dense", "squared output lost"), rows)


def allocate(
    model: nn.Module,
    calibration: Iterable[Batch],
    target_speedup: float | None = None,
    sparsity: float | None = None,
    include: str | Sequence[str] = ("*",),
    exclude: str | Sequence[str] = (),
    target: Any = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
    loss: str = "output",
) -> Allocation:
    """Choose 1, 2, 4, 8 or all of 16 for each layer, so that the layers lose the least in sum under a budget.

    What a layer loses is measured on the calibration data, with what SparseGPT leaves of it. What it takes is the
    time of the kernel that the compiler would choose: of this machine's profile if it has one (`tvm-balanced profile-machine`),
    else modelled. The model is not changed.

    Parameters
    ----------
    model : torch.nn.Module
    calibration : iterable
        As for `prune`. The rows of x that a layer gets from a batch are those that its time is taken for, so let a batch be as
        large as a call will be.
    target_speedup : float, optional
        How many times as fast the layers together should be as our dense kernels. Attention, norms and whatever else the model
        computes is not counted, so the whole model gains less.
    sparsity : float, optional
        The share of zeros over all layers instead of a speed-up.
    include, exclude
        As for `prune`.
    target, threads
        As for `compile`.
    progress : callable, optional
        Gets a line of text before each layer.
    loss : str
        "output": the share of the model's squared outputs that changes if this layer alone is pruned. A copy of the model is
        called four times for each layer, with 64 entries of the calibration data. "layer": the share of the layer's own squared
        output, which takes no calls, and is worse: layers that lose as much of their own do not matter as much to the model.

    Returns
    -------
    Allocation
        A mapping of layer names to patterns, which `prune` takes.

    Raises
    ------
    InputError
        If not exactly one budget is given, `loss` is unknown, or the model fails on a batch.
    ModelError
        If no choice of patterns keeps the budget, no batch reaches a layer, or a speed-up is asked of layers that TVM computes.
    """
    require("model", model, nn.Module, "a torch.nn.Module")
    require("calibration", calibration, Iterable, "a list of batches, or a DataLoader")
    _check_budget(target_speedup, sparsity)
    if loss not in LOSSES:
        raise InputError(f"loss is {loss!r}; give one of {', '.join(LOSSES)}")
    dense = BalancedPattern(BLOCK, BLOCK)
    weights = list(
        weights_to_prune(model, lambda _: dense, check_names("include", include), check_names("exclude", exclude), False)
    )
    batches = list(calibration)
    selector = KernelSelector.of(parse_target(target), threads)
    layers: list[AllocatedLayer] = []
    calibrated = Calibration(model, weights, batches)
    of_output = OutputLoss(model, weights, batches) if loss == "output" else None
    for group, statistics in calibrated.groups(hessian=True):
        for weight in group.weights:
            if progress:
                progress(f"{len(layers) + 1} of {len(weights)}: {weight.name}")
            parts = statistics(weight)
            rows = max(1, round(sum(inputs.rows for _, inputs in parts) / len(parts) / len(batches)))
            n, k = weight.matrix().shape
            times = _times(selector, weight, rows)
            layers.append(AllocatedLayer(weight.name, (n, k), _losses(weight, parts, of_output), times, len(CHOICES) - 1))
    if not layers:
        raise ModelError("no batch of the calibration data reaches a layer to prune; give what the model is called with")
    if sparsity is None and not any(layer.seconds[-1] for layer in layers):
        raise ModelError(
            f"none of our kernels takes a layer to prune ({weights[0].name} is {_dtype(weights[0])}), so zeros make none faster; "
            "convert the model to float32, or give sparsity instead of target_speedup"
        )
    costs = [
        layer.seconds if sparsity is None else tuple(c / BLOCK * layer.shape[0] * layer.shape[1] for c in CHOICES)
        for layer in layers
    ]
    budget = sum(cost[-1] for cost in costs) * (1 / target_speedup if target_speedup else 1 - (sparsity or 0.0))
    chosen = cheapest([layer.lost for layer in layers], costs, budget)
    if chosen is None:
        least = sum(map(min, costs))
        most = f"{sum(c[-1] for c in costs) / least:.2f}x" if sparsity is None else f"{1 - CHOICES[0] / BLOCK:.1%} zeros"
        raise ModelError(f"no choice of patterns keeps the budget; the most that 1:16 everywhere gives is {most}")
    return Allocation([replace(layer, chosen=at) for layer, at in zip(layers, chosen, strict=True)])


def cheapest(losses: Sequence[Sequence[float]], costs: Sequence[Sequence[float]], budget: float) -> list[int] | None:
    """Return for each layer the choice with which the sum of losses is least and the sum of costs within the budget.

    Exact but for costs, which are rounded up to 1/GRAIN of the budget. None if no choice keeps it.
    """
    best: Array = np.zeros(GRAIN + 1)  # the least loss of the layers so far, by the budget they have
    choices = []
    for lost, cost in zip(losses, costs, strict=True):
        options = np.full((len(lost), GRAIN + 1), np.inf)
        for at, (loss, takes) in enumerate(zip(lost, cost, strict=True)):
            parts = int(np.ceil(takes / budget * GRAIN - 1e-6))
            if parts <= GRAIN:
                options[at, parts:] = best[: GRAIN + 1 - parts] + loss
        choices.append((options.argmin(0), [int(np.ceil(takes / budget * GRAIN - 1e-6)) for takes in cost]))
        best = options.min(0)
    if not np.isfinite(best[-1]):
        return None
    left, chosen = GRAIN, []
    for choice, parts_of in reversed(choices):
        chosen.append(int(choice[left]))
        left -= parts_of[chosen[-1]]
    return chosen[::-1]


def _check_budget(target_speedup: float | None, sparsity: float | None) -> None:
    if (target_speedup is None) == (sparsity is None):
        raise InputError("give one budget: target_speedup, for instance 3.0, or sparsity, for instance 0.75")
    if target_speedup is not None and not target_speedup >= 1:
        raise InputError(f"target_speedup is {target_speedup}; give 1 or more")
    if sparsity is not None and not 0 <= sparsity < 1:
        raise InputError(f"sparsity is {sparsity}; give a share from 0 to less than 1")


def _losses(
    weight: PrunableWeight, parts: Sequence[tuple[Rows, InputStatistics]], of_output: OutputLoss | None
) -> tuple[float, ...]:
    """Return what is lost with each of CHOICES."""
    return *(_lost(weight, parts, BalancedPattern(nnz, BLOCK), of_output) for nnz in CHOICES[:-1]), 0.0


def _lost(
    weight: PrunableWeight,
    parts: Sequence[tuple[Rows, InputStatistics]],
    pattern: BalancedPattern,
    of_output: OutputLoss | None,
) -> float:
    """Return the share of the model's squared outputs that is lost with a pattern, or of the layer's own."""
    matrix = weight.matrix()
    left = matrix.clone()
    for (start, stop), inputs in parts:
        left[start:stop] = sparsegpt.prune_matrix(matrix[start:stop], inputs, pattern)[0]
    if of_output is not None:
        return of_output(weight, left)
    lost = sum(inputs.energy((matrix - left)[start:stop].float()) for (start, stop), inputs in parts)
    total = sum(inputs.energy(matrix[start:stop].float()) for (start, stop), inputs in parts)
    return lost / total if total else 0.0


def _times(selector: KernelSelector, weight: PrunableWeight, rows: int) -> tuple[float, ...]:
    """Return the seconds of the kernel that the compiler would choose, for each of CHOICES; 0 where TVM computes the layer."""
    n, k = weight.matrix().shape
    dtype, times = _dtype(weight), []
    for nnz in CHOICES:
        needed = {block: nnz * block // BLOCK for block in range(BLOCK, min(MAX_BLOCK, k) + 1, BLOCK)} if nnz < BLOCK else {}
        layer = DenseLayer(weight.name, rows, n, k, dtype, Detection((n, k), n * k * nnz // BLOCK, needed))
        (bucket,) = selector(layer)
        if bucket.kernel is None:
            return (0.0,) * len(CHOICES)
        workload = KERNELS[bucket.kernel].workload(rows, n, k, bucket.pattern, dtype)
        times.append(selector.seconds(workload, rows))
    return tuple(times)


def _dtype(weight: PrunableWeight) -> str:
    return str(weight.parameter.dtype).removeprefix("torch.")
