"""Which cases of a grid `make test` runs."""

import itertools
from types import SimpleNamespace

import pytest
from support import sample as module
from support.sample import left_out, sample

GRID = [{"a": a, "b": b, "c": c} for a, b, c in itertools.product(range(2), range(3), range(5))]


def values_of(cases, size):
    return {values for case in cases for values in itertools.combinations(sorted(case.items()), size)}


@pytest.mark.parametrize(("pairs", "count"), [(False, 5), (True, 15)])
def test_every_value_occurs_or_every_pair_in_as_few_cases_as_can_be(pairs, count):
    chosen = [GRID[place] for place in sample(GRID, pairs)]
    for size in (1, 2) if pairs else (1,):
        assert values_of(chosen, size) == values_of(GRID, size)
    assert len(chosen) == count


def test_values_take_turns_and_the_choice_is_always_the_same():
    chosen = sample(GRID)
    assert [sum(GRID[place]["a"] == a for place in chosen) for a in (0, 1)] == [3, 2]
    assert chosen == sample(GRID) == sample(list(reversed(list(reversed(GRID)))))


@pytest.mark.parametrize("cases", [[], [{"a": 0}, {"a": 1}], [{"a": 0, "b": 0}, {"a": 1, "b": 1}, {"a": 2, "b": 0}]])
def test_a_list_of_cases_is_no_grid_and_stays_whole(cases):
    assert sample(cases) == list(range(len(cases)))


def items(*marks, a=range(2), b=range(2)):
    """Tests as pytest collects them, with parameters a and (b, c)."""
    marks = [pytest.mark.parametrize(("b", "c"), []).mark, pytest.mark.parametrize("a", []).mark, *marks]
    return [
        SimpleNamespace(
            nodeid=f"tests/test_x.py::test_y[{i}-{j}]",
            callspec=SimpleNamespace(params={"a": i, "b": 7, "c": j}),
            iter_markers=lambda name: [mark for mark in marks if mark.name == name],
            get_closest_marker=lambda name: next((mark for mark in marks if mark.name == name), None),
            added=(added := []),
            add_marker=added.append,
        )
        for i, j in itertools.product(a, b)
    ]


def case_of(item):
    return item.nodeid.partition("[")[2][:-1]


@pytest.mark.parametrize(
    ("marks", "out", "slow"),
    [
        ([], [], []),
        ([pytest.mark.grid.mark], ["0-1", "1-0"], ["1-1"]),
        ([pytest.mark.grid(pairs=True).mark], [], ["0-1", "1-0", "1-1"]),
        ([pytest.mark.nightly.mark], ["0-0", "0-1", "1-0", "1-1"], []),
    ],
)
def test_what_is_left_out_until_the_night_and_what_is_slow(marks, out, slow, monkeypatch):
    monkeypatch.setattr(module, "NIGHTLY", False)
    given = items(*marks)
    assert [case_of(item) for item in left_out(given, ["tests"])] == out
    assert [case_of(item) for item in given if item.added == [pytest.mark.slow]] == slow
    assert not {item.nodeid for item in left_out(given, [given[1].nodeid])} & {given[1].nodeid}  # somebody asks for it
    monkeypatch.setattr(module, "NIGHTLY", True)
    assert left_out(given, ["tests"]) == []
