"""The cells that fall farthest short, by what has been measured of them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from benchmarks.gpu.layer import Cell
from benchmarks.gpu.measuring import OURS
from benchmarks.gpu.report import CELL, wanted

Row = Mapping[str, str]
NAMES = tuple(field.name for field in fields(Cell))


def worst_of(rows: Sequence[Row], searched: bool = True) -> list[Cell]:
    """Return the measured cells, the worst first.

    Those that fall short of the speed-up over cuBLAS that is wanted come first, by the share of it that they
    reach; then all others, by the share of the roofline.

    Parameters
    ----------
    rows : sequence of rows of gpu.csv
    searched : bool
        Whether cells that a search has been run for count, too.
    """
    tuned = {_cell(row) for row in rows if row["schedule"] == "tuned"}
    reached: dict[Cell, tuple[bool, float]] = {}
    over_cublas = {_cell(row): float(row["p50"]) for row in rows if row["rival"] == "cublas" and row["p50"]}
    for row in rows:
        cell = _cell(row)
        if row["rival"] != OURS or row["schedule"] != "default" or not row["of_roofline"] or (not searched and cell in tuned):
            continue
        goal = wanted([row[name] for name in CELL])
        share = over_cublas[cell] / goal if goal is not None and cell in over_cublas else 1.0
        reached[cell] = (False, share) if share < 1 else (True, float(row["of_roofline"]))
    return sorted(reached, key=lambda cell: reached[cell])


def _cell(row: Row) -> Cell:
    """Return the cell of a row, in its default schedule."""
    sizes = {name: int(row[name]) for name in ("n", "k", "m")}
    return Cell(**sizes, **{name: row[name] for name in NAMES if name not in (*sizes, "schedule")})
