from tvm_balanced.core.detection import Detection
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.layouts.row_panels import fit_block


def test_a_block_that_no_count_covers_fits_no_pattern():
    assert fit_block(Detection((64, 96), 64 * 18, {16: 3}), 16, (2, 4, 6, 8)) == BalancedPattern(4, 16)
    assert fit_block(Detection((64, 96), 64 * 60, {16: 10}), 16, (2, 4, 6, 8)) is None
    assert fit_block(Detection((64, 96), 64 * 60, {16: 10}), 16, (8, 16)) is None  # which saves nothing
