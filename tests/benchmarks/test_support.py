"""docs/support.md is what its command writes, has a cell for everything, and a sample of the cells is run; at night all are."""

import importlib.util
import os

import pytest
import torch

from benchmarks import support

support._find_support()
from support.layer_kinds import KINDS, outcomes  # noqa: E402
from support.model_families import FAMILIES, NEEDS, SOURCES, outcome  # noqa: E402

NIGHTLY = "TVM_BALANCED_NIGHTLY" in os.environ
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


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "shapes"), COLUMNS, ids=str)
def test_layers_are_as_the_page_says(dtype, shapes):
    """Every kind of layer is run in one of the columns."""
    place = COLUMNS.index((dtype, shapes))
    names = list(KINDS) if NIGHTLY else list(KINDS)[place :: len(COLUMNS)]
    for name, said in outcomes(names, getattr(torch, dtype), shapes == "dynamic"):
        cell = ("layers", name, dtype, shapes)
        assert agrees(said, cell), f"{name}: {said}; the page says {FOUND.get(cell)}"


def sampled(cell):
    """Whether a cell is in the sample that has every source, every family and both shapes."""
    _, source, family, shapes = cell
    turn = list(SOURCES).index(source)
    families = [name for name, about in FAMILIES.items() if about.transformers or source not in support.only_transformers()]
    return families[turn % len(families)] == family and support.SHAPES[turn % 2] == shapes


@pytest.mark.slow
@pytest.mark.parametrize("cell", [cell for cell in SOURCE_CELLS if NIGHTLY or sampled(cell)], ids=lambda cell: "-".join(cell[1:]))
def test_models_come_in_as_the_page_says(cell, tmp_path):
    _, source, family, shapes = cell
    for module in NEEDS.get(source, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    said = outcome(source, family, shapes == "dynamic", tmp_path)
    assert agrees(said, cell), f"{said}; the page says {FOUND.get(cell)}"
