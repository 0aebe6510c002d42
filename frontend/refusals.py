"""What torch.export cannot take, and the way that works: one sentence each."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from tvm_balanced.errors import InputError

EIGHT_BITS = (
    'give the model with its float weights, and kernels={"*": "cpu_avx512_i8"} (--kernel "*=cpu_avx512_i8") to compute with '
    "8-bit integers"
)
PADDED = "give padded tensors, and let the model take the last step by index or by a mask"
PACKS = "zeros(): argument 'size' failed to unpack"  # what an LSTM of a packed sequence says under torch.export
CACHE = (
    "set model.config.use_cache = False before, or wrap the model in a module that returns its tensors alone "
    "(for a dynamic length give attention_mask as an example too)"
)


def check_tensors(args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
    """Raise InputError for an example that is no tensor with data, with its place and what to give instead."""
    given = (tuple(args), dict(kwargs or {}))
    leaves, _ = pytree.tree_flatten_with_path(given, is_leaf=lambda leaf: isinstance(leaf, PackedSequence))
    for path, leaf in leaves:
        what = _wrong(leaf)
        if what is not None:
            place = "args" if path[0] == pytree.SequenceKey(0) else "kwargs"
            raise InputError(f"the example {place}{pytree.keystr(path[1:])} is {what}")


def _wrong(leaf: Any) -> str | None:
    """Return what an example is that is no tensor with data, and what to give instead; None for one that is."""
    if isinstance(leaf, np.ndarray):
        return "a NumPy array; give torch tensors, for instance torch.from_numpy(x)"
    if isinstance(leaf, PackedSequence):
        return f"a PackedSequence; {PADDED}"
    if isinstance(leaf, FakeTensor) or (isinstance(leaf, torch.Tensor) and leaf.device.type == "meta"):
        return "a tensor without data (fake, or on the meta device); give one with values, for instance torch.zeros of its shape"
    if isinstance(leaf, torch.Tensor) and leaf.is_nested:
        return "a nested tensor; give a padded one, torch.nested.to_padded_tensor(x, 0.0), and a mask where the model needs it"
    if isinstance(leaf, torch.Tensor) and leaf.layout != torch.strided:
        return "a sparse tensor; give x.to_dense(), which has the same values"
    return None


def advice(model: nn.Module, error: BaseException, dynamic: bool) -> str:
    """Return what failed in an export, torch's own words for it, and the way that works.

    Parameters
    ----------
    model : torch.nn.Module
    error : BaseException
        What torch.export.export raised.
    dynamic : bool
        Whether dynamic_shapes were given.
    """
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if "DynamicCache" in text or "EncoderDecoderCache" in text:
        return f"it returns a cache of keys and values, which torch does not know ({_short(lines[0])}); {CACHE}"
    quantised = _quantised(model)
    if quantised is not None or "PackedParams" in text:
        return f"it is quantised ({quantised or _short(lines[0])}); {EIGHT_BITS}"
    if any(isinstance(module, nn.RNNBase) for module in model.modules()) and PACKS in text:
        return f"it packs sequences by their lengths ({_short(lines[0])}); {PADDED}"
    if dynamic:
        return _constraint(lines)
    return f"{lines[0]}; try torch.export.export on it by itself"


def _constraint(lines: Sequence[str]) -> str:
    """Return which of torch's constraints on a dynamic dimension failed."""
    broken = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    what = _short(broken[0].partition(". If you're")[0]) if broken else _short(lines[0])
    constant = re.search(r"(?:constant|specialized).*?\((\d+)\)", what)
    if constant and int(constant[1]) < 2:  # torch takes a size of 0 or 1 as a constant
        return f"{what}; give examples whose dynamic dimensions are 2 or more"
    if "Suggested fixes:" in lines:
        fix = "; ".join(lines[lines.index("Suggested fixes:") + 1 :][:1])
        return f"{what}; the model allows {fix} alone: put that into dynamic_shapes, or change the part that fixes the size"
    return f"{what}; give examples within the range of the Dim, or leave that dimension static"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def _quantised(model: nn.Module) -> str | None:
    """Return the name of a layer that PyTorch or torchao quantised, and its class; None where there is none."""
    for name, module in model.named_modules():
        kind = type(module)
        if ".nn.quantized" in kind.__module__:
            return f"layer {name or kind.__name__} is {kind.__module__}.{kind.__name__}"
    for name, parameter in model.named_parameters():
        kind = type(parameter)
        if kind.__module__.startswith("torchao."):
            return f"weight {name} is {kind.__module__}.{kind.__name__}"
    return None
