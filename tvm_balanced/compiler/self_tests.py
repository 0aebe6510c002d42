"""What an artifact's self-test needs: inputs, what the original model gives for them, and the time of a call."""

import logging
import math
from collections.abc import Sequence

from tvm_balanced.core.comparison import difference
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel
from tvm_balanced.core.tolerance import Growth
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.self_test import milliseconds
from tvm_balanced.runtime.stored_test import StoredTensor, StoredTest, stored_input, stored_output

log = logging.getLogger(__name__)


def self_tests(
    module: CompiledModule, imported: ImportedModel, tolerance: float | None, rounding: float
) -> dict[str, StoredTest]:
    """Return what `module` stores for each entry point; nothing for one whose original model raises on such inputs.

    Parameters
    ----------
    module : CompiledModule
        It is called only if this machine can run it.
    imported : ImportedModel
    tolerance : float, optional
        Relative to the largest expected value, as for `compare_outputs`.
    rounding : float
        What the kernels' rounding of weights may add to a default tolerance.
    """
    found = {}
    for name, entry in imported.entry_points.items():
        inputs = tuple(stored_input(spec.name, array) for spec, array in zip(entry.inputs, entry.examples, strict=True))
        try:
            expected = entry.reference([one.whole() for one in inputs])
        except Exception as error:  # the user's model: anything may come out of it
            log.info("no self-test is stored for %s: the original model raises %s", name, type(error).__name__)
            continue
        time = milliseconds(module[name], [one.whole() for one in inputs]) if module.compiled else None
        outputs = _outputs(entry, expected, tolerance, rounding)
        found[name] = StoredTest(inputs, outputs, time)
    return found


def _outputs(
    entry: ImportedFunction, expected: Sequence[Array], tolerance: float | None, rounding: float
) -> tuple[StoredTensor, ...]:
    growths = entry.growths or [Growth(math.inf, str(array.dtype)) for array in expected]
    stored = []
    for spec, array, growth in zip(entry.outputs, expected, growths, strict=True):
        _, scale = difference(array, array)
        relative = max(growth.tolerance, rounding) if tolerance is None else tolerance
        ranked = entry.ranks and array.dtype.kind in "ui"  # a tie may fall either way
        known = not ranked and math.isfinite(relative)
        stored.append(stored_output(spec.name, array, relative * scale if known else None))
    return tuple(stored)
