"""Convert a caller's tensors to TVM's and back. Compiled code checks nothing, so everything that it
assumes is checked here.
"""

import math
import mmap
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import tvm
import tvm_ffi

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import Range, TensorSpec
from tvm_balanced.core.structure import Tree, loaded_class, of_fields, rebuild
from tvm_balanced.errors import InputError
from tvm_balanced.runtime.cuda.device import place

ALIGNMENT = 64  # bytes; compiled code uses aligned vector loads and crashes without this alignment


def to_tvm(inputs: Sequence[TensorSpec], values: Sequence[Any], ranges: Mapping[str, Range], device: Any) -> list[Any]:
    """Return a call's arguments as TVM tensors. They share memory if it is contiguous and aligned.

    Parameters
    ----------
    inputs : sequence of TensorSpec
    values : sequence of torch.Tensor, array or tvm.runtime.Tensor
        One for each of `inputs`.
    ranges : mapping
        Symbol of a dimension to the sizes that it may have.
    device : tvm.runtime.Device
        Torch tensors must be on it, and arrays are copied to it.

    Raises
    ------
    InputError
        If a value has the wrong type, shape, dtype or device.
    """
    sizes: dict[str, int] = {}
    tensors = [_to_tvm(spec, value, sizes, device) for spec, value in zip(inputs, values, strict=True)]
    for symbol, (low, high) in ranges.items():
        size = sizes.get(symbol, low)
        if size < low or (high is not None and size > high):
            spec = next(spec for spec in inputs if symbol in spec.shape)
            sought = f"{low} or more" if high is None else f"{low} to {high}" if low else f"at most {high}"
            raise InputError(f"{symbol} is {size} in input {spec}; the model was compiled for {sought}: split or pad the input")
    return tensors


def _to_tvm(spec: TensorSpec, value: Any, sizes: dict[str, int], device: Any) -> Any:
    if is_torch(value):
        _check_data(spec, value)
        check_device(spec, value.device, device)
        _check(spec, tuple(value.shape), str(value.dtype).removeprefix("torch."), sizes)
        value = value.detach().to_dense() if value.layout != sys.modules["torch"].strided else value.detach()
        value = value.resolve_conj().resolve_neg().contiguous()
        if value.data_ptr() % ALIGNMENT:
            value = value.clone()
        return tvm.runtime.from_dlpack(value)
    if isinstance(value, tvm.runtime.Tensor):
        if value.device != device:
            raise InputError(f"input {spec.name} is on {value.device}; this module runs on {device}: copy it there with copyto")
        _check(spec, tuple(int(d) for d in value.shape), str(value.dtype), sizes)
        if not value.is_contiguous() or value.data_ptr() % ALIGNMENT:
            raise InputError(
                f"input {spec.name} is not contiguous or not at a multiple of {ALIGNMENT} bytes, which compiled code takes for "
                "granted; give a torch tensor or a NumPy array, or a copy"
            )
        return value
    if not isinstance(value, np.ndarray):
        raise InputError(f"input {spec.name} is {type(value).__name__}; give a torch tensor or a NumPy array")
    _check(spec, value.shape, str(value.dtype), sizes)
    ((_, given),) = place([(spec.name, as_tvm(aligned(value)))], device)
    return given


def _check_data(spec: TensorSpec, value: Any) -> None:
    """Raise InputError for a torch tensor that has no plain sizes or no values."""
    if value.is_nested:
        raise InputError(f"input {spec.name} is a nested tensor; give a padded one, torch.nested.to_padded_tensor(x, 0.0)")
    if value.layout == sys.modules["torch"].strided and hasattr(value, "fake_mode"):
        raise InputError(f"input {spec.name} is a fake tensor, which has no values; call the module outside of FakeTensorMode")


def check_device(spec: TensorSpec, given: Any, device: Any) -> None:
    """Raise InputError if `given`, the device of a torch tensor, is not the one that a module on `device` needs."""
    if device == tvm.cpu() and given.type != "cpu":
        raise InputError(f"input {spec.name} is on {given}; this module runs on the CPU: pass {spec.name}.cpu()")
    if device != tvm.cpu() and (given.type != "cuda" or (given.index or 0) != device.index):
        raise InputError(
            f"input {spec.name} is on {given}; this module runs on cuda:{device.index}: "
            f'pass {spec.name}.to("cuda:{device.index}")'
        )


def _check(spec: TensorSpec, shape: tuple[int, ...], dtype: str, sizes: dict[str, int]) -> None:
    if dtype != spec.dtype:
        raise InputError(f"input {spec.name} is {dtype}; the model was compiled for {spec}: convert it first")
    fits = len(shape) == len(spec.shape) and all(
        sizes.setdefault(want, got) == got if isinstance(want, str) else want == got
        for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(f"input {spec.name} has shape {shape}; the model was compiled for {spec}")


def empty_results(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], values: Sequence[Any]) -> list[Any] | None:
    """Return the results of a call if all its outputs are empty, because a GPU cannot launch an
    empty kernel; else None.

    Parameters
    ----------
    inputs, outputs : sequences of TensorSpec
    values : sequence of torch.Tensor, array or tvm.runtime.Tensor
        Values that fit `inputs`.

    Returns
    -------
    Torch tensors on the device of `values` if one of these is a torch tensor, else TVM tensors on the CPU.
    """
    if not any(0 in value.shape for value in values):
        return None
    sizes = {d: int(n) for spec, value in zip(inputs, values, strict=True) for d, n in zip(spec.shape, value.shape, strict=True)}
    shapes = [tuple(sizes.get(d) if isinstance(d, str) else d for d in spec.shape) for spec in outputs]
    if any(None in shape or 0 not in shape for shape in shapes):
        return None
    given = next((value for value in values if is_torch(value)), None)
    if given is None:
        return [tvm.runtime.empty(shape, spec.dtype) for shape, spec in zip(shapes, outputs, strict=True)]
    torch = sys.modules["torch"]
    return [
        torch.empty(shape, dtype=getattr(torch, spec.dtype), device=given.device)
        for shape, spec in zip(shapes, outputs, strict=True)
    ]


def from_tvm(tensors: Sequence[Any], as_torch: bool, result: Tree | None, buffers: Mapping[int, Any] | None = None) -> Any:
    """Return a call's results, which share the tensors' memory.

    Parameters
    ----------
    tensors : sequence of tvm.runtime.Tensor
        Or of torch tensors, as `empty_results` returns them.
    as_torch : bool
        True for torch tensors in classes of the model, where these are loaded; False for arrays, with plain dicts for classes.
    result : dict or None
        How they are nested, as in `EntryPointSpec`; None for one, or a flat tuple.
    buffers : mapping, optional
        From a result's index to the caller's buffer, which holds the result already and is returned
        for it.
    """
    buffers, convert = buffers or {}, sys.modules["torch"].from_dlpack if as_torch else on_host
    leaves = tuple(buffers[place] if place in buffers else convert(tensor) for place, tensor in enumerate(tensors))
    if result is None:
        return leaves[0] if len(leaves) == 1 else leaves
    return rebuild(result, leaves, _class_of if as_torch else None)


def _class_of(name: str) -> Callable[..., Any] | None:
    """Return the class that torch.export, or a loaded module, has under a name, if it is made of named fields alone."""
    registry = getattr(sys.modules.get("torch.utils._pytree"), "SERIALIZED_TYPE_TO_PYTHON_TYPE", {})
    return of_fields(registry.get(name)) or loaded_class(name)


def aligned(array: Array) -> Array:
    """Return `array` itself if it is contiguous, 64-byte aligned and writable, else a copy that is."""
    # NumPy does not tell the address of an empty array, which must be aligned as well
    if array.size and array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = empty_aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def empty_aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return a contiguous array that is 64-byte aligned; its elements are whatever was there."""
    raw = np.empty(math.prod(shape) * dtype.itemsize + ALIGNMENT, np.uint8)
    # not a slice: an empty one begins at `raw`, aligned or not
    return np.ndarray(tuple(shape), dtype, raw, -raw.ctypes.data % ALIGNMENT)


def unwritten(shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """Return a TVM tensor of zeros, aligned, in pages of its own: as long as nobody writes to them, they take no memory."""
    # not shared with children, as is mmap's default: then the system would give even those that are only read
    pages = mmap.mmap(-1, max(1, math.prod(shape) * dtype.itemsize), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array: Array = np.ndarray(tuple(shape), f"u{dtype.itemsize}", pages)
    return tvm.runtime.from_dlpack(array)._create_view(tuple(shape), str(dtype))


def as_tvm(array: Array) -> Any:
    """Return an aligned array as a TVM tensor that shares its memory; a dtype that neither knows is copied."""
    if array.dtype == ml_dtypes.bfloat16:  # NumPy cannot export it
        return tvm.runtime.from_dlpack(array.view(np.uint16))._create_view(array.shape, "bfloat16")
    if array.dtype.kind not in "biuf":
        return tvm.runtime.tensor(array)
    return tvm.runtime.from_dlpack(array)


def shared(tensor: Any) -> Any:
    """Return a contiguous tensor of another library as a TVM tensor that shares its memory, aligned or not.

    Compiled code must not be given it before it was checked, or copied, see ALIGNMENT.
    """
    return tvm_ffi.from_dlpack(tensor, require_alignment=0, require_contiguous=True)


def on_host(tensor: tvm.runtime.Tensor) -> Array:
    """Return a tensor as an array. A CPU tensor's memory is shared; others are copied once work on
    TVM's stream has ended.
    """
    return view(tensor if tensor.device == tvm.cpu() else tensor.copyto(tvm.cpu()))


def is_torch(value: Any) -> bool:
    """Whether a value is a torch tensor, which is only possible if torch is loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def address_of(tensor: tvm.runtime.Tensor) -> int:
    """Return the address of a tensor's first byte on any device. It is equal for constants that
    share their memory.
    """
    return int(tensor.data_ptr())


def view(tensor: tvm.runtime.Tensor) -> Array:
    """Return a tensor on the CPU as an array that shares its memory."""
    if str(tensor.dtype) == "bfloat16":  # NumPy cannot import it
        bits: Array = np.from_dlpack(tensor._create_view(tensor.shape, "uint16"))
        return bits.view(ml_dtypes.bfloat16)
    array: Array = np.from_dlpack(tensor)
    return array
