"""The plots of docs/accuracy.md, from the rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt

from benchmarks.study import claims, latency, minilm, small

FIGURES = Path(__file__).parent.parent.parent / "docs" / "figures"
MODELS = "accuracy_models.svg"
RETRIEVAL = "accuracy_retrieval.svg"
SPEED = "accuracy_speed.svg"
SHOWN = {
    small.UNSTRUCTURED: "#222222",
    "balanced 16": "#1a7f5a",
    "balanced 32": "#1a7f5a",
    "balanced 64": "#1a7f5a",
    "balanced 50": "#4a6fa5",
    "block 4x4": "#e0a458",
    "block 8x8": "#c8553d",
    "vector 8": "#9aa5b1",
}
Row = Mapping[str, str]


def draw(retrieval: Sequence[Row], models: Sequence[Row], times: Sequence[Row], folder: Path = FIGURES) -> None:
    """Write the figures; one without rows is left out."""
    matplotlib.rcParams["svg.hashsalt"] = "accuracy"  # the same rows give the same file
    if models:
        _models(models, folder / MODELS)
    if retrieval:
        _retrieval(retrieval, folder / RETRIEVAL)
    if times and retrieval:
        _speed(times, latency.best(retrieval), folder / SPEED)


def _models(rows: Sequence[Row], path: Path) -> None:
    """Draw each model's metric over its sparsity, a line a structure, with the spread over seeds."""
    names = [name for name in small.TASKS if claims.values(rows, name)]
    figure, places = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.6), squeeze=False, layout="constrained")
    for axes, name in zip(places[0], names, strict=True):
        found = claims.values(rows, name)
        dense = list(found.get((small.DENSE, 0.0), {}).values())
        if dense:
            axes.axhline(sum(dense) / len(dense), color="grey", lw=0.8, ls=":", label="dense")
        for structure, colour in SHOWN.items():
            at = sorted(percent for kind, percent in found if kind == structure)
            if not at:
                continue
            per_seed = [list(found[structure, percent].values()) for percent in at]
            means = [sum(v) / len(v) for v in per_seed]
            spread = [[m - min(v) for m, v in zip(means, per_seed, strict=True)]]
            spread.append([max(v) - m for m, v in zip(means, per_seed, strict=True)])
            axes.errorbar(at, means, spread, fmt="o-", ms=3, lw=1, capsize=2, color=colour, label=structure)
        metric = next(row["metric"] for row in rows if row["model"] == name)
        axes.set(title=name, xlabel="zeros in %", ylabel=metric)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _retrieval(rows: Sequence[Row], path: Path) -> None:
    """Draw MiniLM's MRR over dense's for balanced patterns of blocks of 16, a line a method."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    most = max(int(row["queries"]) for row in rows)
    series: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in rows:
        if not row["pattern"].endswith(":16") or row["method"] not in minilm.METHODS or row["seed"] != "0":
            continue
        if int(row["queries"]) < most and any(_same(row, other) and int(other["queries"]) == most for other in rows):
            continue
        name = row["method"] + (f", {row['steps']} steps of distillation" if row["steps"] != "0" else "")
        share, low, high = (100 * float(row[key]) for key in ("share", "share_low", "share_high"))
        series.setdefault(name, []).append((100 * float(row["sparsity"]), share, share - low, high - share))
    for name, found in sorted(series.items()):
        at, share, down, up = zip(*sorted(found), strict=True)
        axes.errorbar(at, share, (down, up), fmt="o-", ms=3, lw=1, capsize=2, label=name)
    axes.axhline(100, color="grey", lw=0.8, ls=":")
    axes.set(xlabel="zeros in %", ylabel="MRR over the dense model's, in %", title="MiniLM finds descriptions of packages")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _speed(times: Sequence[Row], best: Mapping[str, Row], path: Path) -> None:
    """Draw MRR over dense's against how many times faster than PyTorch a model is, a line a precision."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for precision in latency.PRECISIONS:
        found = []
        for row in times:
            if row["precision"] == precision and row["pattern"] != latency.PYTORCH[0]:
                share = 100 * float(best[row["pattern"]]["share"]) if row["pattern"] in best else 100.0
                if row["pattern"] in best or row["pattern"] == "dense":
                    found.append((float(row["p50"]), share, f"{row['pattern']}"))
        if found:
            at, shares, names = zip(*sorted(found), strict=True)
            axes.plot(at, shares, "o-", ms=3, lw=1, label=precision)
            for x, y, name in zip(at, shares, names, strict=True):
                axes.annotate(name, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set(xlabel="times faster than PyTorch in float32", ylabel="MRR over the dense model's, in %", title="MiniLM")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _same(row: Row, other: Row) -> bool:
    return all(row[key] == other[key] for key in minilm.KEY if key != "queries")


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
