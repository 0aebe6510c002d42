"""The report: for every dense layer of a model, what was done with it and why."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tvm_balanced.core.text_table import table


@dataclass(frozen=True)
class LayerReport:
    """One layer, y (M, N) = x (M, K) @ weight (N, K)^T, or the range of M for which one of its kernels computes it.

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
        Where the verdict comes from: "measured", "modelled", "forced" or "rule".
    speedup : float or None
        Modelled, over the dense kernel.
    schedule : str
        Where the kernel's schedule comes from: "tuned: user log", "tuned: shipped", or "default" and why; "-" where the layer
        was left to TVM.
    first, last : int, int or None
        The range of M that this row is about, where M is known only at the call; None is no limit.
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
    first: int = 1
    last: int | None = None

    def serves(self, m: int) -> bool:
        """Whether this row is about a call with `m` rows."""
        return m == self.m if self.m is not None else self.first <= m and (self.last is None or m <= self.last)

    @property
    def rows(self) -> str:
        """The M that this row is about, as text."""
        if self.m is not None:
            return str(self.m)
        if self.first == 1:
            return "any" if self.last is None else f"to {self.last}"
        return f"{self.first} up" if self.last is None else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Report:
    """All dense layers of a model, in the order they are computed; one with several kernels has a row for each."""

    layers: tuple[LayerReport, ...]

    @property
    def total(self) -> int:
        """How many layers there are."""
        return sum(layer.first == 1 for layer in self.layers)

    @property
    def sparse_layers(self) -> int:
        """How many layers skip their zeros, for some M at least."""
        return sum(any(row.verdict == "sparse" for row in rows) for rows in self._by_layer())

    def of(self, name: str, m: int) -> list[LayerReport]:
        """Return the rows of the layer `name` that a call with `m` rows is computed by: one for each of its kernels."""
        found = [rows for rows in self._by_layer() if rows[0].layer == name]
        return next((rows for rows in found if rows[0].m == m), None) or next(rows for rows in found if rows[0].m is None)

    @property
    def title(self) -> str:
        """How many layers are sparse, and how many keep several copies of their weight, in one line."""
        several = [len(rows) for rows in self._by_layer() if len(rows) > 1]
        title = f"{self.sparse_layers} of {self.total} dense layers are sparse"
        if not several:
            return title
        copies = " or ".join(map(str, sorted(set(several))))
        return f"{title}; {len(several)} choose their kernel by M at the call, and keep {copies} copies of the weight"

    def _by_layer(self) -> list[list[LayerReport]]:
        """The rows of each layer."""
        layers: list[list[LayerReport]] = []
        for row in self.layers:
            if row.first == 1:
                layers.append([])
            layers[-1].append(row)
        return layers

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
                layer.rows,
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
        return f"{self.title}\n{table(self.header, self.cells())}"
