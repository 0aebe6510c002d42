"""Properties of every GPU kernel: weights are read once, generated source does not change, races
and mistakes are detected.
"""

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import reference
from tvm.s_tir import Schedule

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.kernels import cuda_gemv
from tvm_balanced.testing import opencl

H200 = cuda_target("h200")
TESTS = Path(__file__).parent.parent
CASES = [  # kernel, M, nnz, dtype; N and K if they are not 256 and 512
    ("cuda_gemv", 1, 2, "float16"),
    ("cuda_gemv", 8, 1, "float32"),
    ("cuda_gemv", 4, 8, "bfloat16"),
    ("cuda_gemv", 1, 8, "float16", 1024, 8192),  # thread blocks share K
    ("cuda_gemv_w8", 1, 2, "float16"),
    ("cuda_gemm_fp32", 16, 2, "float32"),
    ("cuda_decode_mma", 8, 2, "float16"),
    ("cuda_decode_mma", 16, 8, "bfloat16"),
    ("cuda_decode_mma", 16, 2, "float16", 64, 1664),  # thirteen stages; all is in one above
    ("cuda_decode_mma", 16, 2, "float16", 1024, 8192),  # thread blocks share K
    ("cuda_decode_wgmma", 64, 2, "float16"),
    ("cuda_dense_mma", 16, 1, "float16"),
]
DECODING = ("cuda_decode_mma", "cuda_decode_wgmma")  # they copy a weight to shared memory as it is stored
STAGED = ("cuda_gemv", "2", "8", "1300")  # for Oclgrind: kernel, nnz, M, K; x in eleven stages


def scheduled(name, m, nnz, dtype, n=256, k=512, target=H200, **options):
    workload = Workload(name, m, n, k, nnz, 16, dtype, **options)
    return KERNELS[name].schedule_tiles(KERNELS[name].prim_func(workload), workload, target)


def times(sch, block):
    """Return how often all threads together execute a block. Nested loops of one thread axis are
    one loop; guards are evaluated.
    """
    loops = [sch.get(loop) for loop in sch.get_loops(block)]
    guard = re.sub(r"T\.(int64|int32|bool)", "int", str(loops[-1].body.predicate).splitlines()[-1])
    by_axis = {str(loop.thread_binding.thread_tag): loop for loop in loops if loop.thread_binding is not None}  # the innermost
    others = [loop for loop in loops if loop.thread_binding is None]
    loops = {loop.loop_var.name: int(loop.extent) for loop in (*by_axis.values(), *others)}
    tested = [name for name in loops if re.search(rf"\b{name}\b", guard)]
    allowed = sum(
        bool(eval(guard, {"int": int} | dict(zip(tested, at, strict=True))))  # of our own schedule
        for at in itertools.product(*(range(loops[name]) for name in tested))
    )
    return allowed * math.prod(extent for name, extent in loops.items() if name not in tested)


@pytest.mark.grid
@pytest.mark.parametrize("case", CASES[:-1], ids=str)
@pytest.mark.parametrize("part", [0, 1])
def test_each_byte_of_a_weight_is_read_once(case, part):
    name, *_ = case
    func = scheduled(*case)
    sch = Schedule(func)
    read = f"{KERNELS[name].parts[part]}_{'shared.dyn' if name in DECODING else 'local'}"
    block = "unpack" if part and name not in DECODING else read
    warps = 2 if case[0] == "cuda_gemm_fp32" else 1  # two warps read the same, the second from the cache
    assert times(sch, sch.get_sblock(block)) == warps * math.prod(int(d) for d in func.params[1 + part].ty.shape)


def test_each_byte_of_a_dense_weight_is_copied_once():
    func = scheduled(*CASES[-1])
    sch = Schedule(func)
    assert times(sch, sch.get_sblock("arrange")) == math.prod(int(d) for d in func.params[1].ty.shape)


def kernel_of(source):
    return source[source.rindex('extern "C" __global__') :].rstrip() + "\n"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden_source(case, request):
    """The generated CUDA of small cases. To accept a change, run pytest --update-golden and read the difference."""
    func = scheduled(*case)
    kernels = {kernel_of(cuda_source(func, arch)) for arch in ("sm_80", "sm_90", "sm_100")}
    (kernel,) = kernels  # one source for all
    golden = TESTS / "golden" / f"{'-'.join(map(str, case))}.cu"
    if request.config.getoption("--update-golden"):
        golden.write_text(kernel)
    assert kernel == golden.read_text(), "the source has changed; if it should: pytest --update-golden"


def oclgrind(cases):
    """Case to what Oclgrind, and the process in it that runs them all, say of it."""
    names = {",".join(case): case for case in cases}
    options = ("--local-mem-size", "49152", "--data-races", "--uninitialized", "--max-errors", "1000000")  # of all cases
    program = "import sys, support.no_torch; from support.oclgrind_case import main; main(*sys.argv[1:])"
    command = ["oclgrind", *options, sys.executable, "-c", program, *names]
    done = subprocess.run(
        command, cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout
    found = dict(part.partition("\n")[::2] for part in re.split(r"^case ", done.stdout, flags=re.MULTILINE)[1:])
    return {case: found[name] for name, case in names.items()}


RIGHT = [
    ("cuda_gemv", "8", "4", "256"),
    STAGED,
    ("cuda_gemm_fp32", "2", "16", "256"),
    ("cuda_decode_mma", "2", "4", "256"),
    ("cuda_decode_mma", "8", "4", "256"),
    ("cuda_decode_mma", "3", "4", "256"),  # a pair and a single slot
]
WRONG = [
    ((*STAGED, "0"), "data race"),  # before x of a stage is read and that of another overwritten
    ((*STAGED, "3"), "data race"),  # before the warps' shares are added
    (("cuda_gemv", "2", "4", "256", "index"), "Invalid read"),
    (("cuda_decode_mma", "2", "4", "256", "0"), "Uninitialized"),
]


@pytest.fixture(scope="module")
def right():
    return oclgrind(RIGHT)


@pytest.fixture(scope="module")
def wrong():
    return oclgrind([case for case, _ in WRONG])


@pytest.mark.slow
@pytest.mark.oclgrind
@pytest.mark.xdist_group("oclgrind, right")
@pytest.mark.parametrize("case", RIGHT)
def test_no_race_and_nothing_out_of_bounds(case, right):
    (line,) = [line for line in right[case].splitlines() if line.strip()]
    assert float(line.removeprefix("error ")) < 4e-3


@pytest.mark.slow
@pytest.mark.oclgrind
@pytest.mark.xdist_group("oclgrind, wrong")
@pytest.mark.parametrize(("case", "seen"), WRONG)
def test_a_missing_barrier_and_a_wrong_index_are_seen(case, seen, wrong):
    assert seen in wrong[case]


def test_the_staged_case_has_stages():
    name, nnz, m, k = STAGED
    workload = Workload(name, int(m), 32, int(k), int(nnz), 16)
    assert cuda_gemv._split(workload, KERNELS[name].split_rows(workload).size, "float32").stages == 11


@pytest.mark.pocl
@pytest.mark.parametrize(("right", "wrong"), [("& (uint)15", "& (uint)7"), ("+ bias_ptr", "- bias_ptr")])
def test_a_wrong_index_and_a_wrong_epilogue_change_the_result(right, wrong, rng, monkeypatch):
    weight, bias = reference.balanced(64, 256, BalancedPattern(2, 16), rng), rng.standard_normal(64).astype(np.float32)
    x = rng.standard_normal((2, 256)).astype(np.float32)
    workload = Workload("cuda_gemv", 2, 64, 256, 2, 16)
    arguments, want = reference.gpu_arguments(workload, weight, x, bias), reference.dense(x, weight, bias)
    assert reference.relative_error(reference.run_on_opencl(workload, arguments), want) < 1e-6
    original = opencl.source_of
    assert right in original(scheduled("cuda_gemv", 2, 2, "float32", 64, 256, opencl.target()))
    monkeypatch.setattr(opencl, "source_of", lambda *given: original(*given).replace(right, wrong))
    assert reference.relative_error(reference.run_on_opencl(workload, arguments), want) > 1e-3


@pytest.mark.slow
@pytest.mark.nvcc
def test_each_range_of_rows_is_compiled_for_every_kernel():
    for name, dtype in (("cuda_gemv", "float32"), ("cuda_gemm_fp32", "float32"), ("cuda_decode_mma", "float16")):
        workload = Workload(name, None, 64, 128, 2, 16, dtype)
        source = cuda_source(KERNELS[name].schedule(KERNELS[name].prim_func(workload), workload, H200), "sm_80")
        assert len(nvcc.resources(source, "sm_80")) == len(KERNELS[name].small_tiles) + 1
