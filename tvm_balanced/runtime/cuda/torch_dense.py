"""Dense layers by cuBLAS, through the torch of this process (`torch_library`).

`TVM_BALANCED_DENSE=own` turns it off for dense layers alone.
"""

import sys
from typing import Any

from tvm_balanced.runtime.cuda.torch_library import borrowed, in_place, usable

SWITCH = "TVM_BALANCED_DENSE"


def dense(
    kind: str,
    dtype: str,
    activation: str,
    m: int,
    n: int,
    k: int,
    stride: int,
    y: Any,
    x: Any,
    weight: Any,
    bias: Any,
    residual: Any,
) -> int:
    """Compute y (M, N) = activation(x (M, K) @ weight (N, K)^T + bias (N) + residual (M, N)) with torch, if it is usable.

    Parameters
    ----------
    kind, dtype, activation : str
        The kind of the target, the dtype of all arrays, and what is applied at the end.
    m, n, k : int
    stride : int
        Elements from one row of the weight to the next.
    y, x, weight, bias, residual : addresses
        The residual may be None.

    Returns
    -------
    int
        1 if y was written, 0 if not.
    """
    if not usable(kind, SWITCH):
        return 0
    torch = sys.modules["torch"]
    tensor = borrowed(torch, kind)
    with torch.no_grad():
        out = tensor(y, dtype, (m, n), (n, 1))
        transposed = tensor(weight, dtype, (n, k), (stride, 1)).t()
        given, added = tensor(x, dtype, (m, k), (k, 1)), tensor(bias, dtype, (n,), (1,))
        if residual is not None:
            torch.addmm(tensor(residual, dtype, (m, n), (n, 1)), given, transposed, out=out).add_(added)
            in_place(torch)[activation](out)
        elif activation == "relu":  # which cuBLAS computes as it stores y; its GELU is another one than that on a CPU
            torch.ops.aten._addmm_activation.out(added, given, transposed, use_gelu=False, out=out)
        else:
            torch.addmm(added, given, transposed, out=out)
            in_place(torch)[activation](out)
    return 1
