import numpy as np
import pytest

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST
from tvm_balanced.schedules.tir.channel_tiles import CHANNELS, COLUMNS, ChannelTiles


@pytest.mark.parametrize("order", [TAPS_FIRST, CHANNELS_FIRST])
@pytest.mark.parametrize("block", [1, 4, 16, 24])
@pytest.mark.parametrize(
    ("channels", "groups", "kernel"), [(48, 1, (1, 3, 3)), (40, 2, (1, 1, 5)), (300, 1, (1, 1, 1)), (3, 1, (1, 7, 7))]
)
def test_each_column_has_a_place_of_its_own_and_no_block_two_tiles(channels, groups, kernel, block, order):
    conv = Convolution(channels, (1, 9, 9), kernel, groups=groups, order=order)
    tiles = ChannelTiles.of(conv, block)
    tile, place = tiles.places()
    assert len(set(zip(tile.tolist(), place.tolist(), strict=True))) == conv.depth * conv.taps
    assert place.max() < tiles.columns
    assert set(tile) == set(range(tiles.count))
    for start in range(0, len(tile), block):
        assert len(set(tile[start : start + block])) == 1
    assert tiles.channels == conv.depth or tiles.channels <= max(CHANNELS, COLUMNS // conv.taps, block)


def test_places_run_channel_by_channel():
    tile, place = ChannelTiles(Convolution(4, (1, 4, 4), (1, 2, 2)), 2).places()
    np.testing.assert_array_equal(tile, [0, 0, 1, 1] * 4)  # taps first: all channels of the first tap, then of the second
    np.testing.assert_array_equal(place, [0, 4, 0, 4, 1, 5, 1, 5, 2, 6, 2, 6, 3, 7, 3, 7])
