"""What kernels of 8-bit dot products compute, in NumPy: integers, and x for which no rounding is left to chance."""

import numpy as np


def on_steps(m, k, rng):
    """Draw x (M, K) float32 whose rows are whole multiples of a power of two, of which each end is 127: rounding changes none."""
    steps = rng.integers(-127, 128, (m, k))
    steps[:, 0], steps[:, -1] = 127, -127
    steps[rng.random(m) < 0.3] += 127  # rows on one side of 0
    return (steps * 2.0 ** rng.integers(-9, 9, (m, 1))).astype(np.float32)


def rounded_weight(weight):
    """Return a weight (N, K) as (whole numbers int64, scales (N,) float32)."""
    scales = np.abs(weight).max(axis=1).astype(np.float32) / np.float32(127)
    return np.rint(weight / np.where(scales > 0, scales, 1)[:, None]).astype(np.int64), scales


def rounded_rows(x):
    """Return x (M, K) as (whole numbers from 0 to 254, step (M, 1), zero (M, 1)), in float32 as the kernels do."""
    high, low = np.maximum(x.max(axis=1, keepdims=True), 0), np.minimum(x.min(axis=1, keepdims=True), 0)
    step = np.maximum(high / np.float32(254) - low / np.float32(254), np.float32(1e-36))
    inverse = np.float32(1) / step
    zero = np.rint(-low.astype(np.float64) * inverse)  # a fused multiply-add rounds once
    moved = x.astype(np.float64) * inverse + zero
    return np.clip(np.rint(moved), 0, 254).astype(np.int64), step, zero.astype(np.int64)


def dense(x, weight):
    """Return x (M, K) @ weight (N, K)^T as kernels with 8 bits compute it, float32: bit for bit if x is `on_steps`."""
    (rows, step, zero), (values, scales) = rounded_rows(x), rounded_weight(weight)
    sums = (rows - zero) @ values.T
    return sums.astype(np.float32) * scales * step


def allowed_error(x, weight):
    """How far that may be off x @ weight^T, (M, N): half a step of x for each column, half a scale for each value."""
    (_, step, _), (_, scales), kept = rounded_rows(x), rounded_weight(weight), weight != 0
    of_x = 0.501 * step * np.abs(weight.astype(np.float64)).sum(axis=1)
    of_weight = 0.501 * scales * (np.abs(x.astype(np.float64)) @ kept.T + step * kept.sum(axis=1))
    return of_x + of_weight
