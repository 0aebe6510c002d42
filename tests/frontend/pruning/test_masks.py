import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.frontend.pruning.masks import keep_mask
from tvm_balanced.frontend.pruning.structures import Tiles, TwoLevel, Unstructured


@given(st.data())
def test_every_block_keeps_exactly_its_largest(data):
    block = data.draw(st.integers(1, 40))
    pattern = BalancedPattern(data.draw(st.integers(1, block)), block)
    n, k = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 90))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    torch.manual_seed(data.draw(st.integers(0, 9)))
    weight = (torch.randn(n, k) * 2).round(decimals=data.draw(st.integers(0, 2))).to(dtype)  # rounding makes many ties
    mask = keep_mask(weight, pattern).numpy()
    magnitude = weight.float().abs().numpy()
    for start in range(0, k, block):
        width = min(block, k - start)
        for row in range(n):
            order = np.argsort(-magnitude[row, start : start + width], kind="stable")  # of equal magnitudes the first stays
            expected = np.zeros(width, bool)
            expected[order[: pattern.kept(width)]] = True
            np.testing.assert_array_equal(mask[row, start : start + width], expected)


@given(st.sampled_from([2, 4, 8]), st.integers(1, 70), st.integers(0, 9))
def test_a_pattern_within_another_keeps_both(nnz, k, seed):
    """Exactly as many of every 16, and of every 4 at most two: of those, the largest, zeros of the weight included."""
    torch.manual_seed(seed)
    inner, outer = BalancedPattern(2, 4), BalancedPattern(nnz, 16)
    weight = torch.randn(3, k).round()
    mask, among = keep_mask(weight, TwoLevel(outer, inner)), keep_mask(weight, inner)
    assert not (mask & ~among).any()
    for start in range(0, k, 16):
        width = min(16, k - start)
        kept, left = (part[:, start : start + width] for part in (mask, among & ~mask))
        assert (kept.sum(1) == outer.kept(width)).all()
        magnitude = weight[:, start : start + width].abs()
        largest_left = magnitude.masked_fill(~left, -1).amax(1)
        assert (magnitude.masked_fill(~kept, torch.inf).amin(1) >= largest_left).all()


@given(st.integers(1, 20), st.integers(1, 40), st.floats(0, 0.99), st.integers(0, 9))
def test_without_structure_exactly_a_share_goes(n, k, sparsity, seed):
    torch.manual_seed(seed)
    weight = torch.randn(n, k).round()  # with many ties
    mask = keep_mask(weight, Unstructured(sparsity))
    assert int((~mask).sum()) == round(n * k * sparsity)
    if mask.any() and not mask.all():
        assert weight.abs()[mask].min() >= weight.abs()[~mask].max()


def test_tiles_go_whole():
    torch.manual_seed(0)
    weight = torch.randn(20, 30)
    mask = keep_mask(weight, Tiles(8, 4, 0.5))
    energy = {}
    for i in range(0, 20, 8):
        for j in range(0, 30, 4):
            tile = mask[i : i + 8, j : j + 4]
            assert tile.all() or not tile.any()
            energy[float(weight[i : i + 8, j : j + 4].square().sum())] = bool(tile.any())
    kept = [e for e, stays in energy.items() if stays]
    assert len(kept) == 12  # of 24
    assert min(kept) > max(e for e, stays in energy.items() if not stays)


@pytest.mark.parametrize("structure", [Unstructured(0.75), Tiles(8, 8, 0.75)])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (0, 8), (3, 5)])
def test_a_weight_of_one_part_goes_or_stays_whole(structure, shape):
    """The share is rounded to whole elements, or whole tiles, which may be all or none of them."""
    mask = keep_mask(torch.randn(*shape), structure)
    assert mask.shape == shape
    parts = mask.numel() if isinstance(structure, Unstructured) else min(1, mask.numel())
    assert int(mask.sum()) * parts == (parts - round(parts * 0.75)) * mask.numel()
    assert keep_mask(torch.randn(*shape), Tiles(8, 8, 0.25)).all()


@pytest.mark.slow
def test_a_large_weight_takes_under_five_seconds():
    torch.manual_seed(0)
    weight = torch.randn(16384, 8192)
    start = time.thread_time()
    mask = keep_mask(weight, BalancedPattern(2, 16))
    assert time.thread_time() - start < 5  # of the CPU: what else runs does not count
    assert int(mask.sum()) == 16384 * 8192 // 8
