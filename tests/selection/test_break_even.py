import numpy as np
import pytest

from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.selection.break_even import ROWS, WORTH, divide, sample

# (seconds of a call, seconds of a row) of made-up kernels
OVERHEAD = {"dense": (99.5, 1.0), "decode": (10, 10.0), "middle": (40, 2.0), "useless": (200, 20.0)}


def seconds(offer, m):
    fixed, each = OVERHEAD[offer]
    return fixed + each * m


def test_each_range_of_rows_gets_its_fastest_kernel():
    parts = divide(seconds, ["decode", "middle", "useless"], "dense", EVERY_M, 3)
    assert [offer for _, offer in parts] == ["decode", "middle", "dense"]
    # 10 + 10 m = 40 + 2 m at 3.75, 40 + 2 m = 99.5 + m at 59.5
    assert [first for first, _ in parts] == [1, 4, 60]
    for m in range(1, 200):
        taken = [offer for first, offer in parts if first <= m][-1]
        assert seconds(taken, m) == min(seconds(offer, m) for offer in OVERHEAD)


def test_a_copy_that_is_not_worth_it_is_not_kept():
    times = {"dense": 2.0, "a": 1.0, "b": 1.0}
    slower = WORTH - 0.01

    def nearly(offer, m):
        return times[offer] * (slower if offer == ("a" if m > 8 else "b") else 1)

    assert len(divide(nearly, ["a", "b"], "dense", EVERY_M, 3)) == 1
    slower = WORTH + 0.01
    assert divide(nearly, ["a", "b"], "dense", EVERY_M, 3) == [(1, "a"), (9, "b")]


def test_one_copy_is_sparse_only_where_it_wins_everywhere():
    assert divide(seconds, ["decode", "middle"], "dense", EVERY_M, 1) == [(1, "dense")]
    assert divide(seconds, ["decode", "middle"], "dense", RowRange(1, 8), 1) == [(1, "middle")]
    assert divide(seconds, ["middle"], "dense", RowRange(1, 59), 1) == [(1, "middle")]
    assert divide(seconds, ["middle"], "dense", RowRange(1, 61), 1) == [(1, "dense")]


def test_a_sparse_kernel_that_ends_up_as_fast_as_dense_needs_no_copy_of_it():
    def bound_alike(offer, m):
        return max(1.0 if offer == "sparse" else 4.0, 0.1 * m)

    assert divide(bound_alike, ["sparse"], "dense", EVERY_M, 3) == [(1, "sparse")]
    assert divide(bound_alike, ["sparse"], "dense", RowRange(64), 3) == [(64, "dense")]  # where nothing is gained


@pytest.mark.parametrize("rows", [RowRange(128), RowRange(64, 64), RowRange(100, 4096)])
def test_rows_that_never_come_take_no_copy(rows):
    assert divide(seconds, ["decode", "middle"], "dense", rows, 3) == [(rows.first, "dense")]


def test_no_sparse_kernel_is_slower_than_dense_at_any_m_it_gets(rng):
    """Over kernels of random overheads and rates, whose times are steps: a tile of rows costs as much part empty."""
    for _ in range(50):
        made = {
            name: (rng.uniform(1, 200), rng.uniform(0.5, 20), int(rng.choice([1, 2, 4, 8, 16]))) for name in ("dense", *"abc")
        }

        def drawn(offer, m, made=made):
            fixed, each, tile = made[offer]
            return fixed + each * -(-m // tile) * tile

        parts = divide(drawn, ["a", "b", "c"], "dense", RowRange(1, 4096), 3)
        firsts = [first for first, _ in parts]
        assert firsts == sorted(set(firsts))
        assert len({offer for _, offer in parts}) == len(parts)
        for m in [*range(1, 65), *sample(RowRange(65, 4096))]:
            offer = parts[int(np.searchsorted(firsts, m, "right")) - 1][1]
            assert drawn(offer, m) <= drawn("dense", m)


def test_sampled_rows_have_both_ends():
    assert set(ROWS) | set(range(1, 65)) == set(sample(EVERY_M))
    assert sample(RowRange(7, 100))[:2] == [7, 8]
    assert sample(RowRange(7, 100))[-1] == 100
    assert sample(RowRange(5000)) == [5000]
    assert sample(RowRange(64, 64)) == [64]
