import numpy as np
import pytest
import torch

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.frontend.pruning.statistics import InputStatistics
from tvm_balanced.frontend.pruning.structures import Unstructured
from tvm_balanced.frontend.pruning.wanda import prune_matrix


def statistics(x):
    inputs = InputStatistics(x.shape[1], hessian=False)
    for part in x.split(50):
        inputs.add(part)
    return inputs


@pytest.mark.parametrize("pattern", ["2:4", "4:16", "5:24"])
def test_masks_are_those_of_the_paper(pattern):
    pattern = BalancedPattern.parse(pattern)
    torch.manual_seed(0)
    weight, x = torch.randn(12, 100), torch.randn(300, 100) * torch.rand(100) * 5
    pruned, keep = prune_matrix(weight, statistics(x), pattern)
    scores = np.abs(weight.double().numpy()) * np.linalg.norm(x.double().numpy(), axis=0)
    expected = np.zeros(weight.shape, bool)
    for start in range(0, 100, pattern.block):
        block = scores[:, start : start + pattern.block]
        best = np.argsort(-block, axis=1, kind="stable")[:, : pattern.kept(block.shape[1])]
        np.put_along_axis(expected[:, start : start + pattern.block], best, True, 1)
    np.testing.assert_array_equal(keep.numpy(), expected)
    assert torch.equal(pruned, weight * keep)


def test_without_structure_each_row_is_judged_by_itself():
    torch.manual_seed(0)
    weight = torch.randn(6, 40) * torch.logspace(-3, 3, 6)[:, None]
    _, keep = prune_matrix(weight, statistics(torch.randn(100, 40)), Unstructured(0.75))
    assert (keep.sum(1) == 10).all()
