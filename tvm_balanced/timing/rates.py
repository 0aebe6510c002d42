"""The peak rates of this machine, measured now by two small generated loops: multiply-adds and read bandwidth."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import aligned
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.target_info import lanes

# Independent sums: two multiply-adds per cycle with a latency of 4 need 8. Sixteen would spill with AVX2, at half the rate.
REGISTERS = 12
STEPS = 100_000
LINES = 64  # vectors from which `loads` reads in turns: 4 KB
READ_BYTES = 512 << 20  # of all threads together; larger than all but the very largest last-level caches


@dataclass(frozen=True)
class Rates:
    """Best of several runs with all threads: fp32 multiply-adds and bytes read from memory, each in 10^9 a second."""

    gmacs: float
    gbytes: float


@functools.cache
def measure(threads: int, width: int | None = None) -> Rates:
    """Measure the rates with `threads` threads, by vectors of `width` float32 (this machine's longest by default).

    This takes about a second, once per process, number of threads and width.
    """
    use_threads(threads)
    width = width or lanes(host_target())
    rows = max(1, READ_BYTES // (4 * REGISTERS * width * threads))
    macs = threads * STEPS * REGISTERS * width
    return Rates(
        macs / _best(_multiply_add(threads, width)) / 1e9,
        threads * rows * REGISTERS * width * 4 / _best(_read(threads, rows, width)) / 1e9,
    )


@functools.cache
def loads(threads: int, width: int | None, taps: int) -> float:
    """Return the rate of multiply-adds that load a vector each from the first-level cache, in 10^9 a second with all threads.

    Vectors begin 0 to `taps` - 1 elements past a multiple of `width`, in turns: they cross cache lines where that is not 0.
    """
    use_threads(threads)
    width = width or lanes(host_target())
    macs = threads * (STEPS // LINES) * LINES * REGISTERS * width
    return macs / _best(_load_and_add(threads, width, taps)) / 1e9


def _best(call: Callable[[], object], runs: int = 5) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _multiply_add(threads: int, width: int) -> Callable[[], object]:
    size = int64(REGISTERS * width)

    @T.prim_func(s_tir=True)
    def main(a_: T.handle, b_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        a = T.match_buffer(a_, (int64(threads), size), "float32")
        b = T.match_buffer(b_, (int64(threads), size), "float32")
        for t in T.parallel(int64(threads)):
            with T.sblock("multiply_add"):
                vt = T.axis.spatial(int64(threads), t)
                sums = T.sblock_alloc_buffer((size,), "float32", scope="local")
                for r in T.unroll(REGISTERS):
                    sums[T.ramp(r * width, 1, width)] = a[vt, T.ramp(r * width, 1, width)]
                for _ in T.serial(STEPS):
                    for r in T.unroll(REGISTERS):
                        sums[T.ramp(r * width, 1, width)] = (
                            sums[T.ramp(r * width, 1, width)] * a[vt, T.ramp(0, 1, width)] + a[vt, T.ramp(width, 1, width)]
                        )
                for r in T.unroll(REGISTERS):
                    b[vt, T.ramp(r * width, 1, width)] = sums[T.ramp(r * width, 1, width)]

    return _bind(main, (threads, REGISTERS * width), (threads, REGISTERS * width))


def _load_and_add(threads: int, width: int, taps: int) -> Callable[[], object]:
    size = int64((LINES + REGISTERS + 1) * width)

    @T.prim_func(s_tir=True)
    def main(a_: T.handle, b_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        a = T.match_buffer(a_, (int64(threads), size), "float32")
        b = T.match_buffer(b_, (int64(threads), int64(REGISTERS * width)), "float32")
        for t in T.parallel(int64(threads)):
            with T.sblock("load_and_add"):
                vt = T.axis.spatial(int64(threads), t)
                sums = T.sblock_alloc_buffer((int64(REGISTERS * width),), "float32", scope="local")
                for r in T.unroll(REGISTERS):
                    sums[T.ramp(r * width, 1, width)] = T.broadcast(T.float32(0), width)
                for _ in T.serial(STEPS // LINES):
                    for s in T.serial(int64(LINES)):
                        for r in T.unroll(REGISTERS):
                            sums[T.ramp(r * width, 1, width)] = sums[T.ramp(r * width, 1, width)] + a[
                                vt, T.ramp((s + r) * width + r % taps, 1, width)
                            ] * T.broadcast(b[vt, 0], width)
                for r in T.unroll(REGISTERS):
                    b[vt, T.ramp(r * width, 1, width)] = sums[T.ramp(r * width, 1, width)]

    return _bind(main, (threads, (LINES + REGISTERS + 1) * width), (threads, REGISTERS * width))


def _read(threads: int, rows: int, width: int) -> Callable[[], object]:
    size = int64(REGISTERS * width)

    @T.prim_func(s_tir=True)
    def main(a_: T.handle, b_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        a = T.match_buffer(a_, (int64(threads), int64(rows), size), "float32")
        b = T.match_buffer(b_, (int64(threads), size), "float32")
        for t in T.parallel(int64(threads)):
            with T.sblock("read"):
                vt = T.axis.spatial(int64(threads), t)
                sums = T.sblock_alloc_buffer((size,), "float32", scope="local")
                for r in T.unroll(REGISTERS):
                    sums[T.ramp(r * width, 1, width)] = T.broadcast(T.float32(0), width)
                for s in T.serial(int64(rows)):
                    for r in T.unroll(REGISTERS):
                        sums[T.ramp(r * width, 1, width)] = (
                            sums[T.ramp(r * width, 1, width)] + a[vt, s, T.ramp(r * width, 1, width)]
                        )
                for r in T.unroll(REGISTERS):
                    b[vt, T.ramp(r * width, 1, width)] = sums[T.ramp(r * width, 1, width)]

    return _bind(main, (threads, rows, REGISTERS * width), (threads, REGISTERS * width))


def _bind(function: tirx.PrimFunc, source: tuple[int, ...], result: tuple[int, ...]) -> Callable[[], object]:
    main = build(function, host_target())["main"]
    a, b = tvm.runtime.from_dlpack(aligned(np.full(source, 0.5, np.float32))), tvm.runtime.tensor(np.zeros(result, np.float32))
    return lambda: main(a, b)
