import numpy as np
import pytest
import torch
from support import reference
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_avx512_w16"]


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize("pattern", ["1:16", "2:16", "3:16", "8:16"])
@pytest.mark.parametrize("m", [1, 9, None])
def test_computes_with_the_rounded_weight(pattern, m, rng):
    """Only the weight is rounded: relative to the rounded weight, the result is as exact as float32."""
    weight = reference.balanced(40, 100, P(pattern), rng)
    x = rng.standard_normal((m or 7, 100)).astype(np.float32)
    run = reference.compile_kernel("cpu_avx512_w16", weight, P(pattern), m=m)
    assert reference.relative_error(run(x), reference.dense(x, reference.rounded(weight, "bfloat16"))) < 1e-5


def test_bytes_a_nonzero_are_two_and_a_half(rng):
    weight = reference.balanced(64, 256, P("2:16"), rng)
    assert sum(a.nbytes for a in KERNEL.pack(encode(weight, P("2:16")))) == np.count_nonzero(weight) * 2.5


@pytest.mark.avx512
@pytest.mark.parametrize("name", ["cpu_avx512_w16", "cpu_avx512_w8"])
def test_taken_only_where_it_is_named(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32)).eval()
    tb.prune(model, "2:16")
    x = torch.randn(4, 64)
    assert {layer.kernel for layer in tb.compile(model, (x,)).report.layers} == {"cpu_avx512"}
    module = tb.compile(model, (x,), kernels={"*": name})
    assert {layer.kernel for layer in module.report.layers} == {name}
    assert 0 < module.facts.max_error < KERNELS[name].tolerance
