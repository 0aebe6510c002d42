import numpy as np
import pytest
from support import reference

from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_avx512_w8"]


def rounded(weight):
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    return np.rint(weight / np.where(scale > 0, scale, 1)) * scale


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize("pattern", ["1:16", "2:16", "3:16", "8:16"])
@pytest.mark.parametrize("m", [1, 9, None])
def test_computes_with_the_rounded_weight(pattern, m, rng):
    weight = reference.balanced(40, 100, P(pattern), rng)
    weight[3] = 0  # a row without a scale
    weight[5] *= 1e-20
    x = rng.standard_normal((m or 7, 100)).astype(np.float32)
    run = reference.compile_kernel("cpu_avx512_w8", weight, P(pattern), m=m)
    assert reference.relative_error(run(x), reference.dense(x, rounded(weight))) < 1e-5
    assert (run(x)[:, 3] == 0).all()


def test_bytes_a_nonzero_are_one_and_a_half(rng):
    weight = reference.balanced(64, 256, P("2:16"), rng)
    scales = 64 * 4
    assert sum(a.nbytes for a in KERNEL.pack(encode(weight, P("2:16")))) == np.count_nonzero(weight) * 1.5 + scales
