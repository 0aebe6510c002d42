"""A call allocates its outputs and nothing else. Its intermediate results are in TVM's pool, which
the first call fills.
"""

import json
import os
import platform
import subprocess
import sys

import pytest

from tvm_balanced.runtime.environment import c_compiler

# Counts allocations of at least 1536 bytes: the model's intermediate result takes 1920, the pool
# allocates pages, and the virtual machine's notes about a call are smaller. It hooks malloc and its
# relatives, so an allocation counts even if it reuses freed memory without a page fault. With the
# naive allocator each call makes one.
COUNTER = """
#include <stdatomic.h>
#include <stddef.h>
static atomic_long large;
static size_t noted(size_t n) { large += n >= 1536; return n; }
extern void *__libc_malloc(size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
void *malloc(size_t n) { return __libc_malloc(noted(n)); }
void *realloc(void *p, size_t n) { return __libc_realloc(p, noted(n)); }
void *memalign(size_t a, size_t n) { return __libc_memalign(a, noted(n)); }
void *aligned_alloc(size_t a, size_t n) { return __libc_memalign(a, noted(n)); }
int posix_memalign(void **p, size_t a, size_t n) { return (*p = __libc_memalign(a, noted(n))) ? 0 : 12; }
long large_allocations(void) { return large; }
"""

CALLS = """
import ctypes, json, sys
sys.modules["torch"] = None
from pathlib import Path
import numpy as np
import tvm_balanced as tb

library, artifact = sys.argv[1:]
large = ctypes.CDLL(library).large_allocations
large.restype = ctypes.c_long
module, x, kept = tb.load(artifact), np.ones((5, 64), np.float32), []

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

for _ in range(20):
    module(x)
before, size = large(), resident()
for _ in range(1000):
    module(x)
dropped, grown, before = large() - before, resident() - size, large()
for _ in range(100):
    kept.append(module(x))
print(json.dumps({"dropped": dropped, "grown": grown, "kept": large() - before}))
"""


@pytest.mark.slow
@pytest.mark.xdist_group("run-book")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="counts through glibc")
def test_a_call_takes_no_memory_but_its_outputs(artifact, tmp_path):
    source, library = tmp_path / "count.c", tmp_path / "count.so"
    source.write_text(COUNTER)
    subprocess.run([c_compiler(), "-x", "c", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    command = [sys.executable, "-c", CALLS, library, artifact]
    done = subprocess.run(command, check=True, capture_output=True, env=os.environ | {"LD_PRELOAD": str(library)})
    counted = json.loads(done.stdout)
    assert counted["dropped"] < 10  # in 1000 calls; the interpreter may allocate something
    assert 90 <= counted["kept"] < 120  # one per call in 100 calls, minus what the pool still had
    assert counted["grown"] < 1 << 20
