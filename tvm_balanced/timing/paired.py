"""Time baselines fairly on a noisy machine: alternating, in one process, compared round by round."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.ratio import Ratio

Implementation = Callable[[int], object]  # takes the number of the call, which selects a copy of the weights; see Seconds
# The threads of an OpenMP or TVM pool are asleep after this many seconds, see benchmarks/README.md.
# Without the pause, a kernel after a PyTorch baseline had 0.5x the speed of the reference
# (docs/measurements/runtime.md).
PAUSE = 0.02


class Seconds(float):
    """The result of a baseline that timed its own call, such as one in another process, so that the
    overhead of the call is excluded.
    """


@dataclass(frozen=True)
class Timing:
    """Times of several baselines, in seconds, one per round: `times[name]` has shape (rounds,)."""

    times: Mapping[str, Array]

    def microseconds(self, name: str) -> float:
        """Median time of one baseline."""
        return float(np.median(self.times[name]) * 1e6)

    def half(self, which: int) -> "Timing":
        """Return every other pair of rounds: a pair has both orders of the baselines."""
        return Timing({name: times[np.arange(len(times)) // 2 % 2 == which] for name, times in self.times.items()})

    def speedup(self, name: str, over: str) -> Ratio:
        """Return how many times faster `name` is than `over`, from the rounds' paired ratios."""
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
    """Time baselines in alternation.

    In each round every baseline is called `warm` times, then once more for the clock. Its threads
    are awake by then, and those of the previous baseline asleep. The order is reversed from round
    to round. Two rounds are discarded first.

    Parameters
    ----------
    rivals : mapping of name to callable
        Each takes the number of the call. If one returns Seconds, that is its time; any other is
        timed.
    rounds : int
        Rounds that count.
    seconds : float
        Stop after this long, once `least` rounds count.
    warm : int
        Untimed calls before each timed one.
    pause : float
        Seconds of rest before each baseline, for baselines with threads of their own. The threads
        of the previous one spin while they wait for more work, on the cores that this one needs
        (PAUSE).
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
    """The seconds that a baseline reported. Other results are freed here, so that freeing them
    counts as in a caller's code.
    """
    return result if isinstance(result, Seconds) else None


def copies(nbytes: int, regime: str) -> int:
    """Return how many copies of `nbytes` of weights to rotate: 1 if hot; if cold, enough for
    CACHE_MULTIPLE times the cache.
    """
    return 1 if regime == "hot" else 1 + CACHE_MULTIPLE * last_level_cache() // nbytes
