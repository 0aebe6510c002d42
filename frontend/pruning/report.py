"""What pruning did, layer by layer."""

from collections.abc import Sized
from dataclasses import dataclass

from tvm_balanced.core.text_table import table
from tvm_balanced.core.weight_matrix import TAPS_FIRST
from tvm_balanced.frontend.pruning.skipped import SkippedWeight
from tvm_balanced.frontend.pruning.structures import Structure


@dataclass(frozen=True)
class PrunedLayer:
    """What pruning did to one weight (N, K): share of zeros before and after, share of the squared magnitude kept.

    `also` names the parameters that are the same tensor, such as that of an embedding: pruned for their modules, too. `order`
    says how K runs over the weight (`core.weight_matrix`). `error` is what is lost of the layer's output on the calibration
    data: the squared difference over the squared output, None without such data.
    """

    name: str
    shape: tuple[int, int]
    sparsity_before: float
    sparsity: float
    energy_kept: float
    also: tuple[str, ...] = ()
    order: str = TAPS_FIRST
    pattern: str = ""
    method: str = "magnitude"
    error: float | None = None


@dataclass(frozen=True)
class PruningReport:
    """What `prune` did, and what it did not prune; `pattern` is None if layers have patterns of their own."""

    pattern: Structure | None
    layers: tuple[PrunedLayer, ...]
    method: str = "magnitude"
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
                *(() if self.pattern else (layer.pattern,)),
                f"{layer.sparsity_before:.1%}",
                f"{layer.sparsity:.1%}",
                f"{layer.energy_kept:.1%}",
                *(() if self._is_blind else ("-" if layer.error is None else f"{layer.error:.2%}",)),
            )
            for layer in self.layers
        ]
        header = (
            "layer",
            "N x K",
            *(() if self.pattern else ("pattern",)),
            "zeros before",
            "zeros",
            "squared magnitude kept",
            *(() if self._is_blind else ("squared output lost",)),
        )
        to = self.pattern or "patterns of their own"
        by = "" if self.method == "magnitude" else f" by {self.method}"
        head = f"pruned {_count(rows, 'layer')} to {to}{by}: {self.sparsity:.2%} zeros"
        done = head + "\n" + table(header, rows) + "".join(f"\n{note}" for note in self._notes())
        if not self.skipped:
            return done
        left = [(weight.name, "x".join(map(str, weight.shape)), weight.reason) for weight in self.skipped]
        return f"{done}\nnot pruned: {_count(left, 'weight')}\n{table(('weight', 'shape', 'why'), left)}"

    @property
    def _is_blind(self) -> bool:
        return all(layer.error is None for layer in self.layers)

    def _notes(self) -> list[str]:
        ties = [
            f"the weight of {layer.name} is also {', '.join(layer.also)}: it is pruned there as well"
            for layer in self.layers
            if layer.also
        ]
        unseen = [layer.name for layer in self.layers if layer.method != self.method]
        if unseen:
            ties.append(f"pruned by magnitude, because the calibration data did not reach them: {', '.join(unseen)}")
        return ties


def _count(rows: Sized, what: str) -> str:
    return f"{len(rows)} {what}{'' if len(rows) == 1 else 's'}"
