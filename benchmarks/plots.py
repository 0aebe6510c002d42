"""Draw the figures of the measurements: `python -m benchmarks.plots [--label LABEL]`.

data/grid_rounds.csv becomes docs/figures/grid.svg, our speed-up over oneDNN by M and pattern; data/models.csv becomes
docs/figures/models.svg, whole models compared with PyTorch. A figure without data is left out.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.bootstrap import estimate
from benchmarks.grid import GRID_ROUNDS, PATTERNS, ROWS, Ratios, ratios_of, read
from benchmarks.models import DATA as MODELS

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
RIVAL = "onednn"
TICKS = (1, 2, 3, 5, 10, 20)
COLOURS = ("#9ecae1", "#6baed6", "#3182bd", "#08519c")  # the sparser, the darker


def draw_grid(ratios: Ratios, path: Path) -> None:
    """Draw each cell as a point with its 95% interval, and the geometric mean by M as a line, one
    colour per pattern.
    """
    figure, axes = plt.subplots(figsize=(7, 4))
    for i, (pattern, colour) in enumerate(zip(PATTERNS, COLOURS, strict=True)):
        means = {}
        for place, m in enumerate(ROWS):
            cells = [
                of_cell[RIVAL] for cell, of_cell in ratios.items() if (cell.m, cell.pattern) == (m, pattern) and RIVAL in of_cell
            ]
            found = [estimate(runs) for runs in cells]
            # side by side, so that intervals do not overlap
            at = [place + (i - 1.5) * 0.15 + (j - (len(found) - 1) / 2) * 0.04 for j in range(len(found))]
            spread = np.array([(e.median - e.low, e.high - e.median) for e in found]).reshape(-1, 2).T
            axes.errorbar(at, [e.median for e in found], np.maximum(spread, 0), fmt="o", ms=3, lw=1, color=colour)
            if found:
                means[place + (i - 1.5) * 0.15] = np.exp(np.mean(np.log([e.median for e in found])))
        axes.plot(list(means), list(means.values()), "-", lw=1, color=colour, label=pattern)
    axes.axhline(1, color="grey", lw=0.8)
    axes.set_xticks(range(len(ROWS)), map(str, ROWS))
    axes.set(yscale="log", xlabel="M (rows of x)", ylabel="times faster than oneDNN, packed")
    axes.set_yticks(TICKS, map(str, TICKS))
    axes.minorticks_off()
    _save(figure, axes, path, "pattern")


def draw_models(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Draw a group of bars for each model's last measurement, one bar per baseline, with the 20th
    and 80th percentile.
    """
    bars: dict[str, dict[str, Mapping[str, str]]] = defaultdict(dict)
    for row in rows:
        if row["rival"] != "balanced":
            threads = "1 thread" if row["threads"] == "1" else f"{row['threads']} threads"
            bars[f"{row['model']}, batch {row['batch']}\n{row['pattern']}, {threads}"][row["rival"]] = row
    rivals = list(dict.fromkeys(rival for group in bars.values() for rival in group))
    figure, axes = plt.subplots(figsize=(max(5, 1.3 * len(bars)), 4))
    width = 0.8 / len(rivals)
    for i, rival in enumerate(rivals):
        places = [place for place, group in enumerate(bars.values()) if rival in group]
        here = [group[rival] for group in bars.values() if rival in group]
        p20, p50, p80 = (np.array([float(row[name]) for row in here]) for name in ("p20", "p50", "p80"))
        at = np.array(places) + (i - (len(rivals) - 1) / 2) * width
        axes.bar(at, p50, width, yerr=(p50 - p20, p80 - p50), label=rival, error_kw={"lw": 0.8})
    axes.axhline(1, color="grey", lw=0.8)
    axes.set_xticks(range(len(bars)), list(bars), fontsize=7)
    axes.set(ylabel="times faster than")
    _save(figure, axes, path, "")


def _save(figure: Any, axes: Any, path: Path, title: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title=title, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    # the same data must give the same file
    with matplotlib.rc_context({"svg.hashsalt": "tvm_balanced"}):
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    print(path)


def main() -> None:
    """Draw the figures that have data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", help="of the grid's runs; the last one by default")
    options = parser.parse_args()
    labels = [row["label"] for row in read(GRID_ROUNDS)]
    if labels:
        draw_grid(ratios_of(options.label or labels[-1]), FIGURES / "grid.svg")
    if models := read(MODELS):
        draw_models(models, FIGURES / "models.svg")
    if not labels and not models:
        print("there is nothing to draw yet; run benchmarks.grid or benchmarks.models first")


if __name__ == "__main__":
    main()
