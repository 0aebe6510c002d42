"""A lower bound of the time of cpu_avx512_i8: read the packed weight once, or do all byte permutes and dot products.

As bound.py for float32: the longer of two loops, of which the second touches no memory.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm.script import tirx as T

from benchmarks.bound import LANES, STREAMS, SUMS, read, timed_once
from tvm_balanced.compiler.build import build
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.timing.paired import Implementation, Seconds

SLOT_BYTES = 1.5  # 8 bits and an index of 4
ROWS = 8  # sums that hide the latency of a dot product
BYTES = 4 * LANES
PAIRS = 1 << 21  # permutes and dot products that are timed; the time of a larger layer is scaled


def int8_bound(n: int, k: int, m: int, pattern: BalancedPattern, threads: int) -> Implementation:
    """Return the bound of a layer as an implementation: a call gives it in seconds."""
    slots = n * pattern.blocks(k) * pattern.nnz
    line = threads * STREAMS * SUMS * LANES * 4
    reading = read(threads, max(1, -(-int(slots * SLOT_BYTES) // line)), 1)
    pairs = -(-slots * m // BYTES)
    steps = max(1, min(pairs, PAIRS) // (threads * ROWS))
    computing, scale = compute(threads, steps), pairs / (threads * ROWS * steps)

    def run(call: int) -> Seconds:
        use_threads(threads)
        return Seconds(max(timed_once(lambda: reading(call)), timed_once(lambda: computing(call)) * scale))

    return run


def compute(threads: int, steps: int) -> Implementation:
    """Return a loop that does ROWS byte permutes and as many dot products a step on registers."""
    threads_ = int64(threads)

    def dot(sums: Any, x: Any, words: Any, values: Any) -> Any:
        columns = T.reinterpret(f"uint8x{BYTES}", words)
        permuted = T.call_llvm_pure_intrin(f"int8x{BYTES}", "llvm.x86.avx512.permvar.qi.512", x, columns)
        return T.call_llvm_pure_intrin(f"int32x{LANES}", "llvm.x86.avx512.vpdpbusd.512", sums, permuted, values)

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, index_: T.handle, value_: T.handle, y_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        x = T.match_buffer(x_, (int64(ROWS), int64(BYTES)), "uint8")
        index = T.match_buffer(index_, (int64(LANES),), "int32")
        value = T.match_buffer(value_, (int64(BYTES),), "int8")
        y = T.match_buffer(y_, (threads_, int64(ROWS * LANES)), "int32")
        for t in T.parallel(threads_):
            with T.sblock("compute"):
                vt = T.axis.spatial(threads_, t)
                sums = T.sblock_alloc_buffer((int64(ROWS * LANES),), "int32", scope="local")
                words = T.sblock_alloc_buffer((int64(LANES),), "int32", scope="local")
                for r in T.unroll(ROWS):
                    sums[T.ramp(r * LANES, 1, LANES)] = T.broadcast(T.int32(0), LANES)
                words[T.ramp(0, 1, LANES)] = index[T.ramp(0, 1, LANES)]
                for _ in T.serial(int64(steps)):
                    for r in T.unroll(ROWS):
                        sums[T.ramp(r * LANES, 1, LANES)] = dot(
                            sums[T.ramp(r * LANES, 1, LANES)],
                            x[r, T.ramp(0, 1, BYTES)],
                            words[T.ramp(0, 1, LANES)],
                            value[T.ramp(0, 1, BYTES)],
                        )
                    words[T.ramp(0, 1, LANES)] = T.shift_left(words[T.ramp(0, 1, LANES)], T.broadcast(1, LANES))
                for r in T.unroll(ROWS):
                    y[vt, T.ramp(r * LANES, 1, LANES)] = sums[T.ramp(r * LANES, 1, LANES)]

    call: Callable[..., object] = build(main, host_target())["main"]
    rng = np.random.default_rng(0)
    given = [
        tvm.runtime.tensor(rng.integers(0, 255, (ROWS, BYTES)).astype(np.uint8)),
        tvm.runtime.tensor(rng.integers(0, 1 << 30, LANES).astype(np.int32)),
        tvm.runtime.tensor(np.ones(BYTES, np.int8)),
        tvm.runtime.tensor(np.zeros((threads, ROWS * LANES), np.int32)),
    ]
    return lambda _: call(*given)
