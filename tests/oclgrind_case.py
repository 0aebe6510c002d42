"""Run one GPU kernel on a small shape, inside Oclgrind; called as: oclgrind python oclgrind_case.py KERNEL NNZ [MUTATION]."""

import sys

import numpy as np
import reference

from tvm_balanced.gpu import opencl
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules import Workload


def without_first_barrier(source):
    """The kernel without its first barrier; those before it belong to the definition of mma."""
    head, kernel = source.split("__kernel void", 1)
    return head + "__kernel void" + kernel.replace("barrier(CLK_LOCAL_MEM_FENCE);", "", 1)


MUTATIONS = {"barrier": without_first_barrier, "index": lambda source: source.replace("& (uint)15", "& (uint)65535")}


def main(name, nnz, mutation=None):
    rng, pattern = np.random.default_rng(0), BalancedPattern(int(nnz), 16)
    n, k, m = 32, 256, 16 if name == "cuda_gemm_fp32" else 4
    dtype = "bfloat16" if name == "cuda_decode_mma" else "float32"
    weight, x = reference.balanced(n, k, pattern, rng), rng.standard_normal((m, k)).astype(np.float32)
    workload = Workload(name, m, n, k, int(nnz), 16, dtype)
    if mutation:
        original = opencl.source_of
        opencl.source_of = lambda *given: MUTATIONS[mutation](original(*given))
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x), platform="Oclgrind")
    exact = [reference.rounded(a, dtype) for a in (x, weight)]
    print("error", reference.relative_error(got, reference.dense(*exact)))


if __name__ == "__main__":
    main(*sys.argv[1:])
