import numpy as np
import pytest

from tvm_balanced.schedules.layouts.rounded_weight import round_weight


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 4)])
def test_rows_are_multiples_of_their_own_step(shape, rng):
    weight = rng.standard_normal(shape).astype(np.float32) * 10.0 ** np.arange(5).reshape(5, *[1] * (len(shape) - 1))
    weight = weight.astype(np.float32)
    weight[2] = 0
    numbers, scales, totals = round_weight(weight)
    rows, flat = numbers.reshape(5, -1), weight.reshape(5, -1)
    assert (numbers.dtype, scales.dtype, totals.dtype) == (np.int8, np.float32, np.int32)
    assert (np.abs(rows).max(axis=1) == [127, 127, 0, 127, 127]).all()
    assert (np.abs(rows * scales[:, None].astype(float) - flat) <= 0.501 * scales[:, None]).all()
    np.testing.assert_array_equal(totals, rows.sum(axis=1))
