"""Against the papers written out in float64: the inverse of what is left of the Hessian is taken anew at every column."""

import numpy as np
import pytest
import torch

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import WeightError
from tvm_balanced.frontend.pruning.masks import keep_mask
from tvm_balanced.frontend.pruning.sparsegpt import columns_at_once, prune_matrix
from tvm_balanced.frontend.pruning.statistics import DAMPING, InputStatistics, inverse_factor
from tvm_balanced.frontend.pruning.structures import Tiles, Unstructured


def correlated(rows, k, seed=0):
    torch.manual_seed(seed)
    return torch.randn(rows, k) @ (torch.randn(k, k) / k**0.5 + torch.eye(k))


def statistics(x):
    inputs = InputStatistics(x.shape[1], hessian=True)
    inputs.add(x)
    return inputs


def reference(weight, x, pattern):
    """Optimal brain surgeon, column by column: w[j:] -= w[j] / inv[0, 0] * inv[0], with inv of H[j:, j:]."""
    weight, x = weight.double().numpy().copy(), x.double().numpy()
    hessian = x.T @ x
    hessian += DAMPING * np.diag(hessian).mean() * np.eye(len(hessian))
    inverses = [np.linalg.inv(hessian[j:, j:]) for j in range(len(hessian))]
    keep = np.zeros(weight.shape, bool)
    for j, inverse in enumerate(inverses):
        if j % pattern.block == 0:
            stop = min(j + pattern.block, weight.shape[1])
            saliency = weight[:, j:stop] ** 2 / np.array([inverses[i][0, 0] for i in range(j, stop)])
            best = np.argsort(-saliency, axis=1, kind="stable")[:, : pattern.kept(stop - j)]
            np.put_along_axis(keep[:, j:stop], best, True, 1)
        error = np.where(keep[:, j], 0, weight[:, j] / inverse[0, 0])
        weight[:, j:] -= error[:, None] * inverse[0]
        weight[~keep[:, j], j] = 0
    return weight, keep


@pytest.mark.parametrize("pattern", ["2:4", "4:16", "1:16", "5:24"])
@pytest.mark.parametrize("k", [48, 150])  # one and two runs of columns, with and without a tail
def test_masks_and_weights_are_those_of_the_paper(pattern, k):
    pattern = BalancedPattern.parse(pattern)
    weight, x = torch.randn(12, k, generator=torch.Generator().manual_seed(1)), correlated(400, k)
    pruned, keep = prune_matrix(weight, statistics(x), pattern)
    expected, mask = reference(weight, x, pattern)
    np.testing.assert_array_equal(keep.numpy(), mask)
    np.testing.assert_allclose(pruned.numpy(), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(pruned != 0, keep)


def test_the_weight_given_is_not_changed():
    weight = torch.randn(4, 32)
    before = weight.clone()
    prune_matrix(weight, statistics(correlated(100, 32)), BalancedPattern(2, 16))
    assert torch.equal(weight, before)


@pytest.mark.parametrize("structure", [Unstructured(0.75), Tiles(4, 8, 0.5), Tiles(8, 1, 0.5)])
def test_other_structures_lose_less_than_by_magnitude(structure):
    torch.manual_seed(0)
    weight, x = torch.randn(32, 256), correlated(600, 256)
    inputs = statistics(x)
    pruned, keep = prune_matrix(weight, inputs, structure)
    assert float((~keep).float().mean()) == structure.sparsity
    assert inputs.lost(weight, pruned)[0] < inputs.lost(weight, weight * keep_mask(weight, structure))[0]


def test_inputs_that_are_always_zero_leave_the_choice_to_magnitudes():
    x = correlated(100, 32)
    x[:, 16:] = 0
    weight = torch.randn(4, 32)
    pruned, keep = prune_matrix(weight, statistics(x), BalancedPattern(2, 16))
    best = weight[:, 16:].abs().topk(2, dim=1).indices.sort(dim=1).values
    assert torch.equal(keep[:, 16:].nonzero()[:, 1].reshape(4, 2), best)
    assert torch.equal(pruned[:, 16:][keep[:, 16:]], weight[:, 16:][keep[:, 16:]])


def test_all_zero_inputs_and_fewer_rows_than_columns_can_be_factored():
    weight = torch.randn(4, 64)
    for x in (torch.zeros(3, 64), torch.randn(3, 64), torch.ones(500, 64)):
        pruned, keep = prune_matrix(weight, statistics(x), BalancedPattern(2, 16))
        assert torch.isfinite(pruned).all()
        assert (keep.reshape(4, 4, 16).sum(2) == 2).all()


def test_a_hessian_that_is_not_finite_is_refused():
    with pytest.raises(WeightError, match="NaN or infinity"):
        inverse_factor(torch.full((4, 4), float("inf")))


@pytest.mark.parametrize(
    ("structure", "columns"), [(BalancedPattern(2, 16), 128), (BalancedPattern(2, 100), 200), (Tiles(8, 5, 0.5), 130)]
)
def test_columns_are_pruned_in_whole_blocks(structure, columns):
    assert columns_at_once(structure) == columns
