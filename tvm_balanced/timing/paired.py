"""Timing rivals fairly on a noisy machine: in turn, in one process, compared round by round."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.ratio import Ratio

Implementation = Callable[[int], object]  # takes the number of the call, to choose which copy of the weights to use; see Seconds
# Seconds after which the threads of an OpenMP or TVM pool have gone to sleep, see benchmarks/README.md. 4096x4096, 4:16, M = 16,
# two threads, cold, after a PyTorch rival: 0.5x the reference without it.
PAUSE = 0.02


class Seconds(float):
    """What a rival returns that measured its call itself, such as one in another process: the way there must not count."""


@dataclass(frozen=True)
class Timing:
    """Times of several rivals, in seconds, one for each round: `times[name]` has shape (rounds,)."""

    times: Mapping[str, Array]

    def microseconds(self, name: str) -> float:
        """Median time of one rival."""
        return float(np.median(self.times[name]) * 1e6)

    def half(self, which: int) -> "Timing":
        """Return every other pair of rounds: a pair has both orders of the rivals."""
        return Timing({name: times[np.arange(len(times)) // 2 % 2 == which] for name, times in self.times.items()})

    def speedup(self, name: str, over: str) -> Ratio:
        """How many times faster `name` is than `over`, from the rounds' paired ratios."""
        p20, p50, p80 = np.percentile(self.times[over] / self.times[name], (20, 50, 80))
        return Ratio(float(p50), float(p20), float(p80))


def measure_paired(
    rivals: Mapping[str, Implementation],
    rounds: int = 31,
    seconds: float = 60.0,
    warm: int = 1,
    pause: float = 0.0,
    least: int = 6,
) -> Timing:
    """Time rivals in alternation.

    In each round every rival is called `warm` times and then once more, timed, so that its threads are awake and those of
    the one before have gone to sleep. The order is reversed from round to round. Two rounds are thrown away first.

    Parameters
    ----------
    rivals : mapping of name to callable
        Each takes the number of the call. One that returns Seconds is believed, any other is timed.
    rounds : int
        Rounds that count.
    seconds : float
        Stop after this long, once `least` rounds count.
    warm : int
        Untimed calls before each timed one.
    pause : float
        Seconds of rest before each rival. Where rivals have threads of their own: those of the one before wait for more work by
        spinning, on the cores that this one needs (PAUSE).
    """
    names = list(rivals)
    times: dict[str, list[float]] = {name: [] for name in names}
    call = 0
    end = time.perf_counter() + seconds
    for round_ in range(rounds + 2):
        for name in names if round_ % 2 else reversed(names):
            time.sleep(pause)
            for before in range(warm):
                rivals[name](call + before)
            start = time.perf_counter()
            reported = _reported(rivals[name](call + warm))
            taken = time.perf_counter() - start
            times[name].append(taken if reported is None else reported)
        call += warm + 1
        if round_ > least and time.perf_counter() > end:
            break
    return Timing({name: np.array(values[2:]) for name, values in times.items()})


def _reported(result: object) -> float | None:
    """The seconds that a rival reported. Any other result is dropped here, so that freeing it counts as in a caller's code."""
    return result if isinstance(result, Seconds) else None


def copies(nbytes: int, regime: str) -> int:
    """Return how many copies of weights of `nbytes` to rotate: 1 where hot, CACHE_MULTIPLE times the cache where cold."""
    return 1 if regime == "hot" else 1 + CACHE_MULTIPLE * last_level_cache() // nbytes
