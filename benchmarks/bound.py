"""A lower bound of a kernel's time in a cell: read the packed weights once, or do all permutes and multiply-adds.

This is a baseline of benchmarks.grid, timed in alternation with the others, so that clock and
memory are in the same state. Its time is the longer of two loops. One sums the packed weight: as
many bytes, from an equally cold place. The other does all permutes and multiply-adds of the layer
on registers, with a shift of the indices for every eight of them, and touches no memory.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script import tirx as T

from benchmarks.cell import Cell
from tvm_balanced.compiler.build import build
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.huge_pages import collapse
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.timing.paired import Implementation, Seconds, copies

LANES = 16
SLOT_BYTES = 4.5  # a float32 and an index of 4 bits
STREAMS, SUMS = 4, 4  # for reading: hardware prefetch follows several streams better than one
ROWS, GROUPS = 8, 1  # for arithmetic: 8 sums hide the latency of multiply-add, and all operands fit 32 registers
PAIRS = 1 << 21  # permutes and multiply-adds of all threads: 5 ms; the time of a larger layer is scaled


@dataclass
class Bound:
    """The bound as a baseline of a cell. A call returns the bound in seconds, `result` the layer's result."""

    cell: Cell
    weight: Array
    x: Array

    def __post_init__(self) -> None:
        pattern, threads = BalancedPattern.parse(self.cell.pattern), self.cell.threads
        slots = self.cell.n * pattern.blocks(self.cell.k) * pattern.nnz
        line = threads * STREAMS * SUMS * LANES * 4
        lines = -(-int(slots * SLOT_BYTES) // line)
        self._read = read(threads, lines, copies(lines * line, self.cell.regime))
        pairs = slots * self.cell.m // LANES
        timed = min(pairs, PAIRS)
        steps = max(1, timed // (threads * ROWS * GROUPS))
        self._compute, self._scale = compute(threads, steps), pairs / (threads * ROWS * GROUPS * steps)

    def __call__(self, call: int) -> Seconds:
        use_threads(self.cell.threads)
        reading = timed_once(lambda: self._read(call))
        return Seconds(max(reading, timed_once(lambda: self._compute(call)) * self._scale))

    def result(self) -> Array:
        """Return y (M, N)."""
        y: Array = self.x @ self.weight.T
        return y


def bound(cell: Cell) -> Callable[[Array, Array], Implementation]:
    """Return a function that makes the baseline of `cell` from weight (N, K) and x (M, K)."""
    return lambda weight, x: Bound(cell, weight, x)


def read(threads: int, lines: int, count: int) -> Implementation:
    """Return a loop that sums `lines` lines of memory, of 1 KiB per thread, and rotates over `count` copies of it."""
    threads_, lines_ = int64(threads), int64(lines)

    @T.prim_func(s_tir=True)
    def main(a_: T.handle, b_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        a = T.match_buffer(a_, (threads_, int64(STREAMS), lines_, int64(SUMS * LANES)), "float32")
        b = T.match_buffer(b_, (threads_, int64(STREAMS * SUMS * LANES)), "float32")
        for t in T.parallel(threads_):
            with T.sblock("read"):
                vt = T.axis.spatial(threads_, t)
                sums = T.sblock_alloc_buffer((int64(STREAMS * SUMS * LANES),), "float32", scope="local")
                for r in T.unroll(STREAMS * SUMS):
                    sums[T.ramp(r * LANES, 1, LANES)] = T.broadcast(T.float32(0), LANES)
                for line in T.serial(lines_):
                    for r in T.unroll(STREAMS * SUMS):
                        sums[T.ramp(r * LANES, 1, LANES)] = (
                            sums[T.ramp(r * LANES, 1, LANES)] + a[vt, r // SUMS, line, T.ramp(r % SUMS * LANES, 1, LANES)]
                        )
                for r in T.unroll(STREAMS * SUMS):
                    b[vt, T.ramp(r * LANES, 1, LANES)] = sums[T.ramp(r * LANES, 1, LANES)]

    call = _built(main)
    shape = (threads, STREAMS, lines, SUMS * LANES)
    given = [tvm.runtime.tensor(np.full(shape, 0.5, np.float32)) for _ in range(count)]
    collapse(given)  # as for the kernels' weights
    result = tvm.runtime.tensor(np.zeros((threads, STREAMS * SUMS * LANES), np.float32))
    return lambda number: call(given[number % count], result)


def compute(threads: int, steps: int) -> Implementation:
    """Return a loop that does ROWS * GROUPS permutes and as many multiply-adds per step on registers."""
    threads_ = int64(threads)

    def permuted(x: Any, index: Any) -> Any:
        return T.call_llvm_pure_intrin("float32x16", "llvm.x86.avx512.permvar.sf.512", x, index)

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, index_: T.handle, value_: T.handle, y_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        x = T.match_buffer(x_, (int64(ROWS), int64(LANES)), "float32")
        index = T.match_buffer(index_, (int64(GROUPS), int64(LANES)), "int32")
        value = T.match_buffer(value_, (int64(GROUPS), int64(LANES)), "float32")
        y = T.match_buffer(y_, (threads_, int64(GROUPS * ROWS * LANES)), "float32")
        for t in T.parallel(threads_):
            with T.sblock("compute"):
                vt = T.axis.spatial(threads_, t)
                sums = T.sblock_alloc_buffer((int64(GROUPS * ROWS * LANES),), "float32", scope="local")
                words = T.sblock_alloc_buffer((int64(GROUPS * LANES),), "int32", scope="local")
                for r in T.unroll(GROUPS * ROWS):
                    sums[T.ramp(r * LANES, 1, LANES)] = T.broadcast(T.float32(0), LANES)
                for g in T.unroll(GROUPS):
                    words[T.ramp(g * LANES, 1, LANES)] = index[g, T.ramp(0, 1, LANES)]
                for _ in T.serial(int64(steps)):
                    for g in T.unroll(GROUPS):
                        for r in T.unroll(ROWS):
                            sums[T.ramp((g * ROWS + r) * LANES, 1, LANES)] = (
                                sums[T.ramp((g * ROWS + r) * LANES, 1, LANES)]
                                + permuted(x[r, T.ramp(0, 1, LANES)], words[T.ramp(g * LANES, 1, LANES)])
                                * value[g, T.ramp(0, 1, LANES)]
                            )
                    for g in T.unroll(GROUPS):
                        words[T.ramp(g * LANES, 1, LANES)] = T.shift_left(
                            words[T.ramp(g * LANES, 1, LANES)], T.broadcast(1, LANES)
                        )
                for r in T.unroll(GROUPS * ROWS):
                    y[vt, T.ramp(r * LANES, 1, LANES)] = sums[T.ramp(r * LANES, 1, LANES)]

    call, rng = _built(main), np.random.default_rng(0)
    given = [
        tvm.runtime.tensor(rng.standard_normal((ROWS, LANES)).astype(np.float32)),
        tvm.runtime.tensor(rng.integers(0, 1 << 30, (GROUPS, LANES)).astype(np.int32)),
        tvm.runtime.tensor(np.ones((GROUPS, LANES), np.float32)),
        tvm.runtime.tensor(np.zeros((threads, GROUPS * ROWS * LANES), np.float32)),
    ]
    return lambda _: call(*given)


def _built(function: tirx.PrimFunc) -> Callable[..., object]:
    main: Callable[..., object] = build(function, host_target())["main"]
    return main


def timed_once(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
