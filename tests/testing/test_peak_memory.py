"""Memory that is taken and given back counts in the peak, and no longer once the peak begins anew."""

import numpy as np

from tvm_balanced.testing.peak_memory import peak, peak_memory, reset_peak

TAKEN = 64 << 20


def test_what_is_taken_and_given_back_counts():
    with peak_memory() as found:
        assert np.ones(TAKEN // 8).sum() == TAKEN // 8
    assert TAKEN * 0.9 < found[0] < TAKEN * 1.5


def test_a_peak_begins_anew():
    assert np.ones(TAKEN // 8).sum() == TAKEN // 8
    before = peak()
    reset_peak()
    assert peak() < before - TAKEN // 2
