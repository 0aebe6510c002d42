"""Run kernels whose arguments each end at a page that may not be accessed, for tests/schedules/test_memory.py.

ROWS is "known" or "symbolic", with "-prefetched" at the end if every weight is to count as large and be prefetched. A case
is KERNEL,TARGET,PATTERN. Says which cases have passed, as they do: one that touches such a page ends the process.
"""

import ctypes
import mmap
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import tvm
from support import reference
from support.sample import NIGHTLY
from tvm import te

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, DenseKernel
from tvm_balanced.schedules.base.buckets import dispatch_on_m
from tvm_balanced.schedules.tir import prefetch

SHAPES = ((64, 128, 16), (64, 128, 9), (48, 112, 1), (80, 144, 5), (16, 16, 3), (1000, 48, 2), (48, 272, 300))  # N, K, M
WHOLE = (80, 144)  # N, K of a function for any number of rows that is called with every M of SHAPES
# Cases of symbolic rows call one function with every M besides; those that are prefetched are of one kernel.
EVERY = {"known": 2, "symbolic": 7, "known-prefetched": 1, "symbolic-prefetched": 2}
LIBC = ctypes.CDLL(None, use_errno=True)
PAGE, PROT_NONE = mmap.PAGESIZE, 0
alive = []  # memory of the arguments


def guarded(array):
    """A tensor of TVM with what `array` holds, right before a page without access."""
    size = -(-array.nbytes // PAGE) * PAGE
    region = mmap.mmap(-1, size + PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(region))
    assert LIBC.mprotect(ctypes.c_void_p(base + size), PAGE, PROT_NONE) == 0
    start = (size - array.nbytes) // 64 * 64  # up to 63 bytes of slack: TVM wants 64-byte alignment
    placed = np.frombuffer(region, array.dtype, array.size, start).reshape(array.shape)
    placed[...] = array
    alive.append(region)
    return tvm.runtime.from_dlpack(placed)


def any_rows(kernel, workload, target, m=None):
    """A kernel's function for any number of rows of x; with `m` only as much of it as a call with m rows runs."""
    func = kernel.prim_func(workload)
    if m is None:
        return kernel.schedule(func, workload, target)
    return dispatch_on_m(kernel.specializations(func, workload, target, RowRange(m, m), lambda _: None))


def check(name, target, pattern, n, k, rows, schedule):
    """Build what `schedule` returns for a kernel, workload of unknown M and target, and call it with each number of `rows`."""
    kernel, rng = KERNELS[name], np.random.default_rng(0)
    weight = reference.balanced(n, k, pattern, rng)
    dense = isinstance(kernel, DenseKernel)
    packed = kernel.pack(weight) if dense else kernel.pack(encode(weight, pattern))
    function = schedule(kernel, kernel.workload(None, n, k, None if dense else pattern, residual=True), target)
    main = build(function.with_attr("global_symbol", "main"), target)["main"]
    constants = [guarded(a) for a in (*packed, kernel.pack_bias(np.zeros(n, np.float32)))]
    for m in rows:
        print("next", name, n, k, m, file=sys.stderr, flush=True)
        x, residual = (rng.standard_normal((m, columns)).astype(np.float32) for columns in (k, n))
        y = guarded(np.zeros((m, n), np.float32))
        main(guarded(x), *constants, guarded(residual), y)
        want = reference.dense(x, weight, residual=residual)
        assert reference.relative_error(np.from_dlpack(y), want) < (kernel.tolerance or 1e-5)


def known(kernel, workload, target, m):
    workload = replace(workload, m=m)
    return kernel.schedule(kernel.prim_func(workload), workload, target)


def read_past():
    """What none of the kernels may do."""
    x = te.placeholder((16,), "float32", "x")
    func = te.create_prim_func([x, te.compute((16,), lambda i: x[i + 1], "y")])
    x, y = (guarded(np.zeros(16, np.float32)) for _ in "xy")
    build(func.with_attr("global_symbol", "main"), host_target())["main"](x, y)


def shapes_of(rows, name, target, pattern):
    """By day a case gets one of EVERY shapes, and cases that follow one another get others: all at night."""
    every = 1 if NIGHTLY else EVERY[rows]
    place = [*KERNELS].index(name) + BalancedPattern.parse(pattern).nnz + ("/" in target)
    return SHAPES[place % every :: every]


def main(rows, *cases):
    kind, _, prefetched = rows.partition("-")
    if prefetched:
        prefetch.LARGE_BYTES = 0
    for case in cases:
        if case.startswith("past"):
            read_past()
            continue
        name, target, pattern = case.split(",")
        given = name, parse_target(target), BalancedPattern.parse(pattern)
        for n, k, m in shapes_of(rows, name, target, pattern):
            check(*given, n, k, [m], partial(known if kind == "known" else any_rows, m=m))
        if kind == "symbolic":
            check(*given, *WHOLE, [m for *_, m in SHAPES], any_rows)
        print("passed", case, flush=True)
        alive.clear()
