import numpy as np
import pytest
import torch

from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST, from_weight_matrix, weight_matrix


@pytest.mark.parametrize("order", [TAPS_FIRST, CHANNELS_FIRST])
@pytest.mark.parametrize("shape", [(3, 5), (4, 6, 3), (4, 6, 3, 2), (2, 3, 2, 2, 2)])
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["NumPy", "PyTorch"])
def test_it_comes_back(shape, order, make, rng):
    weight = make(rng.standard_normal(shape))
    matrix = weight_matrix(weight, order)
    assert tuple(matrix.shape) == (shape[0], int(np.prod(shape[1:])))
    np.testing.assert_array_equal(from_weight_matrix(matrix, shape, order), weight)


def test_a_row_runs_over_channels_tap_by_tap(rng):
    weight = rng.standard_normal((2, 16, 3, 3))
    np.testing.assert_array_equal(weight_matrix(weight)[1, 16 * 5 : 16 * 6], weight[1, :, 1, 2])
    np.testing.assert_array_equal(weight_matrix(weight, CHANNELS_FIRST)[1, 9 * 5 : 9 * 6], weight[1, 5].reshape(-1))


def test_a_convolution_is_this_matrix_over_its_patches(rng):
    weight, image = torch.randn(4, 6, 3, 3), torch.randn(1, 6, 5, 5)
    patches = image.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 4, 5, 1).reshape(9, -1)
    want = torch.nn.functional.conv2d(image, weight).reshape(4, 9).T
    torch.testing.assert_close(patches @ weight_matrix(weight).T, want)


def test_a_dense_weight_is_itself(rng):
    weight = rng.standard_normal((3, 5))
    assert weight_matrix(weight) is weight


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="no weight of"):
        from_weight_matrix(np.zeros((4, 8)), (4, 3, 3))
