"""The demo's report.html: one page, with its plot inside."""

import base64
import io
from importlib.resources import files
from typing import TYPE_CHECKING

import jinja2
import matplotlib

from tvm_balanced.errors import ArtifactError
from tvm_balanced.runtime.tensors import view

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tvm_balanced.bench.result import Row
    from tvm_balanced.demo.demo import DemoResult, Quality


def write_page(result: "DemoResult") -> None:
    """Write the page of a demo; raises ArtifactError if it cannot be written."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("tvm_balanced.demo") / "page.html").read_text(encoding="utf-8"))
    megabytes = sum(view(tensor).nbytes for _, tensor in result.module.weights) / 1e6
    page = template.render(
        result=result, facts=result.module.facts, report=result.module.report, plot=plot(result), megabytes=megabytes
    )
    try:
        result.page.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{result.page} cannot be written ({error.strerror or error}); choose another place") from None


def plot(result: "DemoResult") -> str:
    """Return a PNG as base64 text: latencies, and what each stage of pruning is worth."""
    figure = draw(result.timing, result.quality)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def draw(timing: "Sequence[Row]", quality: "Sequence[Quality]") -> Figure:
    """Return the figure: bars of one plot below those of the other, so that names and titles have room."""
    heights = (len(timing), len(quality))
    size = (8, 1.4 + 0.34 * sum(heights))
    figure, (above, below) = plt.subplots(2, 1, figsize=size, height_ratios=heights, constrained_layout=True)
    times = [row.microseconds / 1e3 for row in timing]
    bars = above.barh([row.name for row in timing], times, color=["#1a7f5a", *["#9aa5b1"] * (len(timing) - 1)])
    above.bar_label(bars, fmt="%.1f ms", padding=3)
    above.set_title("one sentence of 128 tokens, median time")
    hits = below.barh([row.name for row in quality], [100 * row.first_hits for row in quality], color="#4a6fa5")
    below.bar_label(hits, fmt="%.0f%%", padding=3)
    below.set_title("docstrings found by their first line")
    for axes in (above, below):
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
