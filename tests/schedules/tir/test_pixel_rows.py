"""Tiles of pixels; test_cpu_conv_dense_i8.py compares what is stored with integers."""

import pytest
import tvm
from tvm import tirx

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.pixel_rows import PIXELS, PixelRows, padded_rows


@pytest.mark.parametrize(("side", "tiles"), [((1, 1, 1), 1), ((1, 3, 3), 1), ((1, 4, 4), 1), ((1, 7, 7), 4), ((1, 14, 14), 13)])
def test_tiles_cover_every_pixel_and_no_other(side, tiles):
    conv = Convolution(16, side, (1, 1, 1))
    rows = PixelRows.of(Workload("cpu_conv_dense_avx512_i8", 2 * conv.pixels, 16, 16, 1, 1, conv=conv), 16)
    assert (rows.of_image, rows.known_tiles, int(rows.batch)) == (tiles, 2 * tiles, 2)
    firsts = [int(tvm.sym.Analyzer().simplify(rows.first(tirx.IntImm("int64", tile)))) for tile in range(tiles)]
    covered = {first + i for first in firsts for i in range(PIXELS)}
    assert covered == set(range(max(conv.pixels, PIXELS)))


def test_a_symbolic_batch_has_no_known_number_of_tiles():
    conv = Convolution(16, (1, 7, 7), (1, 1, 1))
    rows = PixelRows.of(Workload("cpu_conv_dense_avx512_i8", None, 16, 16, 1, 1, conv=conv), 16)
    assert rows.known_tiles is None
    assert isinstance(rows.batch, tirx.Var)


def test_each_group_of_an_image_is_an_image_that_meets_row_panels_of_its_own():
    conv = Convolution(48, (1, 4, 4), (1, 1, 1), groups=3)
    rows = PixelRows.of(Workload("cpu_conv_dense_avx512_i8", 2 * conv.pixels, 60, 16, 1, 1, conv=conv), 16)
    assert (int(rows.images), rows.rows, rows.panels, rows.known_tiles, padded_rows(rows.workload)) == (6, 20, 2, 6, 96)
    assert [rows.panel(image, panel) for image in range(4) for panel in range(2)] == [0, 1, 2, 3, 4, 5, 0, 1]
