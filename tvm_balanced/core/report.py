"""The report: what was done with each layer of a model and why, and what there is beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tvm_balanced.core.layer_plan import Bucket, LayerPlan
from tvm_balanced.core.loss import OutputLoss
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.race import Race
from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.core.text_table import table
from tvm_balanced.core.torch_operator import LeftToTorch
from tvm_balanced.core.weight_map import WeightMap


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
    weights : int
        Elements of its weight, zeros included; 0 if they are counted in another row that shares it.
    macs : int
        Multiply-adds that the model asks of all its calls on the whole weight, zeros included, at the sizes of the examples.
    seconds : float
        Modelled time of all its calls, at the sizes of the examples.
    functions : tuple of str
        The functions that compute it, by name.
    parameters : tuple of int
        Places of its packed weight and bias among the module's weights.
    pixels : int
        M for each image of a convolution; 1 for a dense layer.
    kind : str
        "dense layer" or "convolution".
    weight_bytes : int
        Bytes of its packed weight, without the bias; 0 before anything is packed.

    Functions, parameters and bytes are not compared: only a compiled module has them.
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
    weights: int = 0
    macs: int = 0
    seconds: float = 0.0
    functions: tuple[str, ...] = field(default=(), compare=False)
    parameters: tuple[int, ...] = field(default=(), compare=False)
    pixels: int = 1
    kind: str = "dense layer"
    weight_bytes: int = field(default=0, compare=False)

    @classmethod
    def of(cls, plan: LayerPlan, bucket: Bucket, schedule: str, **more: Any) -> "LayerReport":
        """Return the row on one bucket of a plan; `more` are fields that the plan does not know."""
        layer, verdict = plan.layer, bucket.verdict
        assert verdict is not None
        routed = f"; each of {layer.experts} experts computes all rows, which are counted once" if layer.experts > 1 else ""
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
            reason=verdict.reason + routed,
            source=verdict.source,
            speedup=verdict.speedup,
            schedule=schedule,
            rows=bucket.rows,
            entry_point=plan.entry_point,
            pixels=1 if layer.conv is None else layer.conv.pixels,
            kind="dense layer" if layer.conv is None else "convolution",
            **more,
        )

    def serves(self, m: int) -> bool:
        """Whether this row is about a call with `m` rows."""
        return m in self.rows if self.m is None else m == self.m

    @property
    def bits(self) -> float:
        """Bits that the packed weight takes for each element of the weight, zeros included; 0 before anything is packed."""
        return 8 * self.weight_bytes / (self.n * self.k)

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
            self.kind,
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
class OperatorReport:
    """An operator with a constant weight that is no dense layer, or several that are of one kind.

    Parameters
    ----------
    name : str
        That of its weight in the model, or what several have in common.
    kind : str
        For instance "convolution 2d", "lookup", "batched product".
    shape : tuple of int
        Of its weight; empty for several.
    calls : int
        Times that the entry point computes it.
    sparsity : float
        Share of zeros in the weight, 0 to 1.
    weights : int
        Elements of its weight, zeros included; 0 if they are counted in another row that shares it.
    macs : int
        Multiply-adds of all its calls, at the sizes of the examples.
    verdict : str
        "dense", "folded" if it is evaluated while compiling, or "left out" if no output depends on it.
    reason : str
        One sentence.
    entry_point : str
        The entry point whose calls compute it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    calls: int
    sparsity: float
    weights: int
    macs: int
    verdict: str
    reason: str
    entry_point: str = "main"

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        shape = "x".join(map(str, self.shape)) or "-"
        zeros = f"{self.sparsity:.1%}" if self.weights or self.shape else "-"
        return (self.name, self.kind, shape, "-", str(self.calls), zeros, "-", "tvm", "-", self.verdict, self.reason)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "OperatorReport":
        """Return the row that `asdict` wrote."""
        return cls(**{**row, "shape": tuple(row["shape"])})


@dataclass(frozen=True)
class FunctionReport:
    """One function of TVM's own operators that no rule schedules, or in one row all that rules schedule.

    Parameters
    ----------
    name : str
    calls : int
    seconds : float
        Modelled time of all calls, at the sizes of the examples.
    scheduled : bool
        Whether rules have scheduled it; else it is a naive loop on one thread.
    """

    name: str
    calls: int
    seconds: float
    scheduled: bool

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        naive = ("NAIVE LOOP", "no rule schedules it: it runs on one thread")
        verdict, why = ("scheduled", "by rules") if self.scheduled else naive
        return (self.name, "function", "-", "-", str(self.calls), "-", "-", "tvm", "-", verdict, why)


@dataclass(frozen=True)
class PrecisionReport:
    """In what precision layers are computed, and what a model loses by it.

    Parameters
    ----------
    precision : str
        What the rounded layers are computed in: "int8", "int4" or "bfloat16"; "float32" if none of them is.
    max_loss : float
        The budget.
    data : str
        What the losses were measured on.
    simulated : bool
        Whether they are those of the original model with rounded layers, because this machine cannot run the compiled one.
    loss : float or None
        What the budget limits: the largest relative L2 of an output, or what the caller's metric gave. None if nothing was run.
    losses : tuple of OutputLoss
        Of each output.
    everything : tuple of OutputLoss
        Of each output if every layer with a kernel for it were rounded.
    rounded : tuple of str
        The layers that are computed in the precision.
    kept : mapping
        The layers that stay in float32 for the budget, with what each would lose alone, the worst first.
    attention : str
        What attention is computed in: "float32" or "bfloat16".
    """

    precision: str
    max_loss: float
    data: str = ""
    simulated: bool = False
    loss: float | None = None
    losses: tuple[OutputLoss, ...] = ()
    everything: tuple[OutputLoss, ...] = ()
    rounded: tuple[str, ...] = ()
    kept: Mapping[str, float] = field(default_factory=dict)
    attention: str = "float32"

    def __str__(self) -> str:
        kept = f", {len(self.kept)} stay in float32 for the budget" if self.kept else ""
        attention = "" if self.attention == "float32" else f", attention in {self.attention}"
        lines = [f"{len(self.rounded)} layers in {self.precision}{attention}{kept}"]
        if self.loss is not None:
            how = "expected" if self.simulated else "measured"
            lines.append(f"loss {self.loss:.2g} of at most {self.max_loss:g}, {how} on {self.data}")
        several = len({loss.entry_point for loss in self.losses}) > 1
        return "\n".join([*lines, *(f"{loss.entry_point}: {loss}" if several else str(loss) for loss in self.losses)])

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PrecisionReport":
        """Return the report that `asdict` wrote."""
        lists = {part: tuple(OutputLoss(**loss) for loss in data[part]) for part in ("losses", "everything")}
        return cls(**{**data, **lists, "rounded": tuple(data["rounded"])})


Row = LayerReport | OperatorReport | FunctionReport


@dataclass(frozen=True)
class Report:
    """What was done with each part of a model.

    Parameters
    ----------
    layers : tuple of LayerReport
        All dense layers, in the order they are computed; one with several kernels has a row for each.
    operators : tuple of OperatorReport
        All other operators with constant weights, products of activations, and in one row all other weights.
    functions : tuple of FunctionReport
        The functions of TVM's own operators: each that no rule schedules, and in one row all others.
    precision : PrecisionReport or None
        None if no precision but float32 was asked for.
    races : tuple of Race
        How fast each entry point is beside the original model; empty if that was not timed.
    weight_maps : tuple of WeightMap
        Of the layers with zeros, those with the most multiply-adds.
    left : tuple of LeftToTorch
        What is left to PyTorch at run time, if anything.

    Races are not compared: no two are alike.
    """

    layers: tuple[LayerReport, ...]
    operators: tuple[OperatorReport, ...] = ()
    functions: tuple[FunctionReport, ...] = ()
    precision: PrecisionReport | None = None
    races: tuple[Race, ...] = field(default=(), compare=False)
    weight_maps: tuple[WeightMap, ...] = ()
    left: tuple[LeftToTorch, ...] = ()

    @property
    def total(self) -> int:
        """How many layers there are."""
        return sum(layer.rows.first == 1 for layer in self.layers)

    @property
    def sparse_layers(self) -> int:
        """How many layers skip their zeros, for some M at least."""
        return sum(any(row.verdict == "sparse" for row in rows) for rows in self._by_layer())

    @property
    def weights(self) -> int:
        """Elements of all weights, zeros included; each weight counts once."""
        return sum(row.weights for row in self._weighted)

    @property
    def macs(self) -> int:
        """Multiply-adds of a call of each entry point, zeros included, at the sizes of the examples."""
        return sum(row.macs for row in self._weighted)

    @property
    def seconds(self) -> float:
        """Modelled time of a call of each entry point, at the sizes of the examples."""
        return sum(row.seconds for row in self.layers) + sum(row.seconds for row in self.functions)

    @property
    def sparse_weights(self) -> float:
        """Share of the weights that sparse kernels read, 0 to 1."""
        return sum(row.weights for row in self._sparse) / max(1, self.weights)

    @property
    def sparse_macs(self) -> float:
        """Share of the multiply-adds that sparse kernels compute or skip, 0 to 1."""
        return sum(row.macs for row in self._sparse) / max(1, self.macs)

    @property
    def time_elsewhere(self) -> float:
        """Share of the modelled time that is not of sparse kernels, 0 to 1."""
        return 1 - sum(row.seconds for row in self._sparse) / self.seconds if self.seconds else 0.0

    @property
    def _sparse(self) -> list[LayerReport]:
        return [row for row in self.layers if row.verdict == "sparse"]

    @property
    def _weighted(self) -> list[LayerReport | OperatorReport]:
        return [*self.layers, *self.operators]

    @property
    def headline(self) -> str:
        """How much of the model runs in sparse kernels, in one line; empty in a report of an earlier version."""
        if not self.weights:
            return "" if self.layers else "no operator with a constant weight"
        return (
            f"{self.sparse_weights:.1%} of the weights and {self.sparse_macs:.1%} of the multiply-adds run in sparse kernels, "
            f"{self.time_elsewhere:.1%} of the time is expected elsewhere"
        )

    @property
    def title(self) -> str:
        """The headline, how many layers are sparse and keep several copies of their weight, what rounding loses, each race."""
        several = [len(rows) for rows in self._by_layer() if len(rows) > 1]
        title = f"{self.sparse_layers} of {self.total} layers run in sparse kernels"
        if several:
            copies = " or ".join(map(str, sorted(set(several))))
            title += f"; {len(several)} choose their kernel by M at the call, and keep {copies} copies of the weight"
        precision = "" if self.precision is None else f"{self.precision}{self._bits}"
        races = (f"{race.entry_point}: {race}" if len(self.races) > 1 else str(race) for race in self.races)
        lines = (self.headline, title if self.layers else "", precision, self._left_lines, *races)
        return "\n".join(line for line in lines if line)

    @property
    def _left_lines(self) -> str:
        """What is left to PyTorch, a line for each function that it stands in for."""
        lines = []
        for name in dict.fromkeys(one.function for one in self.left):
            same = [one for one in self.left if one.function == name]
            times = f"{same[0].torch_microseconds:.0f} us, {name} took {same[0].microseconds:.0f} us"
            lines.append(f"LEFT TO PYTORCH: {', '.join(map(str, same))} ({times})")
        return "\n".join(lines)

    @property
    def _bits(self) -> str:
        """How much memory the rounded layers take, in one line."""
        names = set(self.precision.rounded) if self.precision is not None else set()
        rows = {(row.layer, row.parameters): row for row in self.layers if row.layer in names and row.weight_bytes}
        elements = sum(row.n * row.k for row in rows.values())
        bits = sum(8 * row.weight_bytes for row in rows.values())
        return (
            f"\nrounded layers take {bits / elements:.2f} bits for each weight of the model, zeros included" if elements else ""
        )

    def _by_layer(self) -> list[list[LayerReport]]:
        """The rows of each layer."""
        layers: list[list[LayerReport]] = []
        for row in self.layers:
            if row.rows.first == 1:
                layers.append([])
            layers[-1].append(row)
        return layers

    def to_json(self, *, corners: bool = True) -> dict[str, Any]:
        """Return the report as plain data, with or without the corners of weights, which only a picture needs."""
        maps = [asdict(one) for one in self.weight_maps]
        return {
            "headline": self.headline,
            "sparse_weights": self.sparse_weights,
            "sparse_macs": self.sparse_macs,
            "time_elsewhere": self.time_elsewhere,
            "layers": [layer.to_json() for layer in self.layers],
            "operators": [asdict(row) for row in self.operators],
            "functions": [asdict(row) for row in self.functions],
            **({} if self.precision is None else {"precision": asdict(self.precision)}),
            "races": [asdict(race) for race in self.races],
            **({"left": [asdict(one) for one in self.left]} if self.left else {}),
            "weight_maps": maps if corners else [{name: one[name] for name in ("layer", "block", "counts")} for one in maps],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> "Report":
        """Return the report that `to_json` wrote, of this version or an earlier one, which wrote a list of layers."""
        parts: Mapping[str, Any] = data if isinstance(data, Mapping) else {"layers": data, "operators": (), "functions": ()}
        return cls(
            tuple(LayerReport.from_json(row) for row in parts["layers"]),
            tuple(OperatorReport.from_json(row) for row in parts["operators"]),
            tuple(FunctionReport(**row) for row in parts["functions"]),
            PrecisionReport.from_json(parts["precision"]) if "precision" in parts else None,
            tuple(Race.from_json(row) for row in parts.get("races", ())),
            tuple(WeightMap.from_json(row) for row in parts.get("weight_maps", ())),
            tuple(LeftToTorch.from_json(row) for row in parts.get("left", ())),
        )

    @property
    def header(self) -> tuple[str, ...]:
        """Column titles of `cells`."""
        layer = ("layer", "kind", "shape", "M", "calls", "zeros", "pattern", "kernel", "schedule")
        titles = (*layer, "weights", "multiply-adds", "time", "verdict", "why")
        return ("entry point", *titles) if self._has_entry_points else titles

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows as text; the entry point stands first if there are several."""
        totals = {"weights": self.weights, "macs": self.macs, "seconds": self.seconds}
        several = self._has_entry_points
        rows: list[Row] = [*self.layers, *self.operators, *self.functions]
        return [_cells(row, totals, several) for row in rows]

    @property
    def _has_entry_points(self) -> bool:
        return len({row.entry_point for row in self._weighted}) > 1

    def __str__(self) -> str:
        rows = self.cells()
        return f"{self.title}\n{table(self.header, rows)}" if rows else self.title


def _cells(row: Row, totals: Mapping[str, float], several: bool) -> tuple[str, ...]:
    """Return a row as text, with its shares of the totals, and its entry point if there are several."""
    *cells, verdict, why = row.cells()
    shares = (_share(getattr(row, what, None), total) for what, total in totals.items())
    entry = [getattr(row, "entry_point", "-")] if several else []
    return (*entry, *cells, *shares, verdict, why)


def _share(part: float | None, total: float) -> str:
    return "-" if part is None or not total else f"{part / total:.1%}"
