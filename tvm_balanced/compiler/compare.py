"""Comparing a compiled module with the original model."""

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel
from tvm_balanced.core.report import Report
from tvm_balanced.core.tolerance import TOLERANCE
from tvm_balanced.errors import ToleranceError
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.function import Function
from tvm_balanced.schedules import KERNELS


def check(module: CompiledModule, imported: ImportedModel, tolerance: float | None = None) -> float:
    """Run each entry point's examples through both models and return the largest absolute difference of any output.

    Raises
    ------
    ToleranceError
        Where a difference is larger than the tolerance.
    """
    return max(_check(module[name], entry, module.report, tolerance) for name, entry in imported.entry_points.items())


def _check(function: Function, entry: ImportedFunction, report: Report, tolerance: float | None) -> float:
    expected = entry.reference(entry.examples)
    # a donated input holds an output afterwards, and the examples are the caller's
    actual = function(
        *(array.copy() if spec.name in entry.donate else array for spec, array in zip(entry.inputs, entry.examples, strict=True))
    )
    kernels = {layer.kernel for layer in report.layers}
    rounding = max((kernel.tolerance or 0.0 for name, kernel in KERNELS.items() if name in kernels), default=0.0)
    worst = 0.0
    for spec, want, got in zip(entry.outputs, expected, actual if isinstance(actual, tuple) else (actual,), strict=True):
        allowed = max(TOLERANCE.get(spec.dtype, 0.0), rounding) if tolerance is None else tolerance
        error, scale = difference(want, got)
        if not error <= allowed * scale:
            raise ToleranceError(
                f"{spec.name} differs from the original model by {error:.2e}; {allowed * scale:.2e} is allowed: "
                "raise tolerance= if that is good enough, or report the model"
            )
        worst = max(worst, error)
    return worst


def difference(want: Array, got: Array) -> tuple[float, float]:
    """Return (largest absolute difference, largest finite |want| or 1 if that is less); equal NaNs and infinities differ by 0."""
    wide, other = np.asarray(want, np.float64), np.asarray(got, np.float64)
    same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(wide - other))
    finite = np.abs(wide[np.isfinite(wide)])
    return float(error.max(initial=0.0)) if not np.isnan(error).any() else float("inf"), max(1.0, float(finite.max(initial=0.0)))
