"""Attention by the fused kernels of the torch of this process (`torch_library`): scaled_dot_product_attention."""

import json
import sys
from functools import lru_cache
from typing import Any

import tvm

from tvm_balanced.runtime.cuda.torch_library import usable


def attention_usable(kind: str) -> bool:
    """Whether `attend` computes on a target of this kind."""
    return usable(kind)


def attend(kind: str, told: str, queries: Any, keys: Any, values: Any, mask: Any = None) -> Any:
    """Return softmax(scale * queries @ keys^T, masked) @ values.

    The result is torch's own memory, which nothing copies. Transposes are views; a result that torch lays out as it is wanted
    is not copied either.

    Parameters
    ----------
    kind : str
        The kind of the target.
    told : str
        JSON with "axes", for queries, keys and values how (batch, heads, rows, columns) are taken from their dimensions;
        "order", the same from (batch, heads, rows, columns) to the result's dimensions; "scale"; and "causal", whether the mask
        is that each row counts the columns up to its own number.
    queries, keys, values : tvm.runtime.Tensor
        Of four dimensions. Each matrix of keys and values may serve several heads.
    mask : tvm.runtime.Tensor, optional
        Numbers of the same dtype, which are added, or booleans where a score counts; broadcast to (batch, heads, rows, length).

    Returns
    -------
    tvm.runtime.Tensor
    """
    torch = sys.modules["torch"]
    axes, order, scale, causal = _told(told)
    with torch.no_grad():
        q, k, v = (torch.from_dlpack(x).permute(how) for x, how in zip((queries, keys, values), axes, strict=True))
        added = None if mask is None or causal else torch.from_dlpack(mask)
        y = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, added, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return tvm.runtime.from_dlpack(y.permute(order).contiguous())


@lru_cache(maxsize=4096)
def _told(text: str) -> tuple[list[list[int]], list[int], float, bool]:
    said = json.loads(text)
    return said["axes"], said["order"], float(said["scale"]), bool(said["causal"])
