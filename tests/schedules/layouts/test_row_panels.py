import numpy as np

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.layouts.row_panels import fit_block, pad_rows


def test_a_block_that_no_count_covers_fits_no_pattern():
    assert fit_block(Detection((64, 96), 64 * 18, {16: 3}), 16, (2, 4, 6, 8)) == BalancedPattern(4, 16)
    assert fit_block(Detection((64, 96), 64 * 60, {16: 10}), 16, (2, 4, 6, 8)) is None
    assert fit_block(Detection((64, 96), 64 * 60, {16: 10}), 16, (8, 16)) is None  # which saves nothing


def test_each_group_of_rows_gets_panels_of_its_own():
    rows = np.arange(1, 61).reshape(60, 1)
    padded = pad_rows(rows, 60, groups=3).reshape(3, 32)
    np.testing.assert_array_equal(padded[:, :20], rows.reshape(3, 20))
    assert not padded[:, 20:].any()
    np.testing.assert_array_equal(pad_rows(rows, 60)[:60], rows)
