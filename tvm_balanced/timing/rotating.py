"""Time a kernel on rotating copies of its weights, so that each call finds them in the same cache
or memory as in a model.
"""

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm

from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import Array
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import Workload
from tvm_balanced.testing.operands import Arguments, draw, y_shape

SECONDS = 0.03  # time to measure a candidate
LONG_ENOUGH = 1e-4  # seconds that are measured at once
Rotation = list[list[Any]]  # arguments of a kernel, one list per copy of the weights


def rotation(workload: Workload, rotate: int, put: Callable[[Array], Any] = tvm.runtime.tensor) -> tuple[Arguments, Rotation]:
    """Draw arguments of a workload; return them with as many copies, made by `put`, as `rotate`
    bytes of weights need.
    """
    arguments = draw(workload)
    y = empty_result(workload)
    copies = 1 + rotate // arguments.packed
    return arguments, [[put(a) for a in (*arguments.given, y)] for _ in range(copies)]


def empty_result(workload: Workload) -> Array:
    """Return y (M, N) full of NaN; a kernel must overwrite all of it."""
    return np.full(y_shape(workload), np.nan, numpy_dtype(workload.dtype))


def time_rotating(main: Callable[..., Any], threads: int, copies: Rotation) -> float:
    """Return the median time of a kernel in seconds, rotating through the lists of arguments."""
    use_threads(threads)
    main(*copies[-1])
    call = itertools.count()

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            main(*copies[next(call) % len(copies)])
        return (time.perf_counter() - start) / calls

    calls = calls_together(seconds(1))
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        times.append(seconds(calls))
    return float(np.median(times))


def calls_together(seconds: float) -> int:
    """Return how many calls to time together. The clock ticks in tens of nanoseconds, and small
    kernels take a few hundred.
    """
    return math.ceil(min(100.0, max(1.0, LONG_ENOUGH / seconds)))
