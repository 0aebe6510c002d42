"""Attention of a few queries against float64, with masks at both ends, heads that share keys, and any length."""

import ml_dtypes  # noqa: F401 - numpy knows bfloat16 by it
import numpy as np
import pytest
import tvm

from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import aligned
from tvm_balanced.schedules.few_queries import FewQueries, prim_func

LOW = np.finfo(np.float32).min


def attention(of, q, k, v, mask):
    """In float64; a row that is -inf throughout is 0 if it is safe."""
    q, k, v, mask = (a.astype(np.float64) for a in (q, k, v, mask))
    k, v = (np.repeat(a, of.heads // of.matrices, 1) for a in (k, v))
    scores = q @ k.swapaxes(-1, -2) * of.scale + mask
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        y = powers @ v / powers.sum(-1, keepdims=True)
    return np.nan_to_num(y) if of.safe else y


def run(of, *operands):
    func = prim_func(of)
    with host_target():
        module = tvm.compile(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), host_target())
    y = tvm.runtime.tensor(np.full((of.batch, of.heads, of.queries, of.depth), np.nan, np.float32))
    module["main"](*(tvm.runtime.tensor(aligned(a)) for a in operands), y)
    return y.numpy()


@pytest.mark.grid
@pytest.mark.parametrize(
    ("batch", "heads", "matrices", "queries", "length", "depth", "safe"),
    [(1, 4, 4, 1, 48, 64, True), (2, 6, 2, 3, 37, 16, True), (3, 2, 1, 2, 5, 32, False), (1, 16, 4, 1, 1088, 64, True)],
)
def test_it_attends_within_the_masks_of_each_row(batch, heads, matrices, queries, length, depth, safe):
    rng = np.random.default_rng(length)
    q, k, v = (
        rng.standard_normal(s).astype(np.float32)
        for s in [(batch, heads, queries, depth), *[(batch, matrices, length, depth)] * 2]
    )
    low, high = (rng.integers(1, length + 1, (batch, 1, queries, 1)) for _ in range(2))
    low = np.minimum(low, high) - 1
    keys = np.arange(length)
    mask = np.where((keys >= low) & (keys < high), rng.standard_normal(length), LOW).astype(np.float32)
    mask[0, 0, 0] = LOW if not safe else -np.inf  # all are masked
    of = FewQueries(batch, heads, queries, length, depth, matrices, mask.shape, 0.3, safe)
    want = attention(of, q, k, v, mask)
    np.testing.assert_allclose(run(of, q, k, v, mask), want, rtol=2e-5, atol=2e-6)


def test_without_a_mask_all_keys_count():
    rng = np.random.default_rng(0)
    of = FewQueries(1, 2, 1, 21, 32, 2, None, 1.0, False)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in [(1, 2, 1, 32), (1, 2, 21, 32), (1, 2, 21, 32)])
    np.testing.assert_allclose(run(of, q, k, v), attention(of, q, k, v, np.zeros(21)), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_keys_and_values_of_half_precision_are_widened_as_they_are_read(dtype):
    rng = np.random.default_rng(2)
    of = FewQueries(1, 4, 1, 21, 32, 2, None, 1.0, False, dtype)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in [(1, 4, 1, 32), (1, 2, 21, 32), (1, 2, 21, 32)])
    k, v = (a.astype(np.dtype(dtype)) for a in (k, v))
    np.testing.assert_allclose(run(of, q, k, v), attention(of, q, k, v, np.zeros(21)), rtol=2e-5, atol=2e-6)


def test_what_is_masked_at_the_ends_is_not_read():
    rng = np.random.default_rng(1)
    of = FewQueries(1, 1, 1, 96, 16, 1, (1, 1, 1, 96), 1.0, True)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in [(1, 1, 1, 16), (1, 1, 96, 16), (1, 1, 96, 16)])
    mask = np.full((1, 1, 1, 96), LOW)
    mask[..., 32:64] = 0
    want = attention(of, q, k, v, mask)
    for place in (0, 31, 64, 95):
        k[..., place, :], v[..., place, :] = np.nan, np.nan
    np.testing.assert_allclose(run(of, q, k, v, mask), want, rtol=2e-5, atol=2e-6)
