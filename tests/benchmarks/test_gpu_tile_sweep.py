import math
import re

import pytest

from benchmarks.gpu import tile_sweep
from benchmarks.gpu.device import Absent
from benchmarks.gpu.layer import Cell
from tvm_balanced.schedules.kernels import cuda_decode_mma
from tvm_balanced.testing import opencl

H200 = Absent().target


@pytest.mark.slow
def test_every_cut_is_what_its_name_says():
    """Every tenth cut of each kernel in one cell; the kernel's own cut is restored afterwards."""
    for cell in (
        Cell(*tile_sweep.SIZE, 16, "2:16", "float16", "cuda_decode_mma"),
        Cell(*tile_sweep.SIZE, 4, "2:16", "float16", "cuda_gemv"),
    ):
        own = cuda_decode_mma._cut
        candidates = list(tile_sweep.CUTS[cell.kernel](cell, H200))
        assert len({candidate.name for candidate in candidates}) == len(candidates) > 20
        for candidate in candidates[::10]:
            parts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", candidate.name)}
            threads = 32 * parts["warps"] * parts.get("shares", parts.get("groups"))
            assert math.prod(opencl.launch(candidate.schedule(cell, H200))[1]) == threads <= tile_sweep.THREADS, candidate.name
        assert cuda_decode_mma._cut is own
