"""Operators that a model leaves to PyTorch at run time (`tb.compile(..., fallback=True)`): what compiled code calls for them.

They run in the torch of this process, with its threads.
"""

import importlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import tvm
import tvm_ffi

from tvm_balanced.core.library_functions import TORCH_OPERATOR

ALIGNMENT = 64  # bytes; compiled code requires it of what it reads


def installed() -> bool:
    """Whether this process can import torch."""
    try:
        return importlib.util.find_spec("torch") is not None
    except ModuleNotFoundError:  # it is kept out of this process
        return False


@cache
def _torch() -> Any:
    return importlib.import_module("torch")


@cache
def register() -> None:
    """Let compiled code find `run` under the name that it calls."""
    tvm_ffi.register_global_func(TORCH_OPERATOR, run, override=True)


def run(told: str, *tensors: Any) -> Any:
    """Run one operator of ATen.

    Parameters
    ----------
    told : str
        JSON with "operator", for instance "cumsum.default", "args" and "kwargs". A tensor in them is {"tensor": its place},
        a dtype or memory format {"torch": "float32"}, and a number that JSON does not have {"float": "inf"}.
    *tensors : tvm.runtime.Tensor
        On the CPU.

    Returns
    -------
    tvm.runtime.Tensor, or a list of them
        Contiguous, aligned, in memory that no input has.
    """
    torch = _torch()
    operator, args, kwargs = _told(told)
    given = [torch.from_dlpack(tensor) for tensor in tensors]
    with torch.no_grad():
        result = operator(*(arg(given) for arg in args), **{name: arg(given) for name, arg in kwargs.items()})
        taken = {tensor.data_ptr() for tensor in given}
        if isinstance(result, torch.Tensor):
            return _own(result, taken)
        return [_own(tensor, taken) for tensor in result]


def _own(tensor: Any, taken: set[int]) -> Any:
    """Return what an operator gave as compiled code takes it: its memory is used again as soon as that of the inputs is not."""
    tensor = tensor.detach().contiguous()
    if tensor.data_ptr() % ALIGNMENT or tensor.untyped_storage().data_ptr() in taken:
        tensor = tensor.clone()
    return tvm.runtime.from_dlpack(tensor)


Argument = Callable[[Sequence[Any]], Any]


@lru_cache(maxsize=4096)
def _told(text: str) -> tuple[Any, tuple[Argument, ...], dict[str, Argument]]:
    said = json.loads(text)
    name, overload = said["operator"].split(".")
    operator = getattr(getattr(_torch().ops.aten, name), overload)
    return operator, tuple(map(_argument, said["args"])), {name: _argument(value) for name, value in said["kwargs"].items()}


def _argument(value: Any) -> Argument:
    """Return how an argument is made of the tensors of a call."""
    if isinstance(value, list):
        parts = [_argument(part) for part in value]
        return lambda given: [part(given) for part in parts]
    if isinstance(value, dict):
        ((kind, what),) = value.items()
        if kind == "tensor":
            return lambda given: given[what]
        constant = float(what) if kind == "float" else getattr(_torch(), what)  # a dtype, or a memory format
        return lambda _given: constant
    return lambda _given: value
