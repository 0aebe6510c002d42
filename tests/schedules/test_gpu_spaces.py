"""The spaces of GPU kernels: what does not fit a GPU is refused, and all else computes the same, in every form and schedule.

There is no GPU here: results are those of PoCL, and nvcc says whether a GPU's machine code holds what it needs in registers.
"""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import tvm_ffi
from support import reference
from support.sample import examples

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import ALL_KERNELS, Workload
from tvm_balanced.schedules.base.space import form_of
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.testing import opencl
from tvm_balanced.tuning.runners.gpu import within_limits

H200, A100 = cuda_target("h200"), cuda_target("a100")
SMALL = {  # for PoCL: ragged, with several stages; name -> workload
    "gemv": Workload("cuda_gemv", 1, 40, 2100, 2, 16, "bfloat16", residual=True),
    "gemv of masks": Workload("cuda_gemv", 2, 40, 2048, 8, 16, "bfloat16"),
    "gemv copied ahead": Workload("cuda_gemv", 4, 40, 1000, 2, 16),
    "gemv of 8 bits": Workload("cuda_gemv_w8", 1, 40, 1000, 2, 16, "bfloat16"),
    "gemm": Workload("cuda_gemm_fp32", 16, 40, 500, 2, 16),
    "mma": Workload("cuda_decode_mma", 16, 60, 1500, 2, 16, "bfloat16"),
    "mma of many rows": Workload("cuda_decode_mma", 40, 60, 1500, 4, 16, "bfloat16", residual=True),
    "dense": Workload("cuda_dense_mma", 16, 60, 700, 1, 1, "bfloat16"),
    "wgmma": Workload("cuda_decode_wgmma", 70, 120, 700, 4, 16, "bfloat16"),
}
LARGE = {
    "gemv": Workload("cuda_gemv", 1, 4096, 8192, 2, 16, "float16"),
    "mma": Workload("cuda_decode_mma", 16, 4096, 4096, 4, 16, "float16"),
    "wgmma": Workload("cuda_decode_wgmma", 128, 4096, 4096, 2, 16, "float16"),
}


def drawn(workload, rng):
    """Return a function in a form that is drawn from those of an H200, its space there, and a point of that form."""
    kernel = ALL_KERNELS[workload.kernel]
    forms = kernel.forms(workload, H200)
    form = forms[int(rng.integers(len(forms)))]
    func = kernel.in_form(workload, form)
    space = kernel.sampled(func, workload, H200)
    points = list(itertools.takewhile(lambda point: point[0] == form, space))
    return func, space, points[int(rng.integers(len(points)))]


def error_of(func, point, workload, rng):
    """Return the relative error of a point's result on PoCL."""
    space = ALL_KERNELS[workload.kernel].sampled(func, workload, opencl.target())
    weight = reference.balanced(workload.n, workload.k, BalancedPattern(workload.nnz, workload.block), rng)
    bias, x = rng.standard_normal(workload.n).astype(np.float32), rng.standard_normal((workload.m, workload.k)).astype(np.float32)
    residual = rng.standard_normal((workload.m, workload.n)).astype(np.float32) if workload.residual else None
    arguments = reference.gpu_arguments(workload, weight, x, bias, residual)
    got = opencl.run(space.replay(point), arguments).astype(np.float32)
    exact = [reference.rounded(a, workload.dtype) for a in (x, weight, bias)]
    return reference.relative_error(got, reference.dense(*exact, residual=reference.rounded(residual, workload.dtype)))


def tolerated(workload):
    return 1e-6 if workload.dtype == "float32" else 5e-2 if workload.kernel == "cuda_gemv_w8" else 4e-3


@pytest.mark.slow
@pytest.mark.pocl
@pytest.mark.parametrize("name", [name if name in LARGE else pytest.param(name, marks=pytest.mark.nightly) for name in SMALL])
def test_a_random_point_is_refused_or_right(name):
    workload, rng = SMALL[name], np.random.default_rng(list(SMALL).index(name))
    ran = 0
    while ran < examples(4):
        func, space, point = drawn(workload, rng)
        if within_limits(space, point, H200):
            assert error_of(func, point, workload, rng) < tolerated(workload), point
            ran += 1


@pytest.mark.parametrize("name", SMALL)
def test_the_default_form_is_the_function_that_models_get(name):
    workload = SMALL[name]
    kernel = ALL_KERNELS[workload.kernel]
    func = kernel.prim_func(workload)
    assert form_of(func) in kernel.forms(workload, A100 if kernel.refuses(A100, 64, 64, workload.dtype) is None else H200)
    assert tvm_ffi.structural_equal(kernel.in_form(workload, form_of(func)), func)


@pytest.mark.slow
@pytest.mark.nvcc
@pytest.mark.parametrize(
    "name", [pytest.param("gemv", marks=pytest.mark.nightly), "mma", pytest.param("wgmma", marks=pytest.mark.nightly)]
)
def test_a_random_point_is_refused_or_compiles_without_spills(name):
    workload, rng = LARGE[name], np.random.default_rng(1)
    compiled = 0
    while compiled < examples(2):
        _, space, point = drawn(workload, rng)
        if not within_limits(space, point, H200):
            continue
        source = cuda_source(space.replay(point), "sm_90")
        compiled += 1
        (used,) = nvcc.resources(source, "sm_90").values()
        if used.spilled:
            with pytest.raises(ValueError, match=rf"spills {used.spilled} bytes"):
                nvcc.cubin_without_spills(source, "sm_90")
        else:
            assert nvcc.cubin_without_spills(source, "sm_90")[:4] == b"\x7fELF"


def test_stages_copied_too_far_ahead_do_not_fit():
    """The default fills the shared memory of a small GPU with two stages."""
    target = cuda_target("rtx4090")
    space = space_of(Workload("cuda_decode_mma", 64, 28672, 8192, 2, 16, "float16"), target)
    form, tiles, steps, ahead = space.default
    assert ahead == (0,)
    assert within_limits(space, space.default, target)
    assert not within_limits(space, (form, tiles, steps, (2,)), target)


@pytest.mark.nvcc
def test_registers_that_do_not_suffice_for_two_thread_blocks_are_refused():
    """64 sums and a decoded tile in the registers of 16 warps, twice on a multiprocessor: 64 registers a thread."""
    workload = Workload("cuda_decode_mma", 64, 4096, 2048, 8, 16, "float16")
    kernel = ALL_KERNELS[workload.kernel]
    space = kernel.sampled(kernel.in_form(workload, (2, 1, 2)), workload, H200)
    point = ((2, 1, 2), (32, 8, 1), (16, 1), (0,))
    assert point in space
    with pytest.raises(ValueError, match="spills"):
        nvcc.cubin_without_spills(cuda_source(space.replay(point), "sm_90"), "sm_90")


WORDS = {r"cp_async_commit_group\w*\(": "commit", r"async_wait_group_(\d+)\(": "wait", r"__syncthreads\(": "barrier"}


def copies_of(kernel):
    """Return commits, waits with the groups that they leave under way, and barriers: before the loop of stages, in it, behind."""
    before, rest = re.split(r"\n  for \(int g\w* = 0", kernel, maxsplit=1)
    parts = []
    for part in (before, *rest.split("\n  }\n", 1)):
        found = [
            (word, m.group(1) if m.groups() else "")
            for line in part.splitlines()
            for text, word in WORDS.items()
            if (m := re.search(text, line))
        ]
        parts.append([word + number for word, number in found])
    return parts


@pytest.mark.parametrize(("name", "ahead"), [("mma", 2), ("wgmma", 3)])
def test_what_is_copied_further_ahead_is_waited_for(name, ahead):
    """In the loop all groups of copies but the last `ahead`, then at a barrier for all threads; behind it ever fewer."""
    workload = replace(LARGE[name], n=28672, k=8192)
    kernel = ALL_KERNELS[workload.kernel]
    func = kernel.prim_func(workload)
    form = form_of(func)
    if name == "wgmma":
        point = ((*form[:2], ahead, *form[3:]), *kernel.sampled(func, workload, H200).default[1:])
    else:
        point = (*kernel.sampled(func, workload, H200).default[:-1], (ahead - 1,))
    source = cuda_source(kernel.schedule_tiles(func, workload, H200, point), "sm_90")
    before, body, behind = copies_of(source[source.rindex('extern "C" __global__') :])
    assert before.count("commit") == ahead + (name == "wgmma")  # whose loop begins when the first stage is decoded
    assert [word for word in body if word != "barrier"] == ["commit", f"wait{ahead}"]
    assert body[body.index(f"wait{ahead}") + 1] == "barrier"
    assert [word for word in behind if word != "barrier"] == [f"wait{left}" for left in range(ahead)][::-1]
    assert all(behind[i + 1] == "barrier" for i, word in enumerate(behind) if word != "barrier")
