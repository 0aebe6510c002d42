"""Run GPU kernels on small shapes, inside Oclgrind: `main` in a process that oclgrind starts.

A case is KERNEL,NNZ,M,K or KERNEL,NNZ,M,K,MUTATION. MUTATION is "index", or the number of a barrier that is taken out, from 0 up
in the order of the source. Each case is named in a line "case CASE" before what Oclgrind and this say of it.
"""

import sys
from unittest.mock import patch

import numpy as np
from support import reference

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import Workload
from tvm_balanced.testing import opencl

BARRIER = "barrier(CLK_LOCAL_MEM_FENCE);"


def without_barrier(source, number):
    """The kernel without one of its barriers; those before it belong to the definition of mma."""
    head, kernel = source.split("__kernel void", 1)
    parts = kernel.split(BARRIER)
    return f"{head}__kernel void{BARRIER.join(parts[: number + 1])}{BARRIER.join(parts[number + 1 :])}"


def mutated(source, mutation):
    """The source with a mistake in it."""
    wrong = source.replace("& (uint)15", "& (uint)65535") if mutation == "index" else without_barrier(source, int(mutation))
    assert wrong != source
    return wrong


def run(name, nnz, m, k, mutation=None):
    rng, pattern = np.random.default_rng(0), BalancedPattern(int(nnz), 16)
    n, m, k = 32, int(m), int(k)
    dtype = "bfloat16" if name == "cuda_decode_mma" else "float32"
    weight, x = reference.balanced(n, k, pattern, rng), rng.standard_normal((m, k)).astype(np.float32)
    workload = Workload(name, m, n, k, int(nnz), 16, dtype)
    original = opencl.source_of
    with patch.object(opencl, "source_of", lambda *given: mutated(original(*given), mutation) if mutation else original(*given)):
        got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x), platform="Oclgrind")
    exact = [reference.rounded(a, dtype) for a in (x, weight)]
    print("error", reference.relative_error(got, reference.dense(*exact)))


def main(*cases):
    for case in cases:
        print("case", case, flush=True)
        run(*case.split(","))
        sys.stdout.flush()
