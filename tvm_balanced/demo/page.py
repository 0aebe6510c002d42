"""The demo's report.html: one page, with its plot inside."""

from typing import TYPE_CHECKING

from tvm_balanced.pages import html
from tvm_balanced.pages.figures import DENSE, SPARSE, THEIRS, as_svg, subplots
from tvm_balanced.runtime.tensors import view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from tvm_balanced.bench.result import Row
    from tvm_balanced.demo.demo import DemoResult, Quality


def write_page(result: "DemoResult") -> None:
    """Write the page of a demo; raises ArtifactError if it cannot be written."""
    module = result.module
    html.write_page(
        result.page,
        "tvm_balanced.demo",
        "page.html",
        result=result,
        facts=module.facts,
        report=module.report,
        plot=as_svg(draw(result.timing, result.quality)),
        megabytes=sum(view(tensor).nbytes for _, tensor in module.weights) / 1e6,
    )


def draw(timing: "Sequence[Row]", quality: "Sequence[Quality]") -> "Figure":
    """Return the figure: bars of one plot below those of the other, so that names and titles have room."""
    heights = (len(timing), len(quality))
    size = (8, 1.4 + 0.34 * sum(heights))
    figure, (above, below) = subplots(2, 1, figsize=size, height_ratios=heights)
    times = [row.microseconds / 1e3 for row in timing]
    bars = above.barh([row.name for row in timing], times, color=[SPARSE, *[THEIRS] * (len(timing) - 1)])
    above.bar_label(bars, fmt="%.1f ms", padding=3)
    above.set_title("one sentence of 128 tokens, median time")
    hits = below.barh([row.name for row in quality], [100 * row.first_hits for row in quality], color=DENSE)
    below.bar_label(hits, fmt="%.0f%%", padding=3)
    below.set_title("docstrings found by their first line")
    for axes in (above, below):
        axes.invert_yaxis()
        axes.margins(x=0.15)
    return figure
