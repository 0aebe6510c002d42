"""Figures of pages: one look, as SVG in base64."""

import base64
import io
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

SPARSE, DENSE, OTHER, THEIRS = "#1a7f5a", "#4a6fa5", "#c9853a", "#9aa5b1"


def subplots(rows: int = 1, columns: int = 1, **more: Any) -> tuple[Figure, Any]:
    """Return (figure, axes), as pyplot does."""
    return plt.subplots(rows, columns, constrained_layout=True, **more)


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG in base64, and close it."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
