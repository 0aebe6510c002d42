"""Confidence intervals of paired ratios that were measured in several runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tvm_balanced.core.encoding import Array

RESAMPLES = 2000  # the ends of a 95% interval are then means of about fifty resamples


@dataclass(frozen=True)
class Estimate:
    """A median and its 95% interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def estimate(runs: Sequence[Array], resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the median over all rounds of all runs, and its 95% bootstrap interval.

    Runs are drawn with replacement, then rounds within each drawn run: rounds of one run share the
    state of the machine, so they are not independent measurements.

    Parameters
    ----------
    runs : sequence of arrays (rounds,)
        One per run; their numbers of rounds may differ.
    """
    rng = np.random.default_rng(seed)
    rounds = max(len(run) for run in runs)
    drawn = rng.integers(len(runs), size=(resamples, len(runs)))
    values = np.empty((resamples, len(runs), rounds))
    for i, run in enumerate(runs):
        here = drawn == i
        # every run has the same weight, however many rounds it had
        values[here] = run[rng.integers(len(run), size=(int(here.sum()), rounds))]
    medians = np.median(values.reshape(resamples, -1), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return Estimate(float(np.median(np.concatenate(list(runs)))), float(low), float(high))


def geometric_mean(values: Sequence[float]) -> str:
    """Return the geometric mean as text, "-" if there are no values."""
    return f"{np.exp(np.mean(np.log(values))):.2f}" if len(values) else "-"
