"""Checking a compiled module against the original model, on its examples and on inputs that they do not show."""

import itertools
import time
from collections.abc import Sequence

from tvm_balanced.compiler.drawn_inputs import drawn_inputs
from tvm_balanced.core.comparison import Comparison, OutputDifference, compare_outputs
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel
from tvm_balanced.errors import ToleranceError, first_line
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

    With `max_loss`, the budget of a model that rounds, outputs are compared by their relative L2. It was measured on data; these
    inputs may be unlike any, so that they may lose OFF_DATA times as much. What is wrong loses more.

    Raises
    ------
    ToleranceError
        If an output has another dtype or shape, or a difference is larger than the tolerance.
    """
    end = time.monotonic() + max(seconds, SECONDS)
    allowed = None if max_loss is None or tolerance is not None else max(OFF_DATA * max_loss, LEAST_OFF_DATA)
    rounding, found = rounding_of(module), []
    for name, entry in imported.entry_points.items():
        for what, inputs in itertools.chain([(EXAMPLES, entry.examples)], drawn_inputs(entry)):
            if what != EXAMPLES and time.monotonic() > end:
                break
            comparison = _compare(module[name], entry, what, inputs, tolerance, rounding, allowed)
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


def _compare(
    function: Function,
    entry: ImportedFunction,
    what: str,
    inputs: Sequence[Array],
    tolerance: float | None,
    rounding: float,
    max_loss: float | None = None,
) -> Comparison:
    try:
        expected = entry.reference(inputs)
    except Exception as error:  # the user's model: anything may come out of it
        if what == EXAMPLES:
            raise
        return Comparison(what, (), f"the original model raises {type(error).__name__}: {first_line(error)}")
    # a donated input holds an output afterwards, and the examples are the caller's
    actual = function.flat(
        *(array.copy() if spec.name in entry.donate else array for spec, array in zip(entry.inputs, inputs, strict=True))
    )
    outputs = compare_outputs(entry.outputs, expected, actual, tolerance, rounding, entry.growths, max_loss)
    comparison = Comparison(what, outputs)
    if (what != EXAMPLES or max_loss is not None) and not comparison.ok and entry.ranks and _only_integers(outputs, expected):
        return Comparison(what, outputs, "only ranks differ, which ties decide")
    return comparison


def _only_integers(outputs: Sequence[OutputDifference], expected: Sequence[Array]) -> bool:
    """Whether all outputs that differ are integers."""
    pairs = zip(outputs, expected, strict=False)
    return all(output.ok or (not output.fault and want.dtype.kind in "ui") for output, want in pairs)
