import pytest
import tvm
from tvm.s_tir import Schedule

from tvm_balanced.core.caches import LARGE_BYTES
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.tir.tiling import TOGETHER_BYTES, TOGETHER_BYTES_LARGE, Tiles, default_tiling, schedule_tiles

KIB = 1 << 10


@pytest.mark.parametrize(
    ("size", "tiles", "groups", "tile"),
    [
        (8, 1, 64, Tiles(4, 4, 1)),
        (1, 1, 64, Tiles(1, 4, 1)),
        (4, None, 24, Tiles(4, 4, 1)),
        (8, 1, 1, Tiles(8, 1, 1)),
        (5, 1, 4, Tiles(5, 2, 2)),
        (7, 1, 2, Tiles(7, 2, 1)),
        (8, 16, 48, Tiles(8, 2, 2)),
        (8, 16, 96, Tiles(8, 2, 4)),
    ],
)
def test_default_tiles(size, tiles, groups, tile):
    assert default_tiling(size, tiles, groups, 64 * KIB) == tile


def test_weights_that_are_computed_together_fit_the_cache():
    for group_bytes in (1, 3 * KIB, 100 * KIB, 10 << 20):
        tiles = default_tiling(8, 16, 96, group_bytes)
        assert 96 % (tiles.groups * tiles.together) == 0
        most = TOGETHER_BYTES_LARGE if 96 * group_bytes >= LARGE_BYTES else TOGETHER_BYTES
        assert tiles.together == 1 or tiles.groups * tiles.together * group_bytes <= most


@pytest.mark.parametrize("tiles", [Tiles(8, 2, 1), Tiles(4, 4, 2), Tiles(1, 1, 16), Tiles(2, 8, 1)])
def test_every_schedule_records_the_same_decisions(tiles):
    """A recorded trace replays on the same function only if the number and kind of its instructions match."""
    workload = Workload("cpu_avx512", 24, 256, 64, 2, 16)
    sch = Schedule(KERNELS["cpu_avx512"].prim_func(workload))
    schedule_tiles(sch, tiles, unroll=1)
    decisions = [[int(d) for d in decision] for decision in sch.trace.decisions.values()]
    assert decisions == [[8 // tiles.rows, tiles.rows], [16 // tiles.groups // tiles.together, tiles.together, tiles.groups]]
    again = Schedule(KERNELS["cpu_avx512"].prim_func(workload))
    sch.trace.apply_to_schedule(again, remove_postproc=False)
    tvm.ir.assert_structural_equal(again.mod, sch.mod)
