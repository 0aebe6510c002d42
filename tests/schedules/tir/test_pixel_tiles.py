import itertools

import numpy as np
import pytest

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir.image_patches import row_pitch
from tvm_balanced.schedules.tir.pixel_tiles import LONGEST, WHOLE, PixelTiles

SIZES = [(1, 7, 7), (1, 14, 14), (1, 56, 56), (1, 5, 300), (3, 4, 19), (1, 1, 3), (1, 1, 784)]


def candidates(size, lanes):
    conv = Convolution(4, size, (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1))
    return conv, PixelTiles.candidates(conv, row_pitch(conv), lanes, 6), PixelTiles.aligned(conv, lanes, 6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lanes", [4, 16])
def test_tiles_cover_the_result_and_stay_inside(size, lanes):
    conv, plain, aligned = candidates(size, lanes)
    assert plain
    for tiles in plain[:: len(plain) // 4 + 1] + aligned[:: len(aligned) // 4 + 1]:
        covered = np.zeros(conv.outputs, bool)
        for tile in range(tiles.count):
            depth, row, column = (int(part) for part in tiles.place(int64(tile)))
            assert row + tiles.rows <= conv.outputs[1]
            assert column + tiles.columns <= conv.outputs[2]
            covered[depth, row : row + tiles.rows, column : column + tiles.columns] = True
        assert covered.all()
        assert tiles.lanes_used <= tiles.lanes_padded < tiles.lanes_used + tiles.vectors * lanes


@pytest.mark.parametrize("size", SIZES)
def test_aligned_rows_begin_where_no_half_of_a_vector_crosses_a_line(size):
    _, _, aligned = candidates(size, 16)
    assert aligned
    for tiles in aligned:
        assert tiles.pitch % WHOLE == 0
        assert tiles.columns <= tiles.pitch < tiles.columns + WHOLE
        assert tiles.chunks == 1
        assert tiles.vectors <= 6


def test_exact_tiles_have_no_vector_past_the_last_column():
    conv = Convolution(4, (1, 1, 784), (1, 1, 1))
    exact = PixelTiles.candidates(conv, 784, 16, 24, exact=True)
    assert exact
    for tiles, tile in itertools.product(exact, range(3)):
        assert tiles.columns == tiles.lanes_padded <= max(LONGEST, tiles.vectors * 16)
        assert int(tiles.place(int64(min(tile, tiles.count - 1)))[2]) + tiles.lanes_padded <= 784
