from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from benchmarks import cell as cells
from benchmarks import grid
from benchmarks.cell import Cell, Timed


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name in ("GRID", "GRID_ROUNDS"):
        monkeypatch.setattr(grid, name, tmp_path / getattr(grid, name).name)
    return tmp_path


def plan(label, **changes):
    return grid.Plan(label, **{"quiet": 1} | changes)  # accept any load of the machine


class Clock:
    """Stands in for `measure`: returns ratios of 2 in every cell, and records its arguments."""

    def __init__(self, ratio=2.0):
        self.asked, self.ratio = [], ratio

    def __call__(self, cell, rivals, seconds, rounds):
        self.asked.append((cell, tuple(rivals)))
        ratios = {name: np.full(rounds, self.ratio) for name in rivals}
        return {"balanced": Timed(10.0, np.ones(rounds), "")} | {name: Timed(20.0, r, "") for name, r in ratios.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_grid_covers_every_value_evenly(seed):
    drawn = grid.draw(seed)
    assert len(set(drawn)) == len(drawn) == 40
    assert {(c.m, c.pattern, c.threads) for c in drawn} == set(product(grid.ROWS, grid.PATTERNS, grid.THREADS))
    for other in ("m", "pattern"):
        met = {((c.n, c.k), getattr(c, other)) for c in drawn}
        assert len(met) == len(grid.SIZES) * len({getattr(c, other) for c in drawn})
    assert set(Counter((c.n, c.k) for c in drawn).values()) == {6, 7}
    assert set(Counter((c.n, c.k, c.threads) for c in drawn).values()) == {3, 4}


def test_the_grid_is_always_the_same():
    assert grid.draw() == grid.draw()
    assert grid.draw() != grid.draw(1)


def test_regimes(monkeypatch):
    monkeypatch.setattr(cells, "last_level_cache", lambda: 32 << 20)
    assert [Cell(*size, 8, "2:16", 1).regime for size in grid.SIZES] == ["hot"] * 3 + ["cold"] * 3
    monkeypatch.setattr(cells, "last_level_cache", lambda: 1 << 30)
    assert [Cell(4096, 4096, m, "2:16", 1).regime for m in (1, 8)] == ["cold", "hot"]


def test_small_layers_from_memory_are_told_apart(files, monkeypatch):
    monkeypatch.setattr(cells, "last_level_cache", lambda: 32 << 20)
    hot = Cell(768, 768, 8, "2:16", 1)
    for label, cell in (("a", hot), ("b", replace(hot, from_memory=True))):
        grid.run_grid(plan(label, runs=1), [cell], ("onednn",), Clock())
        assert list(grid.ratios_of(label)) == [cell]
    assert [row["regime"] for row in grid.read(grid.GRID)] == ["hot", "hot", "cold", "cold"]


def test_a_cell_of_half_the_bytes(monkeypatch):
    half = Cell(4096, 4096, 8, "2:16", 1, "bfloat16")
    assert str(half) == "4096x4096 m8 2:16 t1 bfloat16"
    assert str(Cell(4096, 4096, 8, "2:16", 1)) == "4096x4096 m8 2:16 t1"
    monkeypatch.setattr(cells, "last_level_cache", lambda: 48 << 20)
    assert (half.regime, Cell(4096, 4096, 8, "2:16", 1).regime) == ("hot", "cold")


def test_series_are_told_apart(files):
    """By the dtype in the data, and by label."""
    one = grid.draw()[:1]
    for dtype in grid.DTYPES:
        grid.run_grid(plan("a", runs=1), [replace(one[0], dtype=dtype)], ("onednn",), Clock())
    assert {cell.dtype for cell in grid.ratios_of("a")} == set(grid.DTYPES)
    today = grid._label("float32", False, False)
    labels = [grid._label("bfloat16", False, False), grid._label("float32", True, False), grid._label("float32", True, True)]
    assert labels == [f"{today}-bfloat16", f"{today}-tuned", f"{today}-tuned-cold"]


def test_what_is_there_is_not_timed_again(files):
    two, clock = grid.draw()[:2], Clock()
    assert grid.run_grid(plan("a", runs=2), two, ("onednn",), clock) == []
    assert len(clock.asked) == 4
    grid.run_grid(plan("a", runs=2), two, ("onednn",), clock)
    assert len(clock.asked) == 4
    grid.run_grid(plan("a", runs=3), two, ("onednn", "eager"), clock)
    assert [rivals for _, rivals in clock.asked[4:]] == [("eager",)] * 4 + [("onednn", "eager")] * 2
    grid.run_grid(plan("b", runs=1), two, ("onednn",), clock)
    assert len(clock.asked) == 12
    keys = [tuple(row[name] for name in grid.KEY) for row in grid.read(grid.GRID)]
    assert len(keys) == len(set(keys))
    assert {len(runs["eager"]) for runs in grid.ratios_of("a").values()} == {3}


def test_a_rival_that_does_not_take_a_shape_is_not_asked_again(files):
    def refuses(cell, rivals, seconds, rounds):
        nothing = Timed(float("nan"), np.array([]), "", "does not take this shape")
        return {"balanced": Timed(10.0, np.ones(rounds), ""), "reference": nothing}

    one = grid.draw()[:1]
    grid.run_grid(plan("a", runs=1), one, ("reference",), refuses)
    assert [row["note"] for row in grid.read(grid.GRID)] == ["", "does not take this shape"]
    assert grid.ratios_of("a") == {}
    clock = Clock()
    grid.run_grid(plan("a", runs=1), one, ("reference",), clock)
    assert clock.asked == []


def test_it_stops_in_time(files, capsys):
    clock = Clock()
    grid.run_grid(plan("a", end=0.0), grid.draw(), ("onednn",), clock)
    assert clock.asked == []
    assert "goes on from there" in capsys.readouterr().out


def test_a_cell_that_failed_or_was_disturbed_is_not_recorded(files, monkeypatch):
    def fails(cell, rivals, seconds, rounds):
        raise RuntimeError("onednn is wrong")

    one = grid.draw()[:1]
    assert "onednn is wrong" in grid.run_grid(plan("a", runs=1), one, ("onednn",), fails)[0]
    assert "of the machine" in grid.run_grid(plan("a", runs=1, quiet=-1), one, ("onednn",), Clock())[0]
    assert grid.read(grid.GRID) == []


def test_the_report_counts_and_averages(files, capsys):
    drawn = grid.draw()
    grid.run_grid(plan("a", runs=2), drawn[:8], ("onednn", "eager"), Clock(4.0))
    grid.run_grid(plan("a", runs=2), drawn[8:16], ("onednn", "eager"), Clock(0.5))
    grid.report("a")
    text = (files / "grid-a.md").read_text()
    assert "| onednn | 8 | 8 | 0 |" in text
    assert "| 1 | 4.00 | 4.00 |" in text
    assert "| 8 | 0.50 | 0.50 |" in text
    assert "| all | 1.41 | 1.41 |" in text
    grid.report("unknown")
    assert "nothing was timed" in capsys.readouterr().out
