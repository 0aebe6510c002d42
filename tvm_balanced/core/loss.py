"""What a model loses where its layers round: differences of outputs, measured on data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.validation import require
from tvm_balanced.errors import InputError

Outputs = Sequence[Array]  # of one call of an entry point
# From what the original and the compiled model give, each a list with {output: array} for every batch, to a loss from 0 up
Metric = Callable[[Sequence[Mapping[str, Array]], Sequence[Mapping[str, Array]]], float]


@dataclass(frozen=True)
class OutputLoss:
    """How far one output of a compiled model is from the original's.

    Parameters
    ----------
    output : str
    relative_l2 : float
        Norm of the difference over the norm of the original, of all calls together. For whole numbers and truth values the share
        of those that differ.
    cosine : float
        Mean cosine of a row (the last dimension) with the original's; 1 for an output without rows.
    top1 : float
        Share of rows whose largest value is at the same place.
    entry_point : str
    """

    output: str
    relative_l2: float
    cosine: float
    top1: float
    entry_point: str = "main"

    def __str__(self) -> str:
        return (
            f"{self.output} loses {self.relative_l2:.2g} of its norm (cosine {self.cosine:.5f}, top-1 agreement {self.top1:.1%})"
        )


def losses(specs: Sequence[TensorSpec], want: Sequence[Outputs], got: Sequence[Outputs], entry_point: str) -> list[OutputLoss]:
    """Return the loss of each output, over the calls of an entry point: `want` of the original model, `got` of the other."""
    found = []
    for place, spec in enumerate(specs):
        pairs = [(np.asarray(a[place]), np.asarray(b[place])) for a, b in zip(want, got, strict=True)]
        rows = [rows for pair in pairs for rows in _rows(*pair)]
        cosine = float(np.mean([cosine for cosine, _ in rows])) if rows else 1.0
        top1 = float(np.mean([same for _, same in rows])) if rows else 1.0
        found.append(OutputLoss(spec.name, relative_l2(pairs), cosine, top1, entry_point))
    return found


def relative_l2(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Return the norm of all differences over that of all first arrays; of whole numbers the share that differs."""
    if pairs[0][0].dtype.kind in "biu":
        return float(np.mean(np.concatenate([(a != b).reshape(-1) for a, b in pairs]))) if any(a.size for a, _ in pairs) else 0.0
    off = size = 0.0
    for want, got in pairs:
        wide, other = want.astype(np.float64), got.astype(np.float64)
        same = (wide == other) | (np.isnan(wide) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            off += float(np.square(np.where(same, 0.0, wide - other)).sum())
        size += float(np.square(wide[np.isfinite(wide)]).sum())
    if np.isnan(off):
        return float("inf")
    return float(np.sqrt(off / size)) if size else 0.0 if off == 0 else float("inf")


def _rows(want: Array, got: Array) -> list[tuple[float, bool]]:
    """Return (cosine, whether the largest value is at the same place) of each row of two or more numbers."""
    if want.ndim == 0 or want.shape[-1] < 2 or want.dtype.kind in "biu":
        return []
    pairs = zip(*(array.astype(np.float64).reshape(-1, array.shape[-1]) for array in (want, got)), strict=True)
    return [(_cosine(a, b), bool(np.argmax(a) == np.argmax(b))) for a, b in pairs]


def _cosine(a: Array, b: Array) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not np.isfinite(norm):
        return 1.0 if np.array_equal(a, b, equal_nan=True) else 0.0
    return float(a @ b / norm) if norm else float(np.array_equal(a, b))


def overall(found: Sequence[OutputLoss]) -> float:
    """Return the largest relative L2 of some outputs."""
    return max((loss.relative_l2 for loss in found), default=0.0)


def measured(metric: Metric, specs: Sequence[TensorSpec], want: Sequence[Outputs], got: Sequence[Outputs]) -> float:
    """Return the loss that the caller's metric gives.

    Raises
    ------
    InputError
        If it fails, or gives anything but a number.
    """
    named = ([{spec.name: a for spec, a in zip(specs, call, strict=True)} for call in calls] for calls in (want, got))
    try:
        value: Any = metric(*named)
    except Exception as error:  # the caller's
        raise InputError(f"metric failed with {type(error).__name__}: {error}; it gets two lists of {{output: array}}") from error
    value = value.item() if hasattr(value, "item") else value
    require("what metric returned", value, (int, float), "a number: the loss, 0 where there is none")
    return float(value)
