"""The report on a lowered model: plans, operators and functions --> rows with their shares of weights, work and time."""

from collections import defaultdict
from collections.abc import Sequence

from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.accounting import FunctionUse, OperatorUse
from tvm_balanced.core.layer_plan import LayerPlan
from tvm_balanced.core.report import FunctionReport, LayerReport, OperatorReport, Report
from tvm_balanced.core.weight_map import heaviest
from tvm_balanced.runtime.tensors import address_of
from tvm_balanced.selection import function_time
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.lower_dense_ops import LayerCall
from tvm_balanced.transform.pipeline import Lowered

REST = "norms, biases and other weights"
Use = LayerPlan | OperatorUse


def report_of(lowered: Lowered, calls: Sequence[LayerCall], selector: KernelSelector, tuned: TunedSchedules) -> Report:
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
    """
    owners = _owners([*lowered.plans, *lowered.operators])
    return Report(
        _layers(lowered, calls, owners, selector, tuned),
        (*_operators(lowered.operators, owners), *_rest(lowered)),
        _functions(lowered.functions, selector),
        weight_maps=heaviest([(plan.macs, plan.layer.weight_map) for plan in lowered.plans if plan.layer.found.sparsity]),
    )


def _owners(uses: Sequence[Use]) -> dict[tuple[int, ...], Use]:
    """Return which of the layers and operators that share a weight it counts for: the one that multiplies most by it."""
    owners: dict[tuple[int, ...], Use] = {}
    for use in uses:
        key = _addresses(use)
        if key and (key not in owners or use.macs > owners[key].macs):
            owners[key] = use
    return owners


def _addresses(use: Use) -> tuple[int, ...]:
    return tuple(sorted(set(use.layer.addresses if isinstance(use, LayerPlan) else use.addresses)))


def _layers(
    lowered: Lowered,
    calls: Sequence[LayerCall],
    owners: dict[tuple[int, ...], Use],
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
            packed = (address for call in made if call.weights for address in call.weights[place])
            counted = bucket is plan.example  # weights and work count in the row of the examples' M
            row = LayerReport.of(
                plan,
                bucket,
                schedule,
                weights=plan.layer.n * plan.layer.k if counted and owners.get(_addresses(plan), plan) is plan else 0,
                macs=plan.macs if counted else 0,
                seconds=sum(selector.seconds(call.variants[place].workload, plan.example_m) for call in made) if counted else 0.0,
                functions=tuple(dict.fromkeys(call.function for call in made)),
                parameters=tuple(dict.fromkeys(places[address] for address in packed if address in places)),
            )
            rows.append(row)
    return tuple(rows)


def _operators(operators: Sequence[OperatorUse], owners: dict[tuple[int, ...], Use]) -> list[OperatorReport]:
    rows = []
    for use in operators:
        owner, reason = owners.get(_addresses(use), use), use.reason
        if owner is not use:
            name = owner.layer.name if isinstance(owner, LayerPlan) else f"{owner.name} ({owner.kind})"
            reason += f"; its weight is that of {name} and counted there"
        sparsity = use.zeros / use.elements if use.elements else 0.0
        weights = use.elements if owner is use else 0
        row = OperatorReport(
            use.name, use.kind, use.shape, use.calls, sparsity, weights, use.macs, use.verdict, reason, use.entry_point
        )
        rows.append(row)
    return rows


def _rest(lowered: Lowered) -> list[OperatorReport]:
    """Return one row on all weights that nothing multiplies by in a sum, none if there are none."""
    planned = {address for plan in lowered.plans for address in plan.layer.addresses}
    uses = [use for use in lowered.rest if not planned.issuperset(use.addresses)]
    if not uses:
        return []
    elements = sum(use.elements for use in uses)
    sparsity = sum(use.zeros for use in uses) / elements
    reason = "added, or multiplied element by element"
    return [OperatorReport(REST, "elementwise", (), len(uses), sparsity, elements, 0, "dense", reason, uses[0].entry_point)]


def _functions(functions: Sequence[FunctionUse], selector: KernelSelector) -> tuple[FunctionReport, ...]:
    timed = [(use, function_time.seconds(use, selector.roofline)) for use in functions]
    naive = [FunctionReport(use.name, use.calls, time, False) for use, time in timed if not use.scheduled]
    naive.sort(key=lambda row: -row.seconds)
    scheduled = [(use, time) for use, time in timed if use.scheduled]
    if not scheduled:
        return tuple(naive)
    calls, time = sum(use.calls for use, _ in scheduled), sum(time for _, time in scheduled)
    return (*naive, FunctionReport(f"scheduled functions ({len(scheduled)})", calls, time, True))
