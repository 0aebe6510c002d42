"""The report: for every dense layer of a model, what was done with it and why."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tvm_balanced.core.layer_plan import Bucket, LayerPlan
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import EVERY_M, RowRange
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
    rows : RowRange
        The M that this row is about, if M is known only at the call.
    entry_point : str
        The entry point whose calls compute it.
    functions : tuple of str
        The functions that compute it, by name.
    parameters : tuple of int
        Places of its packed weight and bias among the module's weights.
    pixels : int
        M for each image of a convolution; 1 for a dense layer.

    Functions and parameters are not compared: only a compiled module has them.
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
    rows: RowRange = EVERY_M
    entry_point: str = "main"
    functions: tuple[str, ...] = field(default=(), compare=False)
    parameters: tuple[int, ...] = field(default=(), compare=False)
    pixels: int = 1

    @classmethod
    def of(
        cls, plan: LayerPlan, bucket: Bucket, schedule: str, functions: Iterable[str] = (), parameters: Iterable[int] = ()
    ) -> "LayerReport":
        """Return the row on one bucket of a plan."""
        layer, verdict = plan.layer, bucket.verdict
        assert verdict is not None
        return cls(
            layer=layer.name,
            n=layer.n,
            k=layer.k,
            m=layer.m,
            calls=plan.calls,
            sparsity=layer.found.sparsity,
            pattern=str(layer.found.pattern or "-"),
            stored=str(bucket.pattern or "-"),
            padding=layer.found.padding(bucket.pattern) if bucket.pattern else 0.0,
            kernel=bucket.kernel or "tvm",
            verdict="sparse" if bucket.sparse else "dense",
            reason=verdict.reason,
            source=verdict.source,
            speedup=verdict.speedup,
            schedule=schedule,
            rows=bucket.rows,
            entry_point=plan.entry_point,
            functions=tuple(functions),
            parameters=tuple(parameters),
            pixels=1 if layer.conv is None else layer.conv.pixels,
        )

    def serves(self, m: int) -> bool:
        """Whether this row is about a call with `m` rows."""
        return m in self.rows if self.m is None else m == self.m

    @property
    def slots(self) -> int:
        """Slots of the weight as it is stored; all of it if it is dense."""
        if self.stored == "-":
            return self.n * self.k
        pattern = BalancedPattern.parse(self.stored)
        return self.n * pattern.blocks(self.k) * pattern.nnz

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        return (
            self.layer,
            f"{self.n}x{self.k}",
            str(self.rows) if self.m is None else str(self.m),
            str(self.calls),
            f"{self.sparsity:.1%}",
            self.pattern if self.stored in ("-", self.pattern) else f"{self.pattern} as {self.stored}",
            self.kernel,
            self.schedule,
            self.verdict,
            f"{self.reason} ({self.source})",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data; its range of M as `first` and `last`."""
        row = asdict(self)
        del row["rows"]
        return row | {"first": self.rows.first, "last": self.rows.last}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "LayerReport":
        """Return the row that `to_json` wrote, of this version or an earlier one."""
        known = {**row, "rows": RowRange(row.get("first", 1), row.get("last"))}
        for name in ("functions", "parameters"):
            known[name] = tuple(row.get(name, ()))
        return cls(**{name: value for name, value in known.items() if name not in ("first", "last")})


@dataclass(frozen=True)
class Report:
    """All dense layers of a model, in the order they are computed; one with several kernels has a row for each."""

    layers: tuple[LayerReport, ...]

    @property
    def total(self) -> int:
        """How many layers there are."""
        return sum(layer.rows.first == 1 for layer in self.layers)

    @property
    def sparse_layers(self) -> int:
        """How many layers skip their zeros, for some M at least."""
        return sum(any(row.verdict == "sparse" for row in rows) for rows in self._by_layer())

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
            if row.rows.first == 1:
                layers.append([])
            layers[-1].append(row)
        return layers

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rows as plain dictionaries."""
        return [layer.to_json() for layer in self.layers]

    @classmethod
    def from_json(cls, rows: Iterable[dict[str, Any]]) -> "Report":
        """Return the report that `to_json` wrote."""
        return cls(tuple(LayerReport.from_json(row) for row in rows))

    @property
    def header(self) -> tuple[str, ...]:
        """Column titles of `cells`."""
        titles = ("layer", "N x K", "M", "calls", "zeros", "pattern", "kernel", "schedule", "verdict", "why")
        return ("entry point", *titles) if self._has_entry_points else titles

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows as text; the entry point stands first if there are several."""
        return [(*([layer.entry_point] if self._has_entry_points else []), *layer.cells()) for layer in self.layers]

    @property
    def _has_entry_points(self) -> bool:
        return len({layer.entry_point for layer in self.layers}) > 1

    def __str__(self) -> str:
        if not self.layers:
            return "no dense layer with a constant weight"
        return f"{self.title}\n{table(self.header, self.cells())}"
