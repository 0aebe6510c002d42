"""The claims of the paper (Yao et al., 2019) about accuracy, tested on the rows of the small models."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.study import small

Row = Mapping[str, str]
Values = dict[tuple[str, float], dict[str, float]]  # (structure, sparsity): {seed: value}
WITHIN = 0.01  # what counts as the same perplexity
POINTS = 2.0  # of 100: what unstructured pruning may lose on digits before the comparison ends


@dataclass(frozen=True)
class Finding:
    """What a claim says, whether it holds (None: not measured yet) and the figures."""

    claim: str
    holds: bool | None
    figures: str

    def __str__(self) -> str:
        verdict = {True: "holds", False: "does not hold", None: "not measured everywhere"}[self.holds]
        return f"{self.claim}: **{verdict}**{'; ' + self.figures if self.figures else ''}."


def values(rows: Sequence[Row], model: str) -> Values:
    """Return the values of a model's rows, by structure and nominal sparsity in percent, then by seed."""
    found: Values = defaultdict(dict)
    for row in rows:
        if row["model"] == model:
            found[row["structure"], nominal(row)][row["seed"]] = float(row["value"])
    return dict(found)


def nominal(row: Row) -> float:
    """Return the sparsity in percent that a row's pattern names, 0 for dense."""
    pattern = row["pattern"]
    if not pattern:
        return 0.0
    if pattern[0].isdigit():
        nnz, block = map(int, pattern.split(":"))
        return round(100 * (1 - nnz / block), 4)
    return round(100 * float(pattern.partition(":")[2]), 4)


def ratio(found: Values, structure: str, other: str, percent: float) -> float | None:
    """Return the mean over the seeds that both have of one structure's value over the other's; None without such a seed."""
    ours, theirs = found.get((structure, percent), {}), found.get((other, percent), {})
    seeds = sorted(ours.keys() & theirs.keys())
    return sum(ours[seed] / theirs[seed] for seed in seeds) / len(seeds) if seeds else None


def findings(rows: Sequence[Row]) -> list[Finding]:
    """Return what the rows say about each claim."""
    language = values(rows, small.Language.name)
    return [
        _beside(
            language, "balanced 50", (60, 70, 80), "Balanced pruning is within 1% of unstructured's perplexity at 60, 70, 80%"
        ),
        _worse(language),
        _blocks(language),
        _of_16(language),
        _digits(values(rows, small.Digits.name)),
    ]


def _verdict(each: Sequence[bool], needed: int) -> bool | None:
    """Whether a claim holds at every sparsity; None while it does, but not all that are needed are measured."""
    return None if all(each) and len(each) < needed else all(each)


def _percent(ratios: Mapping[float, float]) -> str:
    return ", ".join(f"{100 * (value - 1):+.1f}% at {at:g}% zeros" for at, value in sorted(ratios.items()))


def _ratios(found: Values, structure: str, other: str, at: Sequence[float]) -> dict[float, float]:
    both = {percent: ratio(found, structure, other, percent) for percent in at}
    return {percent: value for percent, value in both.items() if value is not None}


def _beside(found: Values, structure: str, at: Sequence[float], claim: str) -> Finding:
    ratios = _ratios(found, structure, small.UNSTRUCTURED, at)
    return Finding(claim, _verdict([r <= 1 + WITHIN for r in ratios.values()], len(at)), _percent(ratios))


def _worse(found: Values) -> Finding:
    ratios = _ratios(found, "block 8x8", "balanced 50", small.PERCENT)
    claim = "Whole blocks of 8x8 cost clearly more perplexity than balanced pruning (5% or more)"
    return Finding(claim, _verdict([r >= 1.05 for r in ratios.values()], len(small.PERCENT)), _percent(ratios))


def _blocks(found: Values) -> Finding:
    """Blocks of 25, 50 and 100 beside each other, where all three are measured."""
    spread = {}
    for percent in small.PERCENT:
        there = [found[key]["0"] for block in small.EVEN if "0" in found.get(key := (f"balanced {block}", float(percent)), {})]
        if len(there) > 1:
            spread[percent] = max(there) / min(there)
    figures = ", ".join(f"{100 * (value - 1):.1f}% at {at}% zeros" for at, value in spread.items())
    claim = "Blocks of 25, 50 and 100 are within 1% of each other"
    holds = _verdict([value <= 1 + WITHIN for value in spread.values()], len(small.PERCENT))
    return Finding(claim, holds, figures and f"they differ by {figures}")


def _of_16(found: Values) -> Finding:
    at = [round(100 * sparsity, 4) for sparsity in small.OF_16.values()]
    claim = "Blocks of 16, which our kernels use, are within 1% of unstructured's perplexity"
    return _beside(found, "balanced 16", at, claim)


def _digits(found: Values) -> Finding:
    """The errors of balanced pruning less unstructured's, in points, up to where the latter loses POINTS."""
    claim = f"The convolutions' balanced curve lies on unstructured's (within half a point, until that loses {POINTS:g} points)"
    dense = found.get((small.DENSE, 0.0), {})
    differences = {}
    for pattern, sparsity in small.HIGH.items():
        percent = round(100 * sparsity, 4)
        ours = found.get((f"balanced {pattern.partition(':')[2]}", percent), {})
        theirs = found.get((small.UNSTRUCTURED, percent), {})
        seeds = sorted(ours.keys() & theirs.keys() & dense.keys())
        if seeds and sum(theirs[s] - dense[s] for s in seeds) <= POINTS * len(seeds):
            differences[percent] = sum(ours[s] - theirs[s] for s in seeds) / len(seeds)
    figures = ", ".join(f"{value:+.2f} points at {at:g}% zeros" for at, value in differences.items())
    return Finding(claim, _verdict([value <= 0.5 for value in differences.values()], 1), figures)
