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

if TYPE_CHECKING:
    from tvm_balanced.demo.demo import DemoResult


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
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2), constrained_layout=True)
    names = [row.name for row in result.timing]
    bars = left.barh(names, [row.microseconds / 1e3 for row in result.timing], color=["#1a7f5a", *["#9aa5b1"] * (len(names) - 1)])
    left.bar_label(bars, fmt="%.1f ms", padding=3)
    left.invert_yaxis()
    left.margins(x=0.2)
    left.set_title("one sentence of 128 tokens, median time")
    stages = [row.name for row in result.quality]
    hits = right.barh(stages, [100 * row.first_hits for row in result.quality], color="#4a6fa5")
    right.bar_label(hits, fmt="%.0f%%", padding=3)
    right.invert_yaxis()
    right.margins(x=0.2)
    right.set_title("docstrings found by their first line")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
