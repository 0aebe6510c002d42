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
# Of TVM's affinity modes. Worker i stays on the i-th core of a list, and the calling thread gets the whole list.
ONE_CORE_PER_THREAD, BY_SPEED = -2, 1


def use_threads(count: int) -> None:
    """Let the calling thread's parallel loops use `count` threads from now on; TVM keeps a pool for each calling thread.

    To be called before each call of compiled code: where the caller shares a core with one of its workers, it steps aside. The
    caller's affinity stays as it was. A pool's workers stay on the cores that were allowed when the count was last changed.
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
        # all cores, though the pool will use the first: its first call fixes how many workers it can ever have
        configure(ONE_CORE_PER_THREAD, count, [str(core) for core in cores])
        _pool.workers = set(cores[1:count])
    else:
        configure(BY_SPEED, count)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, allowed)  # TVM moves the caller as well


def _step_aside(workers: set[int]) -> None:
    """Move the calling thread to a core that is none of its workers'.

    Both wait by yielding, so that the kernel sees no reason to part them. A layer of 768x768, 2:16, M = 64 between calls of
    PyTorch: 131 us on two threads that share a core, 122 us on one, 86 us on two that do not.
    """
    if _libc().sched_getcpu() not in workers:
        return
    allowed = os.sched_getaffinity(0)
    free = allowed - workers
    if free:
        with contextlib.suppress(OSError):  # a sandbox may forbid it: then it is slow, as it was
            os.sched_setaffinity(0, free)
            os.sched_setaffinity(0, allowed)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
