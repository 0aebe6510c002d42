"""The ratio of two measured times, with its spread."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Paired ratios of two rivals' times: median, 20th and 80th percentile."""

    p50: float
    p20: float
    p80: float
