"""Weights in 8 bits: each row as whole multiples of a step of its own."""

import numpy as np

from tvm_balanced.core.encoding import Array

LARGEST = 127


def round_weight(values: Array) -> tuple[Array, Array, Array]:
    """Round the rows of a weight, given as an array (N, ...) of which each row holds all of its values.

    Returns (whole numbers int8 of the same shape, scales (N,) float32, sums of a row's numbers (N,) int32). A row of zeros has
    scale 0.
    """
    scales = _exact_scales(values)
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


def _rounded(values: Array, scales: Array) -> Array:
    steps = np.where(scales > 0, scales, 1).reshape(-1, *(1 for _ in values.shape[1:]))
    return np.rint(values / steps).astype(np.int8)
