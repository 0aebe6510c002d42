"""Tensors of PyTorch as arrays and back. It loads no TVM: pruning needs none."""

import ml_dtypes
import numpy as np
import torch

from tvm_balanced.core.encoding import Array


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return a tensor's value as an array of the same dtype, sharing memory where it can."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return bits
    array: Array = tensor.numpy()
    return array


def to_torch(array: Array) -> torch.Tensor:
    """Return an array as a tensor of the same dtype, sharing memory where it can."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
