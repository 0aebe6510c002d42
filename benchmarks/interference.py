"""The share of the machine that other processes took during a measurement."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY = slice(0, 8)  # of /proc/stat: user nice system idle iowait irq softirq steal, in ticks of all cores together
IDLE = slice(3, 5)


class Others:
    """Filled when the block ends: the share of all cores' time that other processes, or the host, took during it."""

    share = 0.0


@contextmanager
def other_load() -> Iterator[Others]:
    """Measure the block. Its own share is that of this process and of children that have ended and were waited for.

    With two threads on two cores, one busy neighbour makes an OpenMP baseline wait 8 ms for a core
    in every call. A baseline that spins does not notice, so the ratios would be meaningless.
    """
    found = Others()
    total, idle, own = *_machine(), _own()
    yield found
    total_after, idle_after, own_after = *_machine(), _own()
    if total_after > total:
        busy = total_after - total - (idle_after - idle)
        found.share = max(0.0, (busy - (own_after - own)) / (total_after - total))


def _machine() -> tuple[float, float]:
    """Return the seconds of all cores since boot, and their idle seconds; zeros if the system does
    not report them.
    """
    try:
        ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0, 0.0
    rate = os.sysconf("SC_CLK_TCK")
    return sum(ticks[BUSY]) / rate, sum(ticks[IDLE]) / rate


def _own() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
