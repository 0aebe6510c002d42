"""Weights in 8 bits: each row as whole multiples of a step of its own.

A row that has such a step already, as one that was trained or calibrated with scales has, keeps it: what was chosen there is
neither rounded again nor lost. Others get the step of which their largest value is 127.
"""

import numpy as np

from tvm_balanced.core.encoding import Array

LARGEST = 127
LOWEST = -128  # of a row on a grid: what is rounded here is never below -127
FEW, HEAD = 16, 256  # the largest of a row's first values are looked at before all are
OFF_GRID = 1e-4  # of a step; a product of a whole number and a scale is rounded by less than 1e-5 of it


def round_weight(values: Array) -> tuple[Array, Array, Array]:
    """Round the rows of a weight, given as an array (N, ...) of which each row holds all of its values.

    Returns (whole numbers int8 of the same shape, scales (N,) float32, sums of a row's numbers (N,) int32). A row of zeros has
    scale 0. Rows that are whole multiples of a step, -128 to 127 of it, keep that.
    """
    scales = _grid_scales(values, _exact_scales(values))
    rounded = _rounded(values, scales)
    return rounded, scales, rounded.sum(axis=tuple(range(1, values.ndim)), dtype=np.int32)


def round_to_short_scales(values: Array) -> tuple[Array, Array]:
    """Round as `round_weight`, with scales of 8 significant bits, the next above: they are at most a 128th too large.

    Returns (whole numbers int8 of the same shape, scales (N,) float32).
    """
    bits = _exact_scales(values).view(np.uint32)
    scales = (bits + np.uint32(0xFFFF) & np.uint32(0xFFFF0000)).view(np.float32)
    return _rounded(values, scales), scales


def _exact_scales(values: Array) -> Array:
    return np.abs(values).max(axis=tuple(range(1, values.ndim))).astype(np.float32) / np.float32(LARGEST)


def _grid_scales(values: Array, scales: Array) -> Array:
    """Return the scales of a weight's rows: those given, or for a row on a grid that they do not fit its step, the largest that
    does.
    """
    rows = values.reshape(len(values), -1).astype(np.float32)
    largest = np.abs(rows).max(axis=1, initial=0)
    few = np.take_along_axis(rows, np.argsort(-np.abs(rows[:, :HEAD]), axis=1)[:, :FEW], 1)
    found = scales.copy()
    left = np.flatnonzero(largest > 0)
    for steps in (LARGEST, *range(1, LARGEST), -LOWEST):
        step = largest[left] / np.float32(steps)
        fits: Array = _on_grid(few[left], step)
        fits[fits] = _on_grid(rows[left[fits]], step[fits])
        found[left[fits]] = step[fits]
        left = left[~fits]
    return found


def _on_grid(rows: Array, step: Array) -> Array:
    """Return for each row whether it is whole multiples of its step that fit 8 bits."""
    multiples = rows / step[:, None]
    whole = np.rint(multiples)
    near = (np.abs(multiples - whole) <= OFF_GRID) & (whole >= LOWEST) & (whole <= LARGEST)
    return np.asarray(near.all(axis=1))


def _rounded(values: Array, scales: Array) -> Array:
    steps = np.where(scales > 0, scales, 1).reshape(-1, *(1 for _ in values.shape[1:]))
    return np.rint(values / steps).astype(np.int8)
