"""The most memory that a piece of code takes, as the system counts it: NumPy's, torch's and TVM's, and files that are mapped."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RESET_PEAK = "5"  # for clear_refs


def reset_peak() -> None:
    """Let the peak of this process begin anew at what it has now. Linux only."""
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)


def peak() -> int:
    """Return the most bytes that this process has had since it began, or since `reset_peak`. Linux only."""
    return _status("VmHWM")


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Yield a list that holds, after the block, the bytes by which this process grew at most while it ran. Linux only."""
    gc.collect()
    before, found = _status("VmRSS"), list[int]()
    reset_peak()
    yield found
    found.append(peak() - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))
