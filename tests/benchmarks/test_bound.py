import numpy as np
import pytest

from benchmarks.bound import PAIRS, SLOT_BYTES, bound
from benchmarks.cell import Cell

pytestmark = pytest.mark.avx512


def timed(cell):
    rng = np.random.default_rng(0)
    weight, x = (rng.standard_normal(shape).astype(np.float32) for shape in ((cell.n, cell.k), (cell.m, cell.k)))
    rival = bound(cell)(weight, x)
    np.testing.assert_allclose(rival.result(), x @ weight.T)
    return rival, min(float(rival(call)) for call in range(5))


@pytest.mark.parametrize("threads", [1, 2])
def test_arithmetic_grows_with_the_rows_of_x(threads):
    """This also covers the case that only a part is timed and the rest is scaled. Wide bounds: the
    machine may be busy.
    """
    (few, seconds), (many, longer) = (timed(Cell(2048, 2048, m, "4:16", threads)) for m in (4, 128))
    assert 2048 * 2048 // 4 * 4 // 16 < PAIRS < 2048 * 2048 // 4 * 128 // 16
    assert few._scale == pytest.approx(1, rel=1e-3)
    assert many._scale == pytest.approx(2048 * 2048 // 4 * 128 / 16 / PAIRS, rel=1e-3)
    assert threads > 1 or 6 < longer / seconds < 160  # other thread pools may hold a second core


def test_reading_is_of_as_many_bytes_as_the_packed_weight():
    _, seconds = timed(Cell(4096, 4096, 1, "4:16", 1))
    assert 1e9 < 4096 * 4096 / 4 * SLOT_BYTES / seconds < 1e12  # bytes a second from memory
