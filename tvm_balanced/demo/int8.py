"""The dense encoder in 8 bits by PyTorch, which the demo's page compares with."""

import copy
import warnings

import torch
from torch import nn


def dense_int8(encoder: nn.Module) -> nn.Module | None:
    """Return a copy whose linear layers are computed in 8 bits, None where this PyTorch cannot.

    Weights are rounded by output channel, x at each call (dynamic quantisation).
    """
    try:
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic
    except ImportError:  # PyTorch means to move it to another package
        return None
    if torch.backends.quantized.engine == "none":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about that move
        by_channel = {nn.Linear: per_channel_dynamic_qconfig}
        model: nn.Module = quantize_dynamic(copy.deepcopy(encoder), by_channel, torch.qint8)  # type: ignore[no-untyped-call]
    return model
