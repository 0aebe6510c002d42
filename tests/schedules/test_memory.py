"""No kernel touches memory outside its arguments: each argument ends at a page that may not be accessed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.runtime.host import host_target, runs_here
from tvm_balanced.schedules import KERNELS

HERE = [name for name, kernel in KERNELS.items() if kernel.refuses(host_target(), 64, 64, "float32") is None]

SCRIPT = """
import ctypes, mmap, sys
import numpy as np, tvm
import reference
from tvm_balanced.compiler.build import build
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, DenseKernel, Workload, fetch
from tvm_balanced.compiler.targets import parse_target

fetch.LARGE_BYTES = 0 if sys.argv[5] == "fetched" else fetch.LARGE_BYTES
libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE

def guarded(array):
    size = -(-array.nbytes // PAGE) * PAGE
    region = mmap.mmap(-1, size + PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(region))
    assert libc.mprotect(ctypes.c_void_p(base + size), PAGE, mmap.PROT_NONE if hasattr(mmap, "PROT_NONE") else 0) == 0
    start = (size - array.nbytes) // 64 * 64  # up to 63 bytes of slack: TVM wants 64-byte alignment
    placed = np.frombuffer(region, array.dtype, array.size, start).reshape(array.shape)
    placed[...] = array
    guarded.alive.append(region)
    return tvm.runtime.from_dlpack(placed)
guarded.alive = []

name, symbolic, target, pattern = sys.argv[1], sys.argv[2] == "symbolic", parse_target(sys.argv[3]), sys.argv[4]
kernel, pattern, rng = KERNELS[name], BalancedPattern.parse(pattern), np.random.default_rng(0)
for n, k, m in ((64, 128, 16), (64, 128, 9), (48, 112, 1), (80, 144, 5), (16, 16, 3), (1000, 48, 2), (48, 272, 300)):
    weight = reference.balanced(n, k, pattern, rng)
    dense = isinstance(kernel, DenseKernel)
    packed = kernel.pack(weight) if dense else kernel.pack(encode(weight, pattern))
    stored = (1, 1) if dense else (pattern.nnz, pattern.block)
    workload = Workload(name, None if symbolic else m, n, k, *stored, residual=True)
    function = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    x, y = rng.standard_normal((m, k)).astype(np.float32), np.zeros((m, n), np.float32)
    residual = rng.standard_normal((m, n)).astype(np.float32)
    arguments = [guarded(a) for a in (x, *packed, kernel.pack_bias(np.zeros(n, np.float32)), residual, y)]
    build(function, target)["main"](*arguments)
    want = reference.dense(x, weight, residual=residual)
    assert reference.relative_error(np.from_dlpack(arguments[-1]), want) < (kernel.tolerance or 1e-5)
"""


CASES = [(name, "cpu", "2:16") for name in HERE]
if "cpu_avx2" in HERE and runs_here(parse_target("cpu/x86-64-v3")):
    CASES += [("cpu_avx2", "cpu/x86-64-v3", pattern) for pattern in ("2:16", "1:8")]


def run_guarded(*arguments):
    folder = Path(__file__).parent.parent
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:] or f"ended by signal {-done.returncode}"


@pytest.mark.parametrize(("name", "target", "pattern"), CASES)
@pytest.mark.parametrize("rows", ["known", "symbolic"])
def test_nothing_past_an_argument_is_touched(name, target, pattern, rows):
    run_guarded(name, rows, target, pattern, "small")


@pytest.mark.avx512
@pytest.mark.parametrize("rows", ["known", "symbolic"])
def test_nothing_past_an_argument_is_touched_where_weights_are_fetched(rows):
    run_guarded("cpu_avx512", rows, "cpu", "2:16", "fetched")
