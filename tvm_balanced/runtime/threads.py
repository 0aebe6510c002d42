"""The threads of a call, and the cores that they run on."""

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tvm

from tvm_balanced.runtime.host import cores

_pool = threading.local()
CALLS_OF_A_GUEST = 16  # calls with several threads after which a calling thread gets a pool of its own
MOST_OWN_POOLS = 16  # pools of calling threads besides the main one's: TVM never frees a pool, even if its thread has ended
# Two of TVM's affinity modes. Worker i stays on the i-th core of a list; the calling thread gets the whole list.
ONE_CORE_PER_THREAD, BY_SPEED = -2, 1


def run_with_threads(count: int, function: Callable[..., Any], *args: Any) -> Any:
    """Return what `function` gives for these arguments, with its parallel loops on `count` threads.

    TVM starts a pool of workers for each thread that calls, and keeps it when that thread has ended. So a thread that calls with
    one thread gets a pool without workers. One that calls with several is a guest of a few threads that live as long as the
    process until it has called CALLS_OF_A_GUEST times: a server with a thread for each request has a bounded number of workers.
    In a child that was forked, calls are guests too: no worker of the parent is there.
    """
    if _is_guest(count):
        return _hosts().submit(_with_threads, count, function, args).result()
    return _with_threads(count, function, args)


def _is_guest(count: int) -> bool:
    """Whether the calling thread may not have workers of its own for a call with `count` threads."""
    if getattr(_pool, "own", False):
        return False
    if getattr(_pool, "forked", False):
        return True
    if threading.current_thread() is threading.main_thread():
        _pool.own = True
        return False
    if count == 1:
        if not hasattr(_pool, "count"):
            _configure_alone()
        return bool(_pool.count != 1)
    _pool.calls = getattr(_pool, "calls", 0) + 1
    if hasattr(_pool, "count") or _pool.calls <= CALLS_OF_A_GUEST:  # a pool without workers cannot grow
        return True
    with _process.lock:
        _pool.own = _process.pools < MOST_OWN_POOLS
        _process.pools += _pool.own
    return not _pool.own


class _Process:
    """What all threads of this process share."""

    def __init__(self) -> None:
        self.lock, self.pools = threading.Lock(), 0
        self.hosts: ThreadPoolExecutor | None = None


_process = _Process()


def _hosts() -> ThreadPoolExecutor:
    with _process.lock:
        if _process.hosts is None:
            _process.hosts = ThreadPoolExecutor(max(cores(), 2), "tvm_balanced", initializer=_become_host)
        return _process.hosts


def _become_host() -> None:
    _pool.own = True


def _with_threads(count: int, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    use_threads(count)
    return function(*args)


def _after_fork() -> None:
    """Forget what only the parent has: the hosts, and the workers of the one thread that the child has."""
    global _process
    _process = _Process()
    _pool.own, _pool.forked = False, hasattr(_pool, "count")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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


def _configure_alone() -> None:
    """Give the calling thread a pool without workers, which stays so."""
    _pool.count, _pool.workers = 1, set()
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    tvm.get_global_func("runtime.config_threadpool")(ONE_CORE_PER_THREAD, 1, [str(allowed[0])])
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, allowed)


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
