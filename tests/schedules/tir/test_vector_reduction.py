import numpy as np
import pytest
from support.operators import function, run
from tvm import topi

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.schedules.rules.cpu_rowwise import CPU_ROWWISE
from tvm_balanced.schedules.tir.vector_reduction import widths


@pytest.mark.parametrize(
    ("width", "length", "counts"),
    [
        (16, 384, [64, 16, 4]),
        (16, 128, [64, 16, 4]),
        (16, 112, [16, 4]),
        (16, 144, [16, 4]),
        (16, None, [16, 4]),
        (8, 64, [32, 8, 4]),
        (4, 64, [16, 4]),
        (4, 12, [4]),
    ],
)
def test_widths(width, length, counts):
    assert widths(width, length) == counts


@pytest.mark.grid
@pytest.mark.parametrize("target", ["cpu", "cpu/x86-64-v3", "cpu/x86-64-v2"])
@pytest.mark.parametrize("length", [32, 48, 112, 128, 640])
def test_sums_and_maxima_of_any_length(target, length, rng):
    """Rows differ by thousands, so that a wrong initial value or a missing partial result is detected."""
    x = rng.standard_normal((5, length)).astype(np.float32) - 3000 * np.arange(1, 6, dtype=np.float32)[:, None]
    func, _ = function(lambda a: topi.subtract(topi.max(a, -1), topi.sum(topi.multiply(a, 1e-3), -1)), (5, length))
    scheduled = CPU_ROWWISE.schedule(func, parse_target(target))
    exact = x.astype(np.float64).max(-1) - (x * np.float32(1e-3)).astype(np.float64).sum(-1)
    np.testing.assert_allclose(run(scheduled, [x], [5]), exact, rtol=2e-6)
