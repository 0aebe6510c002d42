"""The report on a lowered model: plans, operators and functions --> rows with their shares of weights, work and time."""

import math
from collections import defaultdict
from collections.abc import Sequence

import tvm

from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.accounting import FunctionUse, OperatorUse, WeightOrigins
from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.layer_plan import LayerPlan
from tvm_balanced.core.report import FunctionReport, LayerReport, OperatorReport, Report
from tvm_balanced.core.weight_map import heaviest
from tvm_balanced.runtime.tensors import address_of
from tvm_balanced.selection import function_time
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.lower_dense_ops import LayerCall
from tvm_balanced.transform.pipeline import Lowered

REST = "norms, biases and other weights"
UNREAD = "weights that nothing reads"
NAMED = 3  # of the weights that nothing reads
Use = LayerPlan | OperatorUse


def report_of(
    lowered: Lowered,
    calls: Sequence[LayerCall],
    selector: KernelSelector,
    tuned: TunedSchedules,
    origins: WeightOrigins | None = None,
) -> Report:
    """Return the report on a lowered model.

    Parameters
    ----------
    lowered : Lowered
    calls : sequence of LayerCall
        Every call of a dense layer that a kernel of ours computes.
    selector : KernelSelector
        That gave the verdicts: times are modelled as it does.
    tuned : TunedSchedules
        Knows where the schedule of each layer comes from.
    origins : WeightOrigins, optional
        Of the imported model.
    """
    owners = _Owners([*lowered.plans, *lowered.operators], origins or WeightOrigins())
    return Report(
        _layers(lowered, calls, owners, selector, tuned),
        (*_operators(lowered.operators, owners), *_rest(lowered, owners), *_unread(owners.origins)),
        _functions(lowered.functions, selector),
        weight_maps=heaviest([(plan.macs, plan.layer.weight_map) for plan in lowered.plans if plan.layer.found.sparsity]),
    )


class _Owners:
    """Which of the layers and operators that share a weight it counts for: the one that multiplies most by it."""

    def __init__(self, uses: Sequence[Use], origins: WeightOrigins) -> None:
        self.origins, self.owners = origins, dict[tuple[int, ...], Use]()
        for use in uses:
            key = self.key(use)
            if key and (key not in self.owners or use.macs > self.owners[key].macs):
                self.owners[key] = use

    def key(self, use: Use) -> tuple[int, ...]:
        """Return what is equal for all uses of a weight."""
        return tuple(sorted({self.origins.address(address) for address in _addresses(use)}))

    def of(self, use: Use) -> Use:
        """Return the use for which the weight of one counts."""
        return self.owners.get(self.key(use), use)

    def weights(self, use: Use, size: int) -> int:
        """Return how many weights of the model count for a use, whose own has `size` elements."""
        return self.origins.elements(_addresses(use), size) if self.of(use) is use else 0


def _addresses(use: Use) -> tuple[int, ...]:
    return tuple(use.layer.addresses if isinstance(use, LayerPlan) else use.addresses)


def _layers(
    lowered: Lowered,
    calls: Sequence[LayerCall],
    owners: _Owners,
    selector: KernelSelector,
    tuned: TunedSchedules,
) -> tuple[LayerReport, ...]:
    places = {address_of(weight.tensor): place for place, weight in enumerate(lowered.weights)}
    of_plan: dict[int, list[LayerCall]] = defaultdict(list)
    for call in calls:
        of_plan[call.index].append(call)
    rows = []
    for index, plan in enumerate(lowered.plans):
        made = of_plan[index]
        for place, bucket in enumerate(plan.buckets):
            schedule = "; ".join(dict.fromkeys(tuned.source(call.variants[place]) for call in made)) or "-"
            packed = [address for call in made if call.weights for address in call.weights[place]]
            of_weight = {address for call in made if call.weights for address in call.weights[place][:-1]}  # the last is its bias
            counted = bucket is plan.example  # weights and work count in the row of the examples' M
            row = LayerReport.of(
                plan,
                bucket,
                schedule,
                weights=owners.weights(plan, plan.layer.n * plan.layer.k) if counted else 0,
                macs=plan.macs if counted else 0,
                seconds=sum(selector.seconds(call.variants[place].workload, plan.example_m, plan.layer.in_loop) for call in made)
                if counted
                else 0.0,
                functions=tuple(dict.fromkeys(call.function for call in made)),
                parameters=tuple(dict.fromkeys(places[address] for address in packed if address in places)),
                weight_bytes=sum(_nbytes(lowered.weights[places[address]].tensor) for address in of_weight if address in places),
            )
            rows.append(row)
    return tuple(rows)


def _nbytes(tensor: tvm.runtime.Tensor) -> int:
    return math.prod(map(int, tensor.shape)) * numpy_dtype(str(tensor.dtype)).itemsize


def _operators(operators: Sequence[OperatorUse], owners: _Owners) -> list[OperatorReport]:
    rows = []
    for use in operators:
        owner, reason = owners.of(use), use.reason
        if owner is not use:
            name = owner.layer.name if isinstance(owner, LayerPlan) else f"{owner.name} ({owner.kind})"
            reason += f"; its weight is that of {name} and counted there"
        sparsity = use.zeros / use.elements if use.elements else 0.0
        weights = owners.weights(use, use.elements)
        row = OperatorReport(
            use.name, use.kind, use.shape, use.calls, sparsity, weights, use.macs, use.verdict, reason, use.entry_point
        )
        rows.append(row)
    return rows


def _rest(lowered: Lowered, owners: _Owners) -> list[OperatorReport]:
    """Return one row on all weights that nothing multiplies by in a sum, none if there are none."""
    counted = {address for key in owners.owners for address in key}
    uses = {owners.key(use): use for use in lowered.rest if not counted.issuperset(owners.key(use))}
    if not uses:
        return []
    size = sum(use.elements for use in uses.values())
    elements = sum(owners.origins.elements(use.addresses, use.elements) for use in uses.values())
    sparsity = sum(use.zeros for use in uses.values()) / size
    reason, entry_point = "added, or multiplied element by element", next(iter(uses.values())).entry_point
    return [OperatorReport(REST, "elementwise", (), len(uses), sparsity, elements, 0, "dense", reason, entry_point)]


def _unread(origins: WeightOrigins) -> list[OperatorReport]:
    """Return one row on the weights of the model that are not in the module, none if there are none."""
    if not origins.unread:
        return []
    names, parts = list(origins.unread), origins.unread.values()
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    reason = f"no output depends on them: {', '.join(names[:NAMED])}{more}"
    elements = sum(part.elements for part in parts)
    sparsity = sum(part.zeros for part in parts) / elements
    return [OperatorReport(UNREAD, "unread", (), 0, sparsity, elements, 0, "left out", reason)]


def _functions(functions: Sequence[FunctionUse], selector: KernelSelector) -> tuple[FunctionReport, ...]:
    timed = [(use, function_time.seconds(use, selector.roofline)) for use in functions]
    naive = [FunctionReport(use.name, use.calls, time, False) for use, time in timed if not use.scheduled]
    naive.sort(key=lambda row: -row.seconds)
    scheduled = [(use, time) for use, time in timed if use.scheduled]
    if not scheduled:
        return tuple(naive)
    calls, time = sum(use.calls for use, _ in scheduled), sum(time for _, time in scheduled)
    return (*naive, FunctionReport(f"scheduled functions ({len(scheduled)})", calls, time, True))
