"""Checking a compiled module against the original model, on its examples and on inputs that they do not show."""

import itertools
import math
import time
from collections.abc import Sequence

import numpy as np

from tvm_balanced.compiler.drawn_inputs import drawn_inputs
from tvm_balanced.core.comparison import (
    RUNS,
    Comparison,
    OutputDifference,
    beside_noise,
    compare_outputs,
    far_in_half,
    moves_of,
    note_on,
    settled,
)
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel
from tvm_balanced.errors import ModelError, ToleranceError, first_line
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.function import Function
from tvm_balanced.schedules import ALL_KERNELS

SECONDS = 10.0  # of checking, if compiling took less
EXAMPLES = "the examples"
OFF_DATA, LEAST_OFF_DATA = 10.0, 0.1


def check(
    module: CompiledModule,
    imported: ImportedModel,
    tolerance: float | None = None,
    seconds: float = SECONDS,
    max_loss: float | None = None,
) -> list[Comparison]:
    """Run each entry point through both models, and return what came of it.

    On the examples first, then on drawn inputs, of which none is begun after `seconds`. A drawn input on which the original model
    raises is noted, and so is one on which only outputs of integers differ if the model ranks values: a tie may fall either way.
    Without `tolerance` and `max_loss`, outputs in half precision that are not near are held to what roundings drawn anew move
    those of the original model by; and any input is noted where outputs differ no more than roundings drawn anew move those of
    the original model, as where a tie chooses an expert, or a norm divides by a deviation of 0.

    With `max_loss`, the budget of a model that rounds, outputs are compared by their relative L2. It was measured on data; these
    inputs may be unlike any, so that they may lose OFF_DATA times as much. What is wrong loses more.

    Raises
    ------
    ToleranceError
        If an output has another dtype or shape, or a difference is larger than the tolerance.
    ModelError
        If the program that was traced from the model computes something else than the model itself on the examples.
    """
    end = time.monotonic() + max(seconds, SECONDS)
    allowed = None if max_loss is None or tolerance is not None else max(OFF_DATA * max_loss, LEAST_OFF_DATA)
    rounding, found = rounding_of(module), []
    for name, entry in imported.entry_points.items():
        for what, inputs in itertools.chain([(EXAMPLES, entry.examples)], drawn_inputs(entry)):
            if what != EXAMPLES and time.monotonic() > end:
                break
            comparison = compare_entry(module[name], entry, what, inputs, tolerance, rounding, allowed)
            if not comparison.ok:
                raise ToleranceError(_refusal(comparison))
            found.append(comparison)
    return found


def rounding_of(module: CompiledModule) -> float:
    """Return what the kernels' rounding of weights may add to a tolerance."""
    kernels = {layer.kernel for layer in module.report.layers}
    return max((kernel.tolerance or 0.0 for name, kernel in ALL_KERNELS.items() if name in kernels), default=0.0)


def _refusal(comparison: Comparison) -> str:
    worst = comparison.worst
    where = "" if comparison.inputs == EXAMPLES else f" on {comparison.inputs}"
    return f"{worst.name} {worst}{where}: raise tolerance= if that is good enough, or report the model"


def compare_entry(
    function: Function,
    entry: ImportedFunction,
    what: str,
    inputs: Sequence[Array],
    tolerance: float | None = None,
    rounding: float = 0.0,
    max_loss: float | None = None,
) -> Comparison:
    """Run one entry point through both models on some inputs, and return what came of it; see `check`."""
    try:
        expected = entry.reference(inputs)
    except Exception as error:  # the user's model: anything may come out of it
        if what == EXAMPLES:
            raise
        return Comparison(what, (), f"the original model raises {type(error).__name__}: {first_line(error)}")
    if what == EXAMPLES and entry.original is not None:
        _check_program(entry, entry.original(), expected, tolerance)
    # a donated input holds an output afterwards, and the examples are the caller's
    actual = function.flat(
        *(array.copy() if spec.name in entry.donate else array for spec, array in zip(entry.inputs, inputs, strict=True))
    )
    outputs = compare_outputs(entry.outputs, expected, actual, tolerance, rounding, entry.growths, max_loss)
    comparison = Comparison(what, outputs)
    free = entry.noisy is not None and tolerance is None and max_loss is None
    far = far_in_half(outputs, expected, entry.growths) if free and not rounding else []
    if comparison.ok and not far:
        return comparison
    if (what != EXAMPLES or max_loss is not None) and entry.ranks and _only_integers(outputs, expected):
        return Comparison(what, outputs, "only ranks differ, which ties decide")
    if not free or any(output.fault for output in outputs):
        return comparison
    assert entry.noisy is not None
    runs = [entry.noisy(inputs, seed) for seed in range(RUNS)]
    limit = math.inf if not comparison.ok else None  # beyond a tolerance, roundings alone decide
    held = {
        place: beside_noise(outputs[place], expected[place], actual[place], [run[place] for run in runs], limit) for place in far
    }
    if comparison.ok:
        return Comparison(what, tuple(held.get(place, output) for place, output in enumerate(outputs)))
    moves = _moves(entry, runs, expected)
    rest = compare_outputs(entry.outputs, expected, settled(expected, actual, moves), tolerance, rounding, entry.growths)
    if all(output.ok for output in (*rest, *held.values())):
        return Comparison(what, outputs, note_on(moves))
    return comparison


def _check_program(entry: ImportedFunction, want: Sequence[Array], traced: Sequence[Array], tolerance: float | None) -> None:
    """Raise ModelError where a traced program computes something else than the model that it was traced from."""
    outputs = compare_outputs(entry.outputs, want, traced, tolerance, growths=entry.growths)
    if not all(output.ok for output in outputs):
        worst = Comparison(EXAMPLES, outputs).worst
        raise ModelError(
            f"{worst.name} of the program that torch.export made {worst}: the model computes something else while it is "
            "exported; let it take the same way (look for torch.compiler.is_exporting, is_compiling, and for fast paths), or "
            "give the ExportedProgram in its place if that is what you want"
        )


def _moves(entry: ImportedFunction, runs: Sequence[Sequence[Array]], expected: Sequence[Array]) -> list[Array]:
    """Return `moves_of` the outputs; that of a single operator's result is 0: its tolerance is exact by itself."""
    alone = [place for place, growth in enumerate(entry.growths) if growth.alone]
    return [np.zeros_like(move) if place in alone else move for place, move in enumerate(moves_of(expected, runs))]


def _only_integers(outputs: Sequence[OutputDifference], expected: Sequence[Array]) -> bool:
    """Whether all outputs that differ are integers."""
    pairs = zip(outputs, expected, strict=False)
    return all(output.ok or (not output.fault and want.dtype.kind in "ui") for output, want in pairs)
