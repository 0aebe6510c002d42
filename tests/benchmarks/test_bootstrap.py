import numpy as np
import pytest

from benchmarks.bootstrap import estimate, geometric_mean


def test_the_interval_holds_the_median_of_a_known_distribution():
    """A 95% interval of one run of a normal distribution misses its median in about one of twenty trials."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = estimate([rng.normal(3, 1, 101)], resamples=400)
        held += found.low <= 3 <= found.high
    assert 0.9 <= held / 200 <= 0.99


def test_its_width_is_that_of_the_median():
    found = estimate([np.random.default_rng(0).normal(0, 1, 1001)])
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(np.pi / 2 / 1001), rel=0.3)


def test_runs_that_differ_widen_it():
    rng = np.random.default_rng(0)
    same = [rng.normal(2, 0.1, 31) for _ in range(3)]
    moved = [run + shift for run, shift in zip(same, (-0.5, 0, 0.5), strict=True)]
    assert (estimate(moved).high - estimate(moved).low) > 5 * (estimate(same).high - estimate(same).low)


def test_short_runs_count_like_long_ones_and_constants_have_no_width():
    assert estimate([np.full(5, 1.0), np.full(31, 1.0)]).low == 1.0
    found = estimate([np.full(5, 1.0), np.full(500, 3.0)])
    assert (found.low, found.high) == (1.0, 3.0)
    assert str(estimate([np.full(7, 1.5)])) == "1.50 (1.50 to 1.50)"


def test_geometric_mean():
    assert geometric_mean([1, 4]) == "2.00"
    assert geometric_mean([]) == "-"
