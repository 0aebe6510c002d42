"""The matrix that a layer's weight is pruned, detected and packed as."""

import math
from typing import Any

TAPS_FIRST = "kernel, in"  # K in the order (kh, kw, in): a block of the pattern lies in one tap of the kernel
CHANNELS_FIRST = "in, kernel"  # K in the order (in, kh, kw), as PyTorch stores it


def weight_matrix(weight: Any, order: str = TAPS_FIRST) -> Any:
    """Return the weight of a dense layer or a convolution as a matrix (N, K).

    Parameters
    ----------
    weight : array or torch.Tensor (out, in, *kernel)
        (N, K) of a dense layer, which is returned as it is; (out, in, kh, kw) of a convolution in two dimensions.
    order : str
        TAPS_FIRST or CHANNELS_FIRST: how K runs over a convolution's taps and channels.

    Returns
    -------
    array or torch.Tensor (out, K)
        A view if the order is that of memory, else a copy.
    """
    if len(weight.shape) == 2:
        return weight
    if order == TAPS_FIRST:
        weight = _permute(weight, (0, *range(2, len(weight.shape)), 1))
    return weight.reshape(weight.shape[0], -1)


def from_weight_matrix(matrix: Any, shape: tuple[int, ...], order: str = TAPS_FIRST) -> Any:
    """Return a matrix (N, K) of `weight_matrix` in the weight's own shape (out, in, *kernel)."""
    if matrix.shape[0] != shape[0] or matrix.shape[1] != math.prod(shape[1:]):
        raise ValueError(f"a matrix of {tuple(matrix.shape)} is no weight of {shape}")
    if len(shape) == 2 or order == CHANNELS_FIRST:
        return matrix.reshape(shape)
    taps_first = matrix.reshape(shape[0], *shape[2:], shape[1])
    return _permute(taps_first, (0, len(shape) - 1, *range(1, len(shape) - 1)))


def _permute(weight: Any, axes: tuple[int, ...]) -> Any:
    return weight.permute(axes) if hasattr(weight, "permute") else weight.transpose(axes)
