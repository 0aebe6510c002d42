"""docs/support.md is what its command writes and has a cell for everything; at night all cells are run."""

import importlib.util

import pytest
import torch

from benchmarks import support

support._find_support()
from support.layer_kinds import KINDS, outcomes  # noqa: E402
from support.model_families import NEEDS, outcome  # noqa: E402

FOUND = support.read()
COLUMNS = [(dtype, shapes) for dtype in support.DTYPES for shapes in support.SHAPES]
SOURCE_CELLS = [cell for cell in support.cells() if cell[0] == "sources"]


def test_the_page_is_current():
    assert support.PAGE.read_text() == support.page(FOUND), "run python -m benchmarks.support"
    cells = set(support.cells())
    assert [cell for cell in FOUND if cell not in cells] == [], "a cell of a row or column that is no more"
    for section, row, column, _ in cells:
        table = support.PAGE.read_text().split(f"## {section.capitalize()}")[1].split("\n## ")[0]
        assert f"\n| {row} |" in table
        assert f"| {column} |" in table


def test_nothing_is_wrong_or_refused_without_a_reason():
    bad = {cell: said for cell, said in FOUND.items() if said not in support.GOOD}
    assert {cell: said for cell, said in bad.items() if said.startswith("WRONG") or len(said) < 20} == {}


def good(said):
    return said in support.GOOD


def agrees(said, cell):
    """Whether an outcome is as good as what the page says; a cell that says nothing yet must be good, or have a reason."""
    return not said.startswith("WRONG") and (cell not in FOUND or good(said) == good(FOUND[cell]))


@pytest.mark.nightly
@pytest.mark.parametrize(("dtype", "shapes"), COLUMNS, ids=str)
def test_layers_are_as_the_page_says(dtype, shapes):
    for name, said in outcomes(list(KINDS), getattr(torch, dtype), shapes == "dynamic"):
        cell = ("layers", name, dtype, shapes)
        assert agrees(said, cell), f"{name}: {said}; the page says {FOUND.get(cell)}"


@pytest.mark.nightly
@pytest.mark.parametrize("cell", SOURCE_CELLS, ids=lambda cell: "-".join(cell[1:]))
def test_models_come_in_as_the_page_says(cell, tmp_path):
    _, source, family, shapes = cell
    for module in NEEDS.get(source, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    said = outcome(source, family, shapes == "dynamic", tmp_path)
    assert agrees(said, cell), f"{said}; the page says {FOUND.get(cell)}"
