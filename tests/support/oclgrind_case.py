"""Run one GPU kernel on a small shape, inside Oclgrind; called as: oclgrind python oclgrind_case.py KERNEL NNZ M K [MUTATION].

MUTATION is "index", or the number of a barrier that is taken out, from 0 up in the order of the source.
"""

import sys

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


def main(name, nnz, m, k, mutation=None):
    rng, pattern = np.random.default_rng(0), BalancedPattern(int(nnz), 16)
    n, m, k = 32, int(m), int(k)
    dtype = "bfloat16" if name == "cuda_decode_mma" else "float32"
    weight, x = reference.balanced(n, k, pattern, rng), rng.standard_normal((m, k)).astype(np.float32)
    workload = Workload(name, m, n, k, int(nnz), 16, dtype)
    if mutation:
        original = opencl.source_of
        opencl.source_of = lambda *given: mutated(original(*given), mutation)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x), platform="Oclgrind")
    exact = [reference.rounded(a, dtype) for a in (x, weight)]
    print("error", reference.relative_error(got, reference.dense(*exact)))


if __name__ == "__main__":
    main(*sys.argv[1:])
