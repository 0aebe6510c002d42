"""The choice of precision: which layers are computed in 8 bits (or bfloat16), so that what the model loses stays in its budget.

Attention in bfloat16 counts as one more layer, if the target and this machine have instructions for it.

What a layer costs is measured: the model runs on data with that layer rounded alone. Roundings of different layers are
independent, so that the squares of what they cost add up. The layers that cost most for the time they save stay in float32.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import tvm
from tvm import relax

from tvm_balanced.compiler.calibration import Data
from tvm_balanced.compiler.layers import planned
from tvm_balanced.compiler.rounding_probe import ATTENTION, Rounding, RoundingProbe
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.loss import Metric, OutputLoss, losses, measured, overall
from tvm_balanced.core.report import PrecisionReport, Report
from tvm_balanced.errors import ToleranceError
from tvm_balanced.ops import is_call
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.schedules import ALL_KERNELS
from tvm_balanced.schedules.attention_bf16 import attends_in_bfloat16, seconds_saved
from tvm_balanced.schedules.kernels.cpu_avx512_w4 import CPU_AVX512_W4
from tvm_balanced.selection.kernel_choice import EXACT, KernelSelector, PrecisionOf
from tvm_balanced.transform.smooth_inputs import SmoothInputs

PRECISIONS = ("float32", "bfloat16", "int8", "int4", "auto")
MARGIN = 0.97  # of the budget is spent: kernels round a little differently than the probe, by less than a hundredth
SENSITIVITY_CALLS = 4  # of each entry point are run with each layer rounded alone
SMOOTHED = 0.7  # smoothing is worth another pass over x if the layer then costs so much less
SOFTMAX = ("relax.nn.softmax", "relax.nn.attention", "relax.nn.attention_bias")  # as imported models write attention
NAMED = 3  # layers that a refusal names

Selector = Callable[[PrecisionOf | None], KernelSelector]


@dataclass(frozen=True)
class Budget:
    """What a model may lose: the largest relative L2 of an output, or what the caller's metric gives, of every entry point."""

    most: float
    metric: Metric | None = None

    def loss(self, data: Data, got: Sequence[Sequence[Array]], found: Sequence[OutputLoss]) -> float:
        """Return what counts of the losses `found` of an entry point, whose calls gave `got`."""
        if self.metric is None:
            return overall(found)
        return measured(self.metric, data.entry.outputs, data.want, got)


@dataclass(frozen=True)
class Measured:
    """What was lost on data: the value that the budget limits, and the losses of all outputs."""

    value: float
    losses: tuple[OutputLoss, ...]


@dataclass(frozen=True)
class Choice:
    """How the layers of a model are computed.

    Parameters
    ----------
    precision : str
        What the rounded layers are computed in; "float32" if none is.
    rounded : mapping
        Layer to how it rounds.
    alone : mapping
        Layer to what it loses if it alone is rounded; empty if all layers together keep the budget.
    everything : Measured or None
        What is lost if all layers are rounded that have a kernel for it, without smoothing: the loss of 8 bits throughout.
    expected : Measured or None
        What the probe lost with `rounded`.
    attention : float
        Seconds that attention in bfloat16 is thought to save; 0 if it stays in float32.
    """

    precision: str = EXACT
    rounded: Mapping[str, Rounding] = field(default_factory=dict)
    alone: Mapping[str, float] = field(default_factory=dict)
    everything: Measured | None = None
    expected: Measured | None = None
    attention: float = 0.0

    def of(self, layer: str) -> str:
        """Return what a layer is computed in."""
        return self.rounded[layer].precision if layer in self.rounded else EXACT

    @property
    def kept(self) -> dict[str, float]:
        """The layers that stay in float32 for the budget, with what each would lose alone, the worst first."""
        left = {name: loss for name, loss in _worst(self.alone) if name not in self.rounded}
        return {name: loss for name, loss in left.items() if name != ATTENTION or not self.attention}

    @property
    def attention_precision(self) -> str:
        """What attention is computed in."""
        return "bfloat16" if self.attention else EXACT

    def apply(self, imported: ImportedModel) -> ImportedModel:
        """Return the model with the inputs of its smoothed layers smoothed."""
        factors = {name: rounding.factor for name, rounding in self.rounded.items() if rounding.factor is not None}
        if not factors:
            return imported
        names = dict(imported.weight_names)
        return replace(imported, mod=tvm.transform.Sequential([SmoothInputs(factors, names)])(imported.mod), weight_names=names)


def everywhere(precision: str) -> PrecisionOf:
    """Return what layers may be computed in before anything is measured: all of them in one precision, for "auto" in 8 bits."""
    return lambda _layer: "int8" if precision == "auto" else precision


def choose(
    imported: ImportedModel, precision: str, data: Mapping[str, Data], budget: Budget, selector: Selector, threads: int
) -> Choice:
    """Choose which layers round.

    Parameters
    ----------
    imported : ImportedModel
    precision : str
        One of PRECISIONS.
    data : mapping of Data
        For each entry point.
    budget : Budget
    selector : callable
        From what layers may be computed in to the selector that compiles the model.
    threads : int

    Raises
    ------
    ToleranceError
        If not one layer may be rounded within the budget; never for "auto".
    """
    if precision == EXACT:
        return Choice()
    if precision != "auto":
        return _choose(imported, precision, data, budget, selector, threads, must=True)
    found = [_choose(imported, kind, data, budget, selector, threads, must=False) for kind in _promising(imported, selector)]
    choices = [*found, Choice()]
    seconds = [sum(_seconds(imported, selector(choice.of)).values()) - choice.attention for choice in choices]
    best = seconds.index(min(seconds))
    return found[best] if best < len(found) else replace(found[0], precision=EXACT, rounded={}, attention=0.0)


def _promising(imported: ImportedModel, selector: Selector) -> list[str]:
    """Return the precisions of which "auto" measures what they lose: 4 bits, which lose most, only if they are the fastest."""

    def seconds(precision: str) -> float:
        return sum(_seconds(imported, selector(lambda _layer: precision)).values())

    if CPU_AVX512_W4.refuses(selector(None).target, 64, 64, EXACT) is not None:
        return ["int8", "bfloat16"]
    return ["int8", "bfloat16", *(["int4"] if seconds("int4") < min(seconds("int8"), seconds("bfloat16")) else [])]


def _choose(
    imported: ImportedModel,
    precision: str,
    data: Mapping[str, Data],
    budget: Budget,
    selector: Selector,
    threads: int,
    must: bool,
) -> Choice:
    exact, rounded = _seconds(imported, selector(None)), _seconds(imported, selector(lambda _layer: precision), precision)
    saved = {name: max(exact[name] - rounded[name], 1e-12) for name in rounded}
    used = selector(None)
    attends = attends_in_bfloat16(used.target) and _has_softmax(imported)
    if not saved and not attends:
        return Choice()
    probe = RoundingProbe(imported, list(saved), threads, attends)
    if probe.attention:
        saved[ATTENTION] = seconds_saved(probe.attention, used.roofline)
    return _Search(probe, precision, data, budget, saved).choice(must and set(saved) != {ATTENTION}) if saved else Choice()


def _has_softmax(imported: ImportedModel) -> bool:
    """Whether a model may have attention."""
    found: list[relax.Call] = []

    def visit(expr: relax.Expr) -> None:
        if is_call(expr, *SOFTMAX):
            found.append(expr)

    for _, func in imported.mod.functions_items():
        if isinstance(func, relax.Function):
            relax.analysis.post_order_visit(func, visit)
    return bool(found)


def _seconds(imported: ImportedModel, selector: KernelSelector, precision: str | None = None) -> dict[str, float]:
    """Return what each layer with a name of its own is thought to take at the sizes of the examples; with `precision`, of those
    that the selector, unasked, computes in it.
    """
    plans, calls = planned(imported, selector)
    names, found = set(imported.weight_names.values()), dict[str, float]()
    for call in calls:
        plan = plans[call.index]
        place = plan.buckets.index(plan.example)
        kinds = {ALL_KERNELS[bucket.kernel].precision for bucket in plan.buckets if bucket.kernel}
        forced = any(bucket.verdict is not None and bucket.verdict.source == "forced" for bucket in plan.buckets)
        # beside their own weight the probe has one of 8 bits alone, of convolutions and of products of the state of a recurrence
        probed = precision == "int8" or (plan.layer.conv is None and not plan.layer.in_loop)
        if call.layer in names and (precision is None or (precision in kinds and not forced and probed)):
            time = call.times * selector.seconds(call.variants[place].workload, plan.example_m, plan.layer.in_loop)
            found[call.layer] = found.get(call.layer, 0.0) + time
    return found


class _Search:
    """The search for the layers that round."""

    def __init__(
        self, probe: RoundingProbe, precision: str, data: Mapping[str, Data], budget: Budget, saved: Mapping[str, float]
    ) -> None:
        self.probe, self.precision, self.data, self.budget, self.saved = probe, precision, data, budget, saved
        self.few = {name: one.first(SENSITIVITY_CALLS) for name, one in data.items()}

    def choice(self, must: bool) -> Choice:
        """Return what rounds; with `must`, raises ToleranceError if that is no layer."""
        ways = {name: Rounding("bfloat16" if name == ATTENTION else self.precision) for name in self.saved}
        everything, peaks = self.measure(ways, self.data)
        if everything.value <= MARGIN * self.budget.most:
            return self.taken(ways, {}, everything, everything)
        alone = {name: self.alone(name, way) for name, way in ways.items()}
        if self.precision == "int8":
            self.smooth(ways, alone, peaks)
        order = sorted(ways, key=lambda name: -(alone[name] ** 2) / self.saved[name])
        count, found = self.fewest(order, ways, alone)
        if count == len(order) and must:
            raise ToleranceError(self.refusal(everything, alone))
        return self.taken({name: ways[name] for name in order[count:]}, alone, everything, found)

    def taken(self, ways: Mapping[str, Rounding], alone: Mapping[str, float], everything: Measured, found: Measured) -> Choice:
        """Return the choice of what rounds, as `ways` say."""
        layers = {name: way for name, way in ways.items() if name != ATTENTION}
        attention = self.saved[ATTENTION] if ATTENTION in ways else 0.0
        return Choice(self.precision if layers else EXACT, layers, alone, everything, found, attention)

    def measure(self, rounded: Mapping[str, Rounding], data: Mapping[str, Data]) -> tuple[Measured, dict[str, Array]]:
        """Return what is lost on data with some layers rounded, and for each dense layer the largest |x| of each column."""
        found, value, peaks = list[OutputLoss](), 0.0, dict[str, Array]()
        for entry, one in data.items():
            got = []
            for inputs in one.inputs:
                outputs, seen = self.probe.run(entry, inputs, rounded)
                got.append(outputs)
                peaks = {name: peaks[name].clip(min=peak) if name in peaks else peak for name, peak in (peaks | seen).items()}
            here = losses(one.entry.outputs, one.want, got, entry)
            found, value = [*found, *here], max(value, self.budget.loss(one, got, here))
        return Measured(value, tuple(found)), peaks

    def alone(self, name: str, way: Rounding) -> float:
        """Return what is lost if one layer alone is rounded."""
        return overall(self.measure({name: way}, self.few)[0].losses)

    def smooth(self, ways: dict[str, Rounding], alone: dict[str, float], peaks: Mapping[str, Array]) -> None:
        """Smooth the inputs of those dense layers that it helps."""
        even = MARGIN * self.budget.most / math.sqrt(len(ways))
        for name in [name for name in ways if name in peaks and alone[name] > even / 2]:
            smoothed = Rounding(self.precision, self.probe.factor(name, peaks[name]))
            loss = self.alone(name, smoothed)
            if loss < SMOOTHED * alone[name]:
                ways[name], alone[name] = smoothed, loss

    def fewest(self, order: Sequence[str], ways: Mapping[str, Rounding], alone: Mapping[str, float]) -> tuple[int, Measured]:
        """Return how many layers, the first of `order`, must stay in float32, and what the others lose together.

        The sum of squares says where to begin; what they lose together is then measured, with one layer more or less.
        """
        limit = MARGIN * self.budget.most
        squares = [alone[name] ** 2 for name in order]
        guess = next((count for count in range(len(order)) if math.sqrt(sum(squares[count:])) <= limit), len(order))
        known: dict[int, Measured] = {}

        def keeps(count: int) -> bool:
            if count not in known:
                known[count] = self.measure({name: ways[name] for name in order[count:]}, self.data)[0]
            return known[count].value <= limit

        low, high = 0, len(order)  # `high` keeps the budget, or rounds nothing
        while low < high:
            guess = min(max(guess, low), high - 1)
            low, high = (low, guess) if keeps(guess) else (guess + 1, high)
            guess = (low + high) // 2 if high - low > 2 else low
        keeps(high)
        return high, known[high]

    def refusal(self, everything: Measured, alone: Mapping[str, float]) -> str:
        worst = max(everything.losses, key=lambda loss: loss.relative_l2)
        return (
            f"precision {self.precision} loses {everything.value:.2g} of the model ({worst}), {self.budget.most:g} is allowed, "
            f"and not one layer can be rounded within that; {blame(alone)}: raise max_loss, give other calibration, or use auto"
        )


def precision_report(report: Report, choice: Choice, max_loss: float, what: str) -> PrecisionReport:
    """Return what is known of the precision of a model before it runs: the losses are those of the probe."""
    kernels = {row.layer for row in report.layers if row.kernel in ALL_KERNELS and ALL_KERNELS[row.kernel].precision != EXACT}
    nothing = Measured(0.0, ())
    everything, expected = choice.everything or nothing, choice.expected or nothing
    return PrecisionReport(
        precision=choice.precision,
        max_loss=float(max_loss),
        data=what,
        simulated=True,
        loss=None if choice.expected is None else float(expected.value),
        losses=expected.losses,
        everything=everything.losses,
        rounded=tuple(row.layer for row in report.layers if row.layer in kernels and row.rows.first == 1),
        kept=choice.kept,
        attention=choice.attention_precision,
    )


def with_losses(module: CompiledModule, data: Mapping[str, Data], budget: Budget, choice: Choice) -> CompiledModule:
    """Return a module whose report has what it loses on data.

    Raises
    ------
    ToleranceError
        If that is more than the budget.
    """
    found, value = list[OutputLoss](), 0.0
    for name, one in data.items():
        got = [[array.copy() for array in module[name].flat(*(a.copy() for a in inputs))] for inputs in one.inputs]
        here = losses(one.entry.outputs, one.want, got, name)
        found, value = [*found, *here], max(value, budget.loss(one, got, here))
    said = module.report.precision
    assert said is not None
    if not value <= budget.most:
        worst = max(found, key=lambda loss: loss.relative_l2)
        why = f"; {blame(choice.alone)}" if choice.alone else f", with {', '.join(said.rounded[:NAMED]) or 'no layer'} rounded"
        raise ToleranceError(
            f"the model loses {value:.2g} on {said.data} ({worst}), {budget.most:g} is allowed{why}: raise max_loss"
        )
    return module.with_precision(replace(said, simulated=False, loss=float(value), losses=tuple(found)))


def blame(alone: Mapping[str, float]) -> str:
    """Return which layers lose most, in words."""
    return "most is lost by " + ", ".join(f"{name} ({loss:.2g} alone)" for name, loss in _worst(alone)[:NAMED])


def _worst(alone: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(alone.items(), key=lambda item: -item[1])
