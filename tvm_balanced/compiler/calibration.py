"""The data that a model's losses are measured on: calibration batches of the caller's, or the examples."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel
from tvm_balanced.core.validation import require
from tvm_balanced.errors import InputError, Terminated, first_line
from tvm_balanced.runtime.binding import bind
from tvm_balanced.runtime.metadata import EntryPointSpec
from tvm_balanced.runtime.tensors import to_tvm, view

EXPECTED = "batches of what the model is called with, or for several entry points a mapping of their names to batches"


@dataclass(frozen=True)
class Data:
    """Calls of one entry point.

    Parameters
    ----------
    entry : ImportedFunction
    inputs : list of lists of arrays
        For each call.
    want : list of lists of arrays
        What the original model gives.
    """

    entry: ImportedFunction
    inputs: list[list[Array]]
    want: list[list[Array]]

    def first(self, count: int) -> "Data":
        """Return the first calls."""
        return Data(self.entry, self.inputs[:count], self.want[:count])


def data_of(imported: ImportedModel, calibration: Any = None) -> tuple[dict[str, Data], str]:
    """Return the data of each entry point, and what it is in words.

    Parameters
    ----------
    imported : ImportedModel
    calibration : iterable, mapping of iterables, or None
        Batches: each a tensor, a tuple or list of arguments, or a mapping of keyword arguments. One whose first dimension is a
        multiple of what the model takes is cut into calls. None stands for the examples, as does an entry point without batches.

    Raises
    ------
    InputError
        Where a batch is not what the model is called with, or the model fails on it.
    """
    given = _by_entry(imported, calibration)
    found = {}
    for name, entry in imported.entry_points.items():
        calls = [list(entry.examples)] if name not in given else _calls(entry, given[name])
        found[name] = Data(entry, calls, [_reference(entry, call, place) for place, call in enumerate(calls)])
    count = sum(len(found[name].inputs) for name in given)
    return found, f"{count} calls of the calibration data" if given else "the examples"


def _by_entry(imported: ImportedModel, calibration: Any) -> dict[str, list[Any]]:
    if calibration is None:
        return {}
    entries = imported.entry_points
    if isinstance(calibration, Mapping):
        for name in calibration:
            if name not in entries:
                raise InputError(f'calibration names entry point "{name}"; the model has {", ".join(entries)}: give {EXPECTED}')
        given = calibration
    elif len(entries) > 1:
        raise InputError(f"calibration is {type(calibration).__name__}, and the model has {', '.join(entries)}; give {EXPECTED}")
    else:
        given = {next(iter(entries)): calibration}
    batches = {}
    for name, values in given.items():
        if hasattr(values, "shape"):
            raise InputError(f"calibration is one {type(values).__name__}; give a list of {EXPECTED}")
        require("calibration", values, Iterable, EXPECTED)
        batches[name] = list(values)
        if not batches[name]:
            raise InputError("calibration has no batches; give at least one, each what the model is called with")
    return batches


def _calls(entry: ImportedFunction, batches: Sequence[Any]) -> list[list[Array]]:
    spec = EntryPointSpec.of(entry)
    calls = []
    for place, batch in enumerate(batches):
        args, kwargs = (
            ((), batch) if isinstance(batch, Mapping) else (batch if isinstance(batch, (tuple, list)) else (batch,), {})
        )
        try:
            for part in _cut(spec, bind(spec, args, kwargs)):
                calls.append([view(tensor).copy() for tensor in to_tvm(spec.inputs, part, spec.ranges, tvm.cpu())])
        except InputError as error:
            raise InputError(f"batch {place} of the calibration data does not fit: {error}") from None
    return calls


def _cut(spec: EntryPointSpec, values: list[Any]) -> list[list[Any]]:
    """Return a batch of several times the first dimension that the model takes as so many calls."""
    pairs = zip(spec.inputs, values, strict=True)
    sizes = {tuple(shape[0] if shape else None for shape in (one.shape, getattr(value, "shape", ()))) for one, value in pairs}
    if len(sizes) != 1:
        return [values]
    ((size, given),) = sizes
    if not (isinstance(size, int) and isinstance(given, int) and size and given > size and given % size == 0):
        return [values]
    return [[value[start : start + size] for value in values] for start in range(0, given, size)]


def _reference(entry: ImportedFunction, inputs: list[Array], place: int) -> list[Array]:
    try:
        return [array.copy() for array in entry.reference(inputs)]
    except Terminated:
        raise
    except Exception as error:  # the user's model: anything may come out of it
        raise InputError(
            f"the model failed on call {place} of the data with {type(error).__name__}: {first_line(error)}; "
            "give batches that are what the model is called with"
        ) from error
