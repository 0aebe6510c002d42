"""The threads of a call, and the cores that they run on."""

import contextlib
import ctypes
import functools
import os
import threading
from typing import TYPE_CHECKING

import tvm

if TYPE_CHECKING:
    pass


_pool = threading.local()
# Two of TVM's affinity modes. Worker i stays on the i-th core of a list; the calling thread gets the whole list.
ONE_CORE_PER_THREAD, BY_SPEED = -2, 1


def use_threads(count: int) -> None:
    """Make the calling thread's parallel loops use `count` threads from now on. TVM keeps a thread
    pool per calling thread.

    Call this before each call of compiled code: if the caller shares a core with one of its
    workers, it moves to another core. The caller's affinity stays the same. A pool's workers stay
    on the cores that were allowed when the count last changed.
    """
    if count != getattr(_pool, "count", 0):
        _configure(count)
    if _pool.workers:
        _step_aside(_pool.workers)


def _configure(count: int) -> None:
    configure = tvm.get_global_func("runtime.config_threadpool")
    _pool.count, _pool.workers = count, set()
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        configure(BY_SPEED, count)
        return
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed)
    if count <= len(cores):
        # all cores, although the pool uses only the first: its first call fixes the maximum number of workers
        configure(ONE_CORE_PER_THREAD, count, [str(core) for core in cores])
        _pool.workers = set(cores[1:count])
    else:
        configure(BY_SPEED, count)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, allowed)  # TVM changes the caller's affinity too


def _step_aside(workers: set[int]) -> None:
    """Move the calling thread to a core without one of its workers.

    Both threads wait by yielding, so the kernel sees no reason to separate them. A layer takes 131
    us on two threads that share a core and 86 us on two that do not (docs/measurements/runtime.md).
    """
    if _libc().sched_getcpu() not in workers:
        return
    allowed = os.sched_getaffinity(0)
    free = allowed - workers
    if free:
        with contextlib.suppress(OSError):  # a sandbox may forbid it; the call is then slow, not wrong
            os.sched_setaffinity(0, free)
            os.sched_setaffinity(0, allowed)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
