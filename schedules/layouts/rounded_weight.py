"""Weights in 8 bits: each row as whole multiples of a step of its own."""

import numpy as np

from tvm_balanced.core.encoding import Array

LARGEST = 127


def round_weight(values: Array) -> tuple[Array, Array, Array]:
    """Round the rows of a weight, given as an array (N, ...) of which each row holds all of its values.

    Returns (whole numbers int8 of the same shape, scales (N,) float32, sums of a row's numbers (N,) int32). A row of zeros has
    scale 0.
    """
    axes = tuple(range(1, values.ndim))
    scales = np.abs(values).max(axis=axes).astype(np.float32) / np.float32(LARGEST)
    steps = np.where(scales > 0, scales, 1).reshape(-1, *(1 for _ in axes))
    rounded = np.rint(values / steps).astype(np.int8)
    return rounded, scales, rounded.sum(axis=axes, dtype=np.int32)
