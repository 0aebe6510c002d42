"""The page of `tvm-balanced report`: what was done with a model and why, where its time goes, what its zeros look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_balanced.core.report import Report
from tvm_balanced.core.weight_map import WeightMap
from tvm_balanced.pages.figures import DENSE, OTHER, SPARSE, THEIRS, as_svg, subplots
from tvm_balanced.pages.html import write_page
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.timing.profile import Profile, ProfileRow

SLOWEST = 12  # rows of the plot of times
NAMED = 4  # layers that the roofline names
COLOURS = {"sparse": SPARSE, "dense": DENSE, "other": OTHER}
Times = Sequence[tuple[str, float]]  # (what, microseconds), the slowest first


@dataclass(frozen=True)
class EntryPointTimes:
    """Where the time of one entry point goes.

    Parameters
    ----------
    name : str
    profile : Profile
        Of the compiled module, on this machine.
    eager : sequence of (str, float)
        Microseconds of each operator of the original model in PyTorch; empty if it was not run.
    """

    name: str
    profile: Profile
    eager: Times = ()


def write_report_page(module: CompiledModule, times: Sequence[EntryPointTimes], title: str, path: Path) -> None:
    """Write the page of a compiled module.

    Parameters
    ----------
    module : CompiledModule
    times : sequence of EntryPointTimes
        Empty if this machine cannot run the module.
    title : str
        The name of the model or the artifact.
    path : Path

    Raises
    ------
    ArtifactError
        If the page cannot be written.
    """
    report = module.report
    verdicts = {row.layer: row.verdict for row in report.layers}
    entries = [
        (one, shares(one, verdicts), slowest(one, verdicts), roofline(one.profile, verdicts), one.profile) for one in times
    ]
    maps = [(one, weight_map(one)) for one in report.weight_maps]
    write_page(
        path,
        "tvm_balanced.pages",
        "report.html",
        title=title,
        report=report,
        facts=module.facts,
        entries=entries,
        maps=maps,
        parts=parts(report),
    )


def parts(report: Report) -> str:
    """Return bars of the model's weights, multiply-adds and modelled time, by verdict, as SVG in base64."""
    totals = (("weights", "weights"), ("multiply-adds", "macs"), ("modelled time", "seconds"))
    figure, axes = subplots(figsize=(9, 1.9))
    for place, (_, what) in enumerate(totals):
        amounts = dict.fromkeys(COLOURS, 0.0)
        for row in report.layers:
            amounts[row.verdict] += getattr(row, what)
        for other in (*report.operators, *report.functions):
            amounts["other"] += getattr(other, what, 0)
        whole = sum(amounts.values()) or 1.0
        _stack(axes, place, {kind: 100 * amount / whole for kind, amount in amounts.items()})
    axes.set_yticks(range(len(totals)), [name for name, _ in totals])
    axes.invert_yaxis()
    axes.set(xlabel="% of the model", xlim=(0, 100))
    _legend(axes)
    return as_svg(figure)


def shares(entry: EntryPointTimes, verdicts: Mapping[str, str]) -> str:
    """Return a bar of the module's measured time by verdict, beside one of PyTorch's, as SVG in base64."""
    figure, axes = subplots(figsize=(9, 1.6))
    amounts = dict.fromkeys(COLOURS, 0.0)
    for row in entry.profile.rows:
        amounts[_kind(row, verdicts)] += row.microseconds / 1e3
    _stack(axes, 0, amounts)
    names = ["compiled"]
    if entry.eager:
        axes.barh(1, sum(us for _, us in entry.eager) / 1e3, color=THEIRS, label="PyTorch")
        names.append("PyTorch")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="ms of a call")
    _legend(axes)
    return as_svg(figure)


def slowest(entry: EntryPointTimes, verdicts: Mapping[str, str]) -> str:
    """Return bars of what takes the most time, in the module and in PyTorch, as SVG in base64."""
    rows = entry.profile.rows[:SLOWEST]
    count = max(len(rows), min(SLOWEST, len(entry.eager)))
    figure, grid = subplots(1, 2 if entry.eager else 1, figsize=(11, 0.8 + 0.27 * count), squeeze=False)
    left = grid[0][0]
    colours = [COLOURS[_kind(row, verdicts)] for row in rows]
    _bars(left, [(row.name, row.microseconds) for row in rows], colours, "compiled, layer by layer")
    if entry.eager:
        _bars(grid[0][1], entry.eager[:SLOWEST], [THEIRS] * SLOWEST, "PyTorch, operator by operator")
    return as_svg(figure)


def roofline(profile: Profile, verdicts: Mapping[str, str]) -> str:
    """Return each layer's rate over its intensity under the machine's limits, as SVG in base64; "" if there is no layer.

    Multiply-adds are those on stored slots, so a sparse layer stands below the machine's peak however many zeros it skips.
    """
    rows = [row for row in profile.rows if row.macs and row.nbytes]
    if not rows:
        return ""
    figure, axes = subplots(figsize=(9, 3.6))
    intensity = [row.macs / row.nbytes for row in rows]
    low, high = min(intensity) / 2, max(*intensity, profile.rates.gmacs / profile.rates.gbytes) * 2
    ridge = profile.rates.gmacs / profile.rates.gbytes
    limits = [(x, min(profile.rates.gmacs, x * profile.rates.gbytes)) for x in sorted({low, ridge, high})]
    axes.plot(*zip(*limits, strict=True), color="#1c2733", linewidth=1, label="arithmetic and memory")
    for kind in ("sparse", "dense", "other"):
        own = [(x, row.gmacs) for x, row in zip(intensity, rows, strict=True) if _kind(row, verdicts) == kind]
        if own:
            axes.plot(*zip(*own, strict=True), "o", color=COLOURS[kind], markersize=5, alpha=0.7, label=kind)
    for row in _apart(rows)[:NAMED]:
        place = (row.macs / row.nbytes, row.gmacs)
        axes.annotate(_short(row.name), place, fontsize=7, xytext=(4, 4), textcoords="offset points")
    axes.set(
        xscale="log", yscale="log", xlabel="multiply-adds on stored values for each byte", ylabel="10^9 multiply-adds a second"
    )
    axes.legend(frameon=False, loc="lower right")
    return as_svg(figure)


def weight_map(found: WeightMap) -> str:
    """Return a corner of a weight beside the histogram of nonzeros in a block, as SVG in base64."""
    figure, (left, right) = subplots(1, 2, figsize=(11, 2.7), width_ratios=[2.4, 1])
    zeros = found.zeros
    left.imshow(zeros, cmap="gray", aspect="equal", interpolation="nearest", vmin=0, vmax=1)
    for edge in range(found.block, zeros.shape[1], found.block):
        left.axvline(edge - 0.5, color=SPARSE, linewidth=0.6)
    left.set(xlabel=f"k, in blocks of {found.block}", ylabel="n", title="nonzeros are black")
    held = [(nnz, count) for nnz, count in enumerate(found.counts) if count]
    right.bar([nnz for nnz, _ in held], [count for _, count in held], color=SPARSE)
    right.set(xlabel="nonzeros of a block", ylabel="blocks", xlim=(-0.6, min(found.block, 32) + 0.6))
    right.xaxis.get_major_locator().set_params(integer=True)
    return as_svg(figure)


def _kind(row: ProfileRow, verdicts: Mapping[str, str]) -> str:
    return "other" if row.kernel == "tvm" else verdicts.get(row.name, "other")


def _stack(axes: Any, place: int, amounts: Mapping[str, float]) -> None:
    """Draw one bar of several parts."""
    left = 0.0
    for kind, amount in amounts.items():
        axes.barh(place, amount, left=left, color=COLOURS[kind], label=kind if place == 0 else None)
        left += amount


def _apart(rows: Sequence[ProfileRow], factor: float = 1.5) -> list[ProfileRow]:
    """Return rows whose dots lie apart in a roofline, so that their names do not cover each other."""
    kept: list[ProfileRow] = []
    for row in rows:
        if all(max(row.gmacs / one.gmacs, one.gmacs / row.gmacs) > factor for one in kept):
            kept.append(row)
    return kept


def _bars(axes: Any, rows: Times, colours: Sequence[str], title: str) -> None:
    unit, scale = ("ms", 1e-3) if rows and rows[0][1] >= 1e4 else ("us", 1.0)
    bars = axes.barh(range(len(rows)), [us * scale for _, us in rows], color=colours[: len(rows)])
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=7)
    axes.set_yticks(range(len(rows)), [_short(name) for name, _ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel=f"{unit} of a call", title=title)


def _short(name: str, most: int = 42) -> str:
    """Return a name that fits beside a plot: its end tells layers apart."""
    return name if len(name) <= most else f"...{name[3 - most :]}"


def _legend(axes: Any) -> None:
    axes.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.35))
