"""The Triton baseline against torch, in Triton's interpreter, which needs no GPU."""

import os

import pytest
import torch

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported
pytest.importorskip("triton", reason="triton is not installed; a torch of CUDA brings it")

from benchmarks.gpu.triton_bitmask import Bitmask


@pytest.mark.parametrize(
    ("n", "k", "m", "density"), [(16, 64, 1, 0.5), (37, 300, 2, 0.125), (8, 1000, 8, 0.0625), (5, 33, 4, 1.0), (6, 256, 1, 0.0)]
)
def test_products(n, k, m, density):
    torch.manual_seed(0)
    weight, x = torch.randn(n, k) * (torch.rand(n, k) < density), torch.randn(m, k)
    encoded = Bitmask(weight)
    torch.testing.assert_close(encoded.clone().times(x), x @ weight.T, rtol=1e-5, atol=1e-5)
    assert encoded.nbytes == 4 * n * -(-k // 32) + 4 * int((weight != 0).sum()) + 8 * n
