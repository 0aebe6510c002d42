"""Baselines: PyTorch's own ways to compute a dense layer.

Each function takes a weight (N, K) and inputs x (M, K), float32 or bfloat16 (CSR only float32). It
returns a callable of the call's number that computes x @ weight^T and rotates over `copies` copies
of the weight. The fair dense baseline on a CPU is oneDNN with packed weights: eager PyTorch uses
MKL, which reaches 40% of the peak on AMD.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tvm_balanced.core.encoding import Array
from tvm_balanced.timing.paired import Implementation

Maker = Callable[[Array, Array, int], Implementation]


def onednn(weight: Array, x: Array, copies: int) -> Implementation:
    """OneDNN with its weight packed in advance for this M."""
    given = _tensor(x)
    packed = [_pack(_tensor(weight.copy()), len(x)) for _ in range(copies)]
    return lambda call: torch.ops.mkldnn._linear_pointwise(given, packed[call % copies], None, "none", [], "")


def eager(weight: Array, x: Array, copies: int) -> Implementation:
    """torch.nn.functional.linear."""
    given, weights = _tensor(x), [_tensor(weight.copy()) for _ in range(copies)]
    return lambda call: nn.functional.linear(given, weights[call % copies])


def csr(weight: Array, x: Array, copies: int) -> Implementation:
    """A torch CSR weight times x^T, the faster of torch's two sparse forms (F.linear with a CSR
    weight is 5x slower).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "CSR support is in beta"
        weights = [torch.from_numpy(weight.copy()).to_sparse_csr() for _ in range(copies)]
    transposed = torch.from_numpy(x.T.copy())
    return lambda call: weights[call % copies] @ transposed


BASELINES: dict[str, Maker] = {"onednn": onednn, "eager": eager, "csr": csr}


def _tensor(array: Array) -> torch.Tensor:
    """Return an array as a tensor that shares its memory; bfloat16, which NumPy does not have
    itself, is passed by its bits.
    """
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


class PackedLinear(nn.Linear):
    """An nn.Linear on oneDNN with packed weights, for any leading dimensions of x."""

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias  # nn.MultiheadAttention reads them without calling forward
        self.packed = _pack(linear.weight.detach(), rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x (..., K) @ weight^T + bias."""
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return result


class WithoutFastPath(nn.Module):
    """A model without the fused functions with which nn.TransformerEncoderLayer bypasses its linears."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any) -> Any:
        """Return the model's result."""
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            return self.model(*args)
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


def with_packed_linears(model: nn.Module, rows: int) -> nn.Module:
    """Return a copy of a model whose nn.Linear layers are PackedLinear, packed for x of `rows` rows."""
    packed = copy.deepcopy(model).eval()
    for module in list(packed.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, PackedLinear(child, rows))
    return WithoutFastPath(packed)


def _pack(weight: torch.Tensor, rows: int) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return packed
