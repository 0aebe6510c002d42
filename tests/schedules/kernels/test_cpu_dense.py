import numpy as np
import pytest
from support import reference

from tvm_balanced.schedules import KERNELS

KERNEL = KERNELS["cpu_dense"]


@pytest.mark.grid
@pytest.mark.parametrize(("n", "k", "m"), [(1, 1, 1), (17, 5, 3), (64, 128, 16), (100, 33, 70), (1000, 20, 1)])
def test_shapes(n, k, m, rng):
    weight, bias = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal(n).astype(np.float32)
    x = rng.standard_normal((m, k)).astype(np.float32)
    run = reference.compile_kernel("cpu_dense", weight, None, bias, m, "relu")
    assert reference.relative_error(run(x), reference.dense(x, weight, bias, "relu")) < 1e-5


def test_layout_is_the_documented_one(rng):
    weight = rng.standard_normal((20, 6)).astype(np.float32)
    (values,) = KERNEL.pack(weight)
    bias = KERNEL.pack_bias(np.arange(20, dtype=np.float32))
    assert (values.shape, bias.shape) == ((2, 6, 16), (2, 16))
    assert values[1, 4, 3] == weight[19, 4]
    assert bias[1, 3] == 19
    assert not values[1, :, 4:].any()


def test_infinities_and_nans_come_through(rng):
    weight = rng.standard_normal((32, 40)).astype(np.float32)
    x = rng.standard_normal((4, 40)).astype(np.float32)
    x[1, 3], x[2, 5] = np.inf, np.nan
    got = reference.compile_kernel("cpu_dense", weight, None, None, 4)(x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(reference.dense(x, weight)))
    assert np.isinf(got[1]).all()
