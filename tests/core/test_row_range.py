import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_balanced.core.row_range import EVERY_M, RowRange

RANGES = st.tuples(st.integers(1, 20), st.none() | st.integers(0, 20)).map(
    lambda ends: RowRange(ends[0], None if ends[1] is None else ends[0] + ends[1])
)


def members(ranges):
    return {m for rows in ranges for m in range(1, 60) if m in rows}


def test_intersect():
    assert RowRange(1, 4).intersect(RowRange(3)) == RowRange(3, 4)
    assert EVERY_M.intersect(RowRange(3)) == RowRange(3)
    assert RowRange(1, 2).intersect(RowRange(3, 4)) is None


def test_minus():
    assert EVERY_M.minus([RowRange(5, 6), RowRange(1, 1), RowRange(2, 2)]) == (RowRange(3, 4), RowRange(7))
    assert RowRange(2, 6).minus([RowRange(2, 2), RowRange(5, 6)]) == (RowRange(3, 4),)
    assert RowRange(1, 2).minus([RowRange(1, 1), RowRange(2, 2)]) == ()
    assert RowRange(9, 12).minus([]) == (RowRange(9, 12),)
    assert EVERY_M.minus([RowRange(4)]) == (RowRange(1, 3),)


@given(RANGES, RANGES)
def test_both_are_those_of_sets(a, b):
    met = a.intersect(b)
    assert members([] if met is None else [met]) == members([a]) & members([b])
    if met is not None:
        assert members(a.minus([met])) == members([a]) - members([b])


@pytest.mark.parametrize(
    ("rows", "text"),
    [(EVERY_M, "any"), (RowRange(3), "3 up"), (RowRange(1, 4), "to 4"), (RowRange(3, 4), "3 to 4"), (RowRange(2, 2), "2")],
)
def test_text(rows, text):
    assert str(rows) == text
