"""docs/accuracy.md, written from data/accuracy.csv."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "benchmarks" / "data" / "accuracy.csv"
PAGE = ROOT / "docs" / "accuracy.md"
HEAD = """# What pruning costs in accuracy

`python -m benchmarks.study` writes this page from [accuracy.csv](../benchmarks/data/accuracy.csv); `make study-quick` measures
the rows with 1000 queries.

MiniLM finds the description of a Debian package, among 1000, by its one-line synopsis. The packages are
[held out](../benchmarks/study/held_out.txt): nothing is calibrated or trained on them. The descriptions come from Debian's
archive by apt, each under the licence of its package. Of the model's weights, the 36 linear layers of the encoder are pruned.
MRR is the mean of 1 over the rank of the right description; "over dense" divides it by the dense model's, with the 95% interval
of a paired bootstrap over the queries. The cosine is that to the dense model's embeddings, on average. CPU seconds are those of
pruning.
"""
COLUMNS = ("pattern", "method", "calibration texts", "queries", "MRR", "first hit", "over dense", "cosine", "CPU seconds")


def write() -> None:
    """Write the page."""
    with DATA.open(newline="") as file:
        rows = list(csv.DictReader(file))
    PAGE.write_text(text(rows))


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the page."""
    lines = [HEAD, "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in sorted(rows, key=_place)]
    about = sorted({(row["date"], row["cpu"], row["versions"]) for row in rows})
    return "\n".join([*lines, "", *(f"Measured on {date} on {cpu}; {versions}." for date, cpu, versions in about)]) + "\n"


def _place(row: Mapping[str, str]) -> tuple[object, ...]:
    """Order rows by what is kept, then by what they reach."""
    return float(row["sparsity"]), int(row["queries"]), float(row["mrr"])


def _cells(row: Mapping[str, str]) -> list[str]:
    method = row["method"] + (f", then {float(row['minutes']):g} minutes of distillation" if float(row["minutes"]) else "")
    return [
        row["pattern"],
        method,
        "-" if row["method"] in ("dense", "magnitude") else row["calibration"],
        row["queries"],
        f"{float(row['mrr']):.3f}",
        f"{float(row['first_hits']):.1%}",
        f"{float(row['share']):.1%} ({float(row['share_low']):.1%} to {float(row['share_high']):.1%})",
        f"{float(row['cosine']):.2f}",
        f"{float(row['cpu_seconds']):.0f}",
    ]
