"""The page of `tune --report`: the course of the search, the effect of each tunable, times before and after."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvm_balanced.pages.figures import DENSE, SPARSE, THEIRS, as_svg, subplots
from tvm_balanced.pages.html import write_page as write
from tvm_balanced.tuning.result import TuningResult
from tvm_balanced.tuning.task_state import State


def write_page(result: TuningResult, path: Path) -> None:
    """Write the page of a run; raises ArtifactError if it cannot be written."""
    states = sorted((s for s in result.states if s.best is not None), key=lambda s: -s.model_seconds)
    kernels = [(state.task.title, curve(state), effects(state)) for state in states]
    write(path, "tvm_balanced.tuning", "report_page.html", result=result, kernels=kernels, before_after=before_after(states))


def curve(state: State) -> str:
    """Return a plot of every trial's time and the best so far, in order of measurement, as SVG in base64."""
    times = np.array([np.nan if s is None else s * 1e6 for s in state.strategy.seen.values()])
    figure, axes = subplots(figsize=(6, 2.6))
    numbers = np.arange(1, len(times) + 1)
    axes.plot(numbers, times, ".", color=THEIRS, label="trial")
    axes.step(numbers, np.fmin.accumulate(times), where="post", color=SPARSE, label="best so far")
    if state.default is not None:
        axes.axhline(state.default * 1e6, color=DENSE, linestyle="--", linewidth=1, label="default")
    axes.set(xlabel="trial", ylabel="us", yscale="log")
    axes.legend(frameon=False)
    return as_svg(figure)


def effects(state: State) -> str:
    """Return plots of the best time for each value of each tunable, as SVG in base64."""
    columns = [(i, j) for i, decision in enumerate(state.space.default) for j in range(len(decision)) if j or len(decision) == 1]
    if not columns:
        return ""
    figure, grid = subplots(1, len(columns), figsize=(2.6 * len(columns), 2.4), squeeze=False)
    for axes, (i, j) in zip(grid[0], columns, strict=True):
        best: dict[int, float] = {}
        for point, seconds in state.strategy.seen.items():
            if seconds is not None:
                best[point[i][j]] = min(best.get(point[i][j], np.inf), seconds * 1e6)
        values = sorted(best)
        axes.plot(range(len(values)), [best[v] for v in values], "o-", color=SPARSE, markersize=4)
        axes.set_xticks(range(len(values)), [str(v) for v in values])
        axes.set(title=f"decision {i + 1}, factor {j + 1}", ylabel="best us")
    return as_svg(figure)


def before_after(states: Sequence[State]) -> str:
    """Return bars of the model's time in each kernel, default and tuned, as SVG in base64."""
    figure, axes = subplots(figsize=(9, 0.9 + 0.5 * len(states)))
    places = np.arange(len(states))
    default = np.array([1e6 * s.task.calls * (s.default or np.nan) for s in states])
    tuned = default / np.array([s.winner.gain.p50 if s.winner is not None and s.winner.won else 1.0 for s in states])
    axes.barh(places - 0.2, default, 0.4, label="default", color=THEIRS)
    axes.barh(places + 0.2, tuned, 0.4, label="tuned", color=SPARSE)
    axes.set_yticks(places, [s.task.title for s in states])
    axes.invert_yaxis()
    axes.set_xlabel("us of a call of the model")
    axes.legend(frameon=False)
    return as_svg(figure)
