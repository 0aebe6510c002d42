import numpy as np
import pytest
import torch
from support import reference
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.encoding import EncodedWeight, encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import ToleranceError
from tvm_balanced.schedules import KERNELS
from tvm_balanced.schedules.kernels.cpu_avx512_w4 import stored_values

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_avx512_w4"]


def stored(weight, pattern):
    """The weight that the packed words say, read as the docstring draws them."""
    encoded = encode(weight, P(pattern))
    words = KERNEL.pack(encoded)[0].view(np.uint32)
    n, slots = len(weight), encoded.values[0].size
    values = np.zeros((n, slots), np.float64)
    count = words.shape[1] * 16 // 17  # of words with values
    for row in range(n):
        mine = words[row // 16, :, row % 16]
        for slot in range(slots):
            nibble = int(mine[slot // 8]) >> 4 * (slot % 8) & 15
            group = slot // 64
            half = int(mine[count + group // 2]) >> 16 * (group % 2) & 0xFFFF
            scale = np.array(half << 16, np.uint32).view(np.float32)
            values[row, slot] = (nibble - 16 if nibble > 7 else nibble) * float(scale)
    return EncodedWeight(values.reshape(encoded.values.shape), encoded.indices, encoded.pattern, weight.shape[1]).decode()


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize(("pattern", "k"), [("4:16", 1024), ("1:16", 100), ("3:16", 300), ("12:16", 200)])
@pytest.mark.parametrize("m", [1, 9, None])
def test_computes_with_the_stored_weight(pattern, k, m, rng):
    weight = reference.balanced(20, k, P(pattern), rng)
    weight[3] = 0  # a row without a scale
    weight[5] *= 1e-20
    x = rng.standard_normal((m or 7, k)).astype(np.float32)
    run = reference.compile_kernel("cpu_avx512_w4", weight, P(pattern), m=m)
    assert reference.relative_error(run(x), reference.dense(x, stored(weight, pattern))) < 1e-5
    assert (run(x)[:, 3] == 0).all()


def test_what_a_probe_computes_with_is_what_is_stored(rng):
    for pattern, k in (("4:16", 1024), ("3:16", 300), ("1:16", 100)):
        weight = reference.balanced(20, k, P(pattern), rng)
        weight[3] = 0
        np.testing.assert_array_equal(stored_values(encode(weight, P(pattern))).decode(), stored(weight, pattern))


def test_values_lose_at_most_a_step_and_no_nonzero_becomes_0(rng):
    weight = reference.balanced(32, 1024, P("4:16"), rng)
    weight[:, :16] *= 1e-3  # far below the scale of their group
    kept = stored(weight, "4:16")
    assert (np.sign(kept) == np.sign(weight)).all()
    ordinary = weight[:, 256:]  # of groups that have none of these
    assert np.linalg.norm(kept[:, 256:] - ordinary) < 0.13 * np.linalg.norm(ordinary)
    assert np.abs(kept[:, 256:] - ordinary).max() < np.abs(ordinary).max() / 7 * 2


def test_a_weight_of_4_of_16_takes_two_bits(rng):
    weight = reference.balanced(64, 1024, P("4:16"), rng)
    bits = sum(a.nbytes for a in KERNEL.pack(encode(weight, P("4:16")))) * 8 / weight.size
    print(f"{bits:.2f} bits a weight at 4:16")
    assert bits == 2 + 16 / 64 / 4


@pytest.mark.avx512
def test_it_is_taken_where_it_is_named(rng):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(256, 128)).eval(), torch.randn(1, 256)
    tb.prune(model, "4:16")
    module = tb.compile(model, (x,), kernels={"*": "cpu_avx512_w4"}, threads=1)
    assert [layer.kernel for layer in module.report.layers] == ["cpu_avx512_w4"]
    with torch.no_grad():
        want = model(x)
    assert 1e-4 < float((module(x) - want).norm() / want.norm()) < 0.15
    free = tb.compile(model, (x,), precision="int8", max_loss=0.05, threads=1)
    assert "cpu_avx512_w4" not in {layer.kernel for layer in free.report.layers}


@pytest.mark.avx512
@pytest.mark.slow
def test_a_precision_takes_it_within_its_budget():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(256, 128)).eval(), torch.randn(1, 256)
    tb.prune(model, "4:16")
    asked = tb.compile(model, (x,), precision="int4", max_loss=0.2, threads=1)
    with torch.no_grad():
        want = model(x)
    assert [layer.kernel for layer in asked.report.layers] == ["cpu_avx512_w4"]
    assert asked.report.precision.loss == pytest.approx(float((asked(x) - want).norm() / want.norm()), rel=1e-4)
    assert asked.report.layers[0].bits == 2 + 32 / 256  # a word for the one or two scales of 64 slots
    assert "rounded layers take 2.12 bits" in asked.report.title
    with pytest.raises(ToleranceError, match="int4 loses"):
        tb.compile(model, (x,), precision="int4", max_loss=0.01, threads=1)
