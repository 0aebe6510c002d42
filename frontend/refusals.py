"""What torch.export cannot take, and the way that works: one sentence each."""

import os
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from tvm_balanced.core.key_value_cache import held, is_cache
from tvm_balanced.errors import InputError, first_line
from tvm_balanced.frontend.structures import PLAIN

EIGHT_BITS = (
    'give the model with its float weights, and kernels={"*": "cpu_avx512_i8"} (--kernel "*=cpu_avx512_i8") to compute with '
    "8-bit integers"
)
PADDED = (
    "give padded tensors, and let the model take the last step by index or by a mask; for both directions use a layer for each, "
    "and gather the steps of one in reverse up to the lengths"
)
PACKS = "zeros(): argument 'size' failed to unpack"  # what an LSTM of a packed sequence says under torch.export
FLAT = "wrap the model in a module that calls it with use_cache=False and returns its tensors alone"
LENGTH = "(for a dynamic length give attention_mask as an example too)"
BRANCHES = (
    "compute both sides and choose by torch.where, or use torch.cond; a loop over experts of transformers: "
    'experts_implementation="batched_mm" in its config'
)
SHAPES = "give one entry for each argument, as torch.export takes it, for instance ({0: torch.export.Dim('batch')},)"


def check_tensors(args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
    """Raise InputError for an example that is no tensor with data, with its place and what to give instead."""
    given = (tuple(args), dict(kwargs or {}))
    try:
        leaves = [(_place(path), leaf) for path, leaf in pytree.tree_flatten_with_path(given, is_leaf=_whole)[0]]
    except ValueError:  # a class of the user's, whose parts have no names
        leaves = [("", leaf) for leaf in pytree.tree_leaves(given, is_leaf=_whole)]
    for place, leaf in leaves:
        what = _wrong(leaf)
        if what is not None:
            raise InputError(f"the example{place} is {what}")


def _place(path: Sequence[Any]) -> str:
    return f" {'args' if path[0] == pytree.SequenceKey(0) else 'kwargs'}{pytree.keystr(tuple(path[1:]))}"


def _whole(part: Any) -> bool:
    """Whether an example is not taken apart: packed sequences, and caches with layers of an unknown kind."""
    return isinstance(part, PackedSequence) or (is_cache(type(part)) and held(part) is None)


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
    if isinstance(leaf, (torch.dtype, torch.device, Enum)):
        return f"{leaf}, no tensor and no plain number; wrap the model in a module whose forward gives it itself"
    if not isinstance(leaf, (torch.Tensor, *PLAIN)):
        return (
            f"of type {type(leaf).__name__}, which torch does not know; wrap the model in a module whose forward takes its "
            "tensors one by one and makes it of them"
        )
    return None


def advice(model: nn.Module, error: BaseException, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic: bool) -> str:
    """Return what failed in an export, torch's own words for it, and the way that works.

    Parameters
    ----------
    model : torch.nn.Module
    error : BaseException
        What torch.export.export raised.
    args, kwargs
        The examples; the model is run on them, to tell its own faults from those of the export.
    dynamic : bool
        Whether dynamic_shapes were given.
    """
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    cache = re.search(r"\b(Dynamic|EncoderDecoder)Cache\b", text)
    if cache is not None:
        return f"it returns a cache of keys and values ({cache[0]}), which torch does not know; {without_cache(model)}"
    quantised = quantisation(model)
    if quantised is not None or "PackedParams" in text:
        return f"it is quantised ({quantised or _short(lines[0])}); {EIGHT_BITS}"
    if any(isinstance(module, nn.RNNBase) for module in model.modules()) and PACKS in text:
        return f"it packs sequences by their lengths ({_short(lines[0])}); {PADDED}"
    own = own_error(model, args, kwargs)
    if own is not None:
        return f"it does not run on the examples ({own}); give examples that it takes"
    if "dynamic_shapes" in text or (dynamic and isinstance(error, IndexError)):
        return f"dynamic_shapes does not fit the examples ({_short(lines[0])}); {SHAPES}"
    if "data-dependent" in lines[0]:
        return f"what it computes depends on values of its inputs, {_where(text) or _short(lines[0])}; {BRANCHES}"
    if "in output, which is not a known type" in text:
        return f"it returns an object that torch does not know ({_short(lines[0])}); wrap it in a module that returns tensors"
    if ".numpy() is not supported" in text:
        return f"it computes with NumPy in its forward ({_short(lines[0])}); write that part in torch"
    if dynamic:
        return _constraint(lines)
    return f"{_short(lines[0])}; write that part of its forward in operators that torch.export takes"


def import_advice(model: nn.Module, error: BaseException, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a model whose exported program cannot be imported, if that is no matter of an operator."""
    quantised = quantisation(model)
    if quantised is not None:
        return f"it is quantised ({quantised}); {EIGHT_BITS}"
    if error.__cause__ is None:  # refused for what it is, and not because the importer stumbled over it
        return None
    own = own_error(model, args, kwargs)  # torch.export runs no kernels, which alone find some faults
    return None if own is None else f"it does not run on the examples ({own}); give examples that it takes"


def without_cache(model: nn.Module | None) -> str:
    """Return how a model of transformers is made to return no cache: by which of its configs, or else by a wrapper."""
    configs: dict[int, str] = {}
    for name, module in model.named_modules() if model is not None else ():
        config = getattr(module, "config", None)
        if getattr(config, "use_cache", False):
            configs.setdefault(id(config), f"model.{name}.config" if name else "model.config")
    if not configs:
        return f"{FLAT} {LENGTH}"
    return f"set {' and '.join(f'{config}.use_cache = False' for config in configs.values())} before, or {FLAT} {LENGTH}"


def own_error(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return what a model raises on its examples when it is run as it is; None if it runs."""
    try:
        with torch.no_grad():
            model(*pytree.tree_map(_copy, tuple(args)), **pytree.tree_map(_copy, dict(kwargs)))
    except Exception as error:  # the user's model: anything may come out of it
        return _short(f"{type(error).__name__}: {first_line(error)}")
    return None


def _copy(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf  # a model may write to its inputs


def _where(text: str) -> str | None:
    """Return the line of the model that torch names."""
    lines = re.findall(r'File "(.*?)", line (\d+), in (\w+)', text)
    own = [found for found in lines if f"{os.sep}torch{os.sep}" not in found[0]]
    return "in {2}, {0}:{1}".format(*own[-1]) if own else None


def _constraint(lines: Sequence[str]) -> str:
    """Return which of torch's constraints on a dynamic dimension failed."""
    broken = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    what = _short(broken[0].partition(". If you're")[0]) if broken else _short(lines[0])
    constant = re.search(r"(?:constant|specialized).*?\((\d+)\)", what)
    if constant and int(constant[1]) < 2:  # torch takes a size of 0 or 1 as a constant
        return f"{what}; give examples whose dynamic dimensions are 2 or more"
    if "Suggested fixes:" in lines:
        fixes = [line for line in lines[lines.index("Suggested fixes:") + 1 :] if re.fullmatch(r"\w+ = .*", line)]
        if _of_another(fixes):
            return (
                f"{what}; the model allows only sizes with {' and '.join(fixes)}, which no compiled module "
                "tells: leave that dimension static, or try torch.export.Dim.AUTO for it"
            )
        if len(fixes) > 1:
            return f"{what}; the model allows only sizes with {' and '.join(fixes)}: write that into dynamic_shapes"
        return (
            f"{what}; the model allows {' '.join(fixes)} alone: "
            "put that into dynamic_shapes, or change the part that fixes the size"
        )
    return f"{what}; give examples within the range of the Dim, or leave that dimension static"


def _of_another(fixes: Sequence[str]) -> bool:
    """Whether one of torch's fixes, as "n = 2*_n", is of a Dim that another one makes, "_n = Dim('_n')"."""
    sides = [fix.partition(" = ") for fix in fixes]
    made = {name for name, _, value in sides if value.startswith("Dim(")}
    return any(made & set(re.findall(r"\w+", value)) for _, _, value in sides if not value.startswith("Dim("))


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def quantisation(model: nn.Module) -> str | None:
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
