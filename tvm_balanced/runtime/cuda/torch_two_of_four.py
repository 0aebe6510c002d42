"""Dense layers with two of every four kept by sparse tensor cores: cuSPARSELt, through the torch of this process."""

import sys
from typing import Any

from tvm_balanced.runtime.cuda.prepared_weights import PreparedWeights, owner_of
from tvm_balanced.runtime.cuda.torch_dense import dense
from tvm_balanced.runtime.cuda.torch_library import borrowed, in_place, turned_off, usable

ROWS = 8  # of x, in cuSPARSELt's units


def available() -> bool:
    """Whether this process has a torch with cuSPARSELt, and it is not turned off; needs no GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and not turned_off() and has_cusparselt(torch)


def has_cusparselt(torch: Any) -> bool:
    """Whether a torch was built with cuSPARSELt."""
    backend = getattr(torch.backends, "cusparselt", None)
    return backend is not None and bool(backend.is_available())


def two_of_four(
    kind: str,
    dtype: str,
    activation: str,
    m: int,
    n: int,
    k: int,
    stride: int,
    first: int,
    y: Any,
    x: Any,
    weight: Any,
    bias: Any,
    residual: Any,
) -> int:
    """Compute y (M, N) = activation(x (M, K) @ weight (N, K)^T + bias (N) + residual (M, N)).

    By cuSPARSELt from `first` rows of x on, if it is usable; else as `torch_dense` does. The weight has its zeros in it. The
    first call compresses it to 9/16 of its bytes, in memory of torch that is kept with the module that owns it. It is not
    compressed while a CUDA graph is captured.

    Parameters
    ----------
    kind, dtype, activation : str
        The kind of the target, the dtype of all arrays, and what is applied at the end.
    m, n, k : int
    stride : int
        Elements from one row of the weight to the next; K.
    first : int
        The least M at which cuSPARSELt is the faster one.
    y, x, weight, bias, residual : addresses
        Of every four columns of the weight at most two are not 0. The residual may be None.

    Returns
    -------
    int
        1 if y was written, 0 if not.
    """
    if not usable(kind):
        return 0
    torch = sys.modules["torch"]
    tensor, owner = borrowed(torch, kind), owner_of(weight.value)
    with torch.no_grad():
        packed = None
        if owner is not None and m >= first and stride == k and has_cusparselt(torch):
            packed = _compressed(torch, kind, owner, weight.value, tensor(weight, dtype, (n, k), (k, 1)))
        if packed is None:
            return dense(kind, dtype, activation, m, n, k, stride, y, x, weight, bias, residual)
        given = torch.nn.functional.pad(tensor(x, dtype, (m, k), (k, 1)), (0, 0, 0, -m % ROWS))
        product = torch._cslt_sparse_mm(packed, given.t(), bias=tensor(bias, dtype, (n,), (1,)), transpose_result=True)[:m]
        out = tensor(y, dtype, (m, n), (n, 1))
        if residual is None:
            out.copy_(product)
        else:
            torch.add(product, tensor(residual, dtype, (m, n), (n, 1)), out=out)
        in_place(torch)[activation](out)
    return 1


def _compressed(torch: Any, kind: str, owner: PreparedWeights, address: int, weight: Any) -> Any:
    """Return the weight as cuSPARSELt reads it, made at the first call; None if it cannot be made, or not now."""
    if address not in owner.forms:
        if kind == "cuda" and torch.cuda.is_current_stream_capturing():
            return None
        try:
            owner.forms[address] = torch._cslt_compress(weight)
        except RuntimeError:  # cuSPARSELt does not know this GPU
            owner.forms[address] = None
    return owner.forms[address]
