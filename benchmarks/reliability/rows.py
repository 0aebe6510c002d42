"""Rows of what came of a run, in CSV files that are only appended to, so that a run that was stopped goes on."""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from benchmarks.cell import append, stamp

DATA = Path(__file__).resolve().parent.parent / "data"
STAMP = ("label", "date", "cpu", "versions")


@cache
def path_of(name: str) -> Path:
    """Return the file of one kind of run."""
    return DATA / f"reliability_{name}.csv"


def read(name: str, label: str) -> list[dict[str, str]]:
    """Return the rows of one kind of run under a label."""
    if not path_of(name).exists():
        return []
    with path_of(name).open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["label"] == label]


def write(name: str, label: str, row: Mapping[str, object]) -> None:
    """Append a row; all rows of a kind have the same keys."""
    append(path_of(name), (*STAMP, *row), [{"label": label} | stamp() | row])
