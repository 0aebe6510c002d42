"""Donated inputs: after a call the caller's own buffer holds the output that takes its place.

Compiled code may write to a donated input where it lies; the output is then that input. Otherwise the output is copied.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm

from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.errors import InputError
from tvm_balanced.runtime.cuda.device import wait
from tvm_balanced.runtime.metadata import EntryPointSpec
from tvm_balanced.runtime.tensors import address_of, is_torch, on_host


def buffers_of(spec: EntryPointSpec, values: Sequence[Any]) -> dict[int, Any]:
    """Return the caller's buffer for each output that takes the place of an input.

    Parameters
    ----------
    spec : EntryPointSpec
    values : sequence of torch.Tensor, array or tvm.runtime.Tensor
        That fit `spec.inputs`.

    Returns
    -------
    dict
        Place of an output to a buffer of its shape and dtype.

    Raises
    ------
    InputError
        Where one cannot be written, or two are the same memory.
    """
    if not spec.donate:
        return {}
    given = {i.name: value for i, value in zip(spec.inputs, values, strict=True)}
    seen: dict[int, str] = {}
    for name in spec.donate:
        _check_writable(name, given[name])
        other = seen.setdefault(_address(given[name]), name)
        if other != name and 0 not in given[name].shape:
            raise InputError(f"inputs {other} and {name} are donated and are one buffer; give each a buffer of its own")
    places = {output.name: place for place, output in enumerate(spec.outputs)}
    return {places[output]: given[name] for name, output in spec.donate.items()}


def apart(spec: EntryPointSpec, inputs: Sequence[Any]) -> list[Any]:
    """Return inputs of which no donated one shares memory with another: a copy of it where it did.

    Parameters
    ----------
    spec : EntryPointSpec
    inputs : sequence of tvm.runtime.Tensor
        On the CPU; one for each of `spec.inputs`.
    """
    starts = sorted((address_of(tensor), place) for place, tensor in enumerate(inputs))
    copied, end, last = set(), 0, 0
    for start, place in starts:
        if start < end:
            copied |= {place, last} & set(spec.donated_places)
        if start + _nbytes(inputs[place]) > end:
            end, last = start + _nbytes(inputs[place]), place
    return [tensor.copyto(tensor.device) if place in copied else tensor for place, tensor in enumerate(inputs)]


def copies(spec: EntryPointSpec, inputs: Sequence[Any]) -> list[Any]:
    """Return inputs with a copy of each donated one, so that the caller's buffers stay as they are."""
    return [t.copyto(t.device) if one.name in spec.donate else t for one, t in zip(spec.inputs, inputs, strict=True)]


def store(outputs: Sequence[Any], buffers: Mapping[int, Any], inputs: Sequence[Any], places: Mapping[int, int]) -> list[Any]:
    """Copy outputs into the buffers that they are for, and return all outputs, none of which shares memory with these.

    Parameters
    ----------
    outputs : sequence of tvm.runtime.Tensor
    buffers : mapping
        As `buffers_of` returned them.
    inputs : sequence of tvm.runtime.Tensor
        What the call was given: a model may return an input as it is, or two that change places.
    places : mapping
        Place of a donated input to that of the output that takes its place.

    Returns
    -------
    list of tvm.runtime.Tensor or torch.Tensor
    """
    if not buffers:
        return list(outputs)
    given, as_torch = {address_of(tensor) for tensor in inputs}, all(is_torch(buffer) for buffer in buffers.values())
    written = {place for source, place in places.items() if address_of(outputs[place]) == address_of(inputs[source])}
    own = [
        _copy(output, as_torch) if address_of(output) in given and place not in written else output
        for place, output in enumerate(outputs)
    ]
    for place, buffer in buffers.items():
        if place in written and _address(buffer) == address_of(own[place]):
            _note_written(buffer)
        else:
            _write(own[place], buffer)
    return own


def _nbytes(tensor: Any) -> int:
    count = math.prod(tensor.shape)
    return int(count) * numpy_dtype(str(tensor.dtype)).itemsize


def _note_written(buffer: Any) -> None:
    """Tell autograd of what compiled code wrote, as torch's own operators do."""
    if is_torch(buffer) and not buffer.is_inference():
        sys.modules["torch"].autograd.graph.increment_version(buffer)


def _copy(output: Any, as_torch: bool) -> Any:
    if as_torch:  # on torch's current stream, where a CUDA graph may be captured
        return sys.modules["torch"].from_dlpack(output).clone()
    wait(output.device)  # TVM copies on its own stream
    return output.copyto(output.device)


def _check_writable(name: str, value: Any) -> None:
    if is_torch(value):
        dense = value.layout == sys.modules["torch"].strided
        writable = dense and all(stride or size < 2 for size, stride in zip(value.shape, value.stride(), strict=True))
        what = "an expanded or a sparse tensor"
    else:
        writable = not isinstance(value, np.ndarray) or value.flags.writeable
        what = "a read-only array"
    if not writable:
        raise InputError(f"input {name} is donated, so that the output is written to it, and is {what}; give a copy of it")


def _address(value: Any) -> int:
    return int(value.ctypes.data if isinstance(value, np.ndarray) else value.data_ptr())


def _write(output: Any, buffer: Any) -> None:
    if is_torch(buffer):
        torch = sys.modules["torch"]
        with torch.inference_mode():  # a parameter, and a tensor made in this mode, may be written here
            buffer.copy_(torch.from_dlpack(output))
        return
    wait(output.device)
    if isinstance(buffer, tvm.runtime.Tensor):
        output.copyto(buffer)
    else:
        np.copyto(buffer, on_host(output))
