"""Dense layers by cuBLAS, through the torch of this process: what compiled code asks before it runs a kernel of its own.

torch takes part if it is loaded and uses CUDA, on its current stream, as all calls of a module. So a
CUDA graph captures what it launches. `TVM_BALANCED_DENSE=own` turns it off.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import tvm_ffi

from tvm_balanced.runtime.cuda.borrowed_tensor import Borrowed

FUNCTION = "tvm_balanced.dense_by_library"  # what compiled code calls it
SWITCH, OWN = "TVM_BALANCED_DENSE", "own"


def register() -> None:
    """Let compiled code find `dense` under the name that it calls; further calls do nothing."""
    tvm_ffi.register_global_func(FUNCTION, dense, override=True)


def usable(kind: str) -> bool:
    """Whether torch is in this process, and runs on the same stream as compiled code.

    Parameters
    ----------
    kind : str
        The kind of the target. On a CPU, torch always does.
    """
    torch = sys.modules.get("torch")
    if torch is None or os.environ.get(SWITCH) == OWN:
        return False
    return kind != "cuda" or bool(torch.cuda.is_initialized())


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
    if not usable(kind):
        return 0
    torch = sys.modules["torch"]
    borrowed = Borrowed(torch.utils.dlpack.from_dlpack, kind, torch.cuda.current_device() if kind == "cuda" else 0)
    with torch.no_grad():
        out = borrowed(y, dtype, (m, n), (n, 1))
        transposed = borrowed(weight, dtype, (n, k), (stride, 1)).t()
        given, added = borrowed(x, dtype, (m, k), (k, 1)), borrowed(bias, dtype, (n,), (1,))
        if residual is not None:
            torch.addmm(borrowed(residual, dtype, (m, n), (n, 1)), given, transposed, out=out).add_(added)
            _in_place(torch)[activation](out)
        elif activation == "relu":  # which cuBLAS computes as it stores y; its GELU is another one than that on a CPU
            torch.ops.aten._addmm_activation.out(added, given, transposed, use_gelu=False, out=out)
        else:
            torch.addmm(added, given, transposed, out=out)
            _in_place(torch)[activation](out)
    return 1


def _in_place(torch: Any) -> Mapping[str, Callable[[Any], Any]]:
    functional, aten = torch.nn.functional, torch.ops.aten
    return {
        "none": lambda y: y,
        "relu": torch.relu_,
        "gelu": aten.gelu_,
        "gelu_tanh": lambda y: aten.gelu_(y, approximate="tanh"),
        "silu": lambda y: functional.silu(y, inplace=True),
    }
