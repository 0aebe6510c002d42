"""The layout; results are compared in test_cpu_conv_sparse.py, with those of the sparse kernel."""

import numpy as np
import pytest

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules import CONV_DENSE_KERNELS
from tvm_balanced.schedules.kernels.cpu_conv_dense import panel_rows

KERNEL = CONV_DENSE_KERNELS[1]


def test_layout_is_the_documented_one(rng):
    """values[t, p, c, r] is what row 4 p + r has at place c of tile t, channel by channel."""
    conv = Convolution(40, (1, 8, 8), (1, 3, 3))
    weight = rng.standard_normal((6, 360)).astype(np.float32)
    (values,) = KERNEL.pack(weight, conv)
    assert values.shape == (3, 2, 144, 4)
    by_tap = weight.reshape(6, 9, 40)
    for tile, panel, place, row in ((0, 0, 0, 0), (1, 1, 50, 1), (2, 0, 71, 3)):
        assert values[tile, panel, place, row] == by_tap[panel * 4 + row, place % 9, tile * 16 + place // 9]
    assert not values[2, :, 72:].any()  # there are 8 channels in the last tile
    assert not values[:, 1, :, 2:].any()


@pytest.mark.parametrize(("groups", "n", "rows"), [(1, 7, 4), (8, 8, 1), (2, 12, 3), (2, 20, 2), (2, 16, 4)])
def test_rows_of_a_panel_are_of_one_group(groups, n, rows):
    assert panel_rows(Convolution(8, (1, 4, 4), (1, 3, 3), groups=groups), n) == rows
