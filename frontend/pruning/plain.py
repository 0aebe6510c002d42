"""Which weights can be pruned where they lie: plain ones of floats, with values of their own."""

import torch
from torch.nn.parameter import is_lazy

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def what_is_wrong(weight: torch.Tensor) -> str | None:
    """Return what keeps a weight from being pruned in place, and what to do about it; None where nothing does."""
    kind = type(weight)
    if is_lazy(weight):
        return "has no shape yet; call the model once on an example"
    if kind.__module__.startswith("torchao."):
        return f"is quantised ({kind.__name__}); prune the model with its float weights, and quantise it then"
    if weight.device.type == "meta":
        return "is on the meta device, without values; load the model's weights first"
    if weight.layout != torch.strided:
        return f"has the layout {weight.layout}; make it dense first, layer.weight = nn.Parameter(layer.weight.to_dense())"
    if weight.dtype not in DTYPES:
        return f"is {weight.dtype}; convert it to one of {', '.join(map(str, DTYPES))} first"
    if weight.is_inference():
        return "was made within torch.inference_mode() and cannot be changed; make or load the model outside of it"
    if any(stride == 0 < size - 1 for size, stride in zip(weight.shape, weight.stride(), strict=True)):
        return "is an expanded view whose elements share memory; clone it first"
    return None
