import numpy as np
import torch
from support import eight_bits
from torch import nn

from benchmarks.weight_scales import rounded_rows, rounded_weight, rounding


def test_rounds_as_the_kernels_do(rng):
    x, weight = eight_bits.on_steps(5, 96, rng), rng.standard_normal((7, 96)).astype(np.float32)
    (rows, step, zero), (values, scales) = eight_bits.rounded_rows(x), eight_bits.rounded_weight(weight)
    np.testing.assert_allclose(rounded_rows(torch.as_tensor(x)), (rows - zero) * step, rtol=1e-5)
    np.testing.assert_allclose(rounded_weight(torch.as_tensor(weight), None), values * scales[:, None], rtol=1e-5)


def test_a_group_has_a_scale_of_its_own(rng):
    weight = rng.standard_normal((7, 96)).astype(np.float32)
    weight[:, :64] *= 1000
    got = rounded_weight(torch.as_tensor(weight), 64).numpy()
    for columns in (slice(0, 64), slice(64, 96)):
        values, scales = eight_bits.rounded_weight(weight[:, columns])
        np.testing.assert_allclose(got[:, columns], values * scales[:, None], rtol=1e-5)


def test_a_model_is_exact_again_afterwards():
    model, x = nn.Sequential(nn.Linear(16, 8)), torch.randn(3, 16)
    want = model(x)
    with rounding(model, None, weights=True, rows=True):
        assert (model(x) - want).abs().max() > 0
    assert torch.equal(model(x), want)
