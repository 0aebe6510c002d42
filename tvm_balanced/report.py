"""The report: for every dense layer of a model, what was done with it and why."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tvm_balanced.table import table


@dataclass(frozen=True)
class LayerReport:
    """One layer: y (M, N) = x (M, K) @ weight (N, K)^T.

    Parameters
    ----------
    layer : str
        Its name in the model.
    n, k : int
    m : int or None
        Rows of x, None where known only at the call.
    calls : int
        Times that the model computes it with this M.
    sparsity : float
        Share of zeros in the weight, 0 to 1.
    pattern : str
        The cheapest pattern that its zeros have, "-" where there is none.
    stored : str
        The pattern it is stored in, "-" where it is dense.
    padding : float
        Unused slots for each nonzero, as stored.
    kernel : str
        "tvm" where the layer was left to TVM.
    verdict : str
        "sparse" or "dense".
    reason : str
        One sentence.
    source : str
        Where the verdict comes from: "modelled", "forced" or "rule".
    speedup : float or None
        Modelled, over the dense kernel.
    schedule : str
        Where the kernel's schedule comes from: "tuned: user log", "tuned: shipped", or "default" and why; "-" where the layer
        was left to TVM.
    """

    layer: str
    n: int
    k: int
    m: int | None
    calls: int
    sparsity: float
    pattern: str
    stored: str
    padding: float
    kernel: str
    verdict: str
    reason: str
    source: str
    speedup: float | None
    schedule: str = "default"


@dataclass(frozen=True)
class Report:
    """All dense layers of a model, in the order they are computed."""

    layers: tuple[LayerReport, ...]

    @property
    def sparse_layers(self) -> int:
        """How many layers skip their zeros."""
        return sum(layer.verdict == "sparse" for layer in self.layers)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rows as plain dictionaries."""
        return [asdict(layer) for layer in self.layers]

    @classmethod
    def from_json(cls, rows: Iterable[dict[str, Any]]) -> "Report":
        """Return the report that `to_json` wrote."""
        return cls(tuple(LayerReport(**row) for row in rows))

    @property
    def header(self) -> tuple[str, ...]:
        """Column titles of `cells`."""
        return ("layer", "N x K", "M", "calls", "zeros", "pattern", "kernel", "schedule", "verdict", "why")

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows as text."""
        return [
            (
                layer.layer,
                f"{layer.n}x{layer.k}",
                "any" if layer.m is None else str(layer.m),
                str(layer.calls),
                f"{layer.sparsity:.1%}",
                layer.pattern if layer.stored in ("-", layer.pattern) else f"{layer.pattern} as {layer.stored}",
                layer.kernel,
                layer.schedule,
                layer.verdict,
                f"{layer.reason} ({layer.source})",
            )
            for layer in self.layers
        ]

    def __str__(self) -> str:
        if not self.layers:
            return "no dense layer with a constant weight"
        return f"{self.sparse_layers} of {len(self.layers)} dense layers are sparse\n" + table(self.header, self.cells())
