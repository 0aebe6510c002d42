import itertools
import re

import numpy as np
import pytest
import reference
import tvm

from tvm_balanced.detection import detect
from tvm_balanced.encoding import encode
from tvm_balanced.gpu import nvcc, opencl
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.cuda_decode_mma import NNZ, _cut
from tvm_balanced.targets import cuda_target

KERNEL = KERNELS["cuda_decode_mma"]
H200 = cuda_target("h200")
SYNCHRONIZATION = {  # what a line of CUDA does, by what it has
    r"__syncthreads\(": "barrier",
    r"ptx_cp_async_legacy\w*\(": "copy",
    r"cp_async_commit_group\w*\(": "commit",
    r"async_wait_group_1\(": "wait for all but the last",
    r"async_wait_group_0\(": "wait for all",
    r"mma_m16n8k16\w*\(": "mma",
}
COPIES = ("copy", "commit")
LOOP = ("barrier", "copy", "commit", "wait for all but the last", "barrier", "mma")
LAST_STAGE = ("wait for all", "barrier", "mma")


def run(m, n, k, nnz, rng, symbolic=False, kept=None, **options):
    weight, bias = reference.balanced(n, k, BalancedPattern(kept or nnz, 16), rng), rng.standard_normal(n).astype(np.float32)
    x, residual = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((m, n)).astype(np.float32)
    residual = residual if options.get("residual") else None
    workload = Workload("cuda_decode_mma", None if symbolic else m, n, k, nnz, 16, "bfloat16", **options)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x, bias, residual))
    exact = [reference.rounded(a, "bfloat16") for a in (x, weight, bias)]
    return reference.relative_error(got, reference.dense(*exact, workload.activation, reference.rounded(residual, "bfloat16")))


@pytest.mark.pocl
@pytest.mark.parametrize("nnz", NNZ)
def test_patterns(nnz, rng):
    assert run(16, 64, 512, nnz, rng) < 4e-3  # y itself is rounded to 8 bits


@pytest.mark.pocl
@pytest.mark.parametrize(
    ("m", "n", "k", "nnz", "stages"), [(33, 33, 1000, 8, 4), (4, 16, 704, 8, 11), (16, 64, 1664, 2, 13), (64, 48, 1500, 4, 6)]
)
def test_stages_of_x(m, n, k, nnz, stages, rng):
    assert _cut(Workload("cuda_decode_mma", m, n, k, nnz, 16, "bfloat16")).stages == stages
    assert run(m, n, k, nnz, rng) < 4e-3


@pytest.mark.pocl
@pytest.mark.parametrize(("kept", "stored"), [(5, 8), (5, 6), (1, 4)])
def test_slots_that_are_not_used(kept, stored, rng):
    assert run(8, 32, 256, stored, rng, kept=kept) < 4e-3


@pytest.mark.pocl
@pytest.mark.parametrize("m", [1, 8, 9, 33, 64, 70])
def test_rows_of_x(m, rng):
    assert run(m, 48, 256, 2, rng) < 4e-3


@pytest.mark.pocl
@pytest.mark.parametrize(("n", "k"), [(33, 700), (1, 16), (100, 1000), (16, 2052)])
def test_ragged_shapes(n, k, rng):
    assert run(5, n, k, 2, rng) < 4e-3


@pytest.mark.pocl
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_epilogue(activation, rng):
    assert run(10, 40, 128, 4, rng, activation=activation, residual=True) < 4e-3


@pytest.mark.pocl
@pytest.mark.parametrize("m", [1, 64, 77])
def test_rows_known_only_at_the_call(m, rng):
    assert run(m, 32, 128, 2, rng, symbolic=True, tile=16) < 4e-3


def test_layout_is_the_documented_one(rng):
    pattern = BalancedPattern(2, 16)
    encoded = encode(reference.balanced(32, 256, pattern, rng).astype(np.float16), pattern)
    values, indices = KERNEL.pack(encoded)
    assert (values.shape, indices.shape) == ((2, 2, 1, 32, 4), (2, 2, 1, 32))
    halves = values.view(np.float16)
    for tile, group, lane, slot in ((0, 0, 0, 0), (1, 0, 13, 5), (0, 1, 31, 7), (1, 1, 6, 2)):
        step, half, j = slot // 4, slot // 2 % 2, slot % 2
        row, block = tile * 16 + half * 8 + lane // 4, (group * 2 + step) * 4 + lane % 4
        assert halves[tile, group, 0, lane, slot] == encoded.values[row, block, j]
        assert int(indices[tile, group, 0, lane]) >> 4 * slot & 15 == encoded.indices[row, block, j]


@pytest.mark.parametrize(("nnz", "expected"), [(1, 2.5), (2, 2.5), (3, 2.5), (4, 2.5), (6, 2 + 1 / 3), (8, 2.25)])
def test_bytes_a_nonzero(nnz, expected, rng):
    pattern = BalancedPattern(nnz, 16)
    packed = KERNEL.pack(encode(reference.balanced(64, 1024, pattern, rng).astype(np.float16), pattern))
    assert sum(a.nbytes for a in packed) / (64 * 1024 * nnz / 16) == pytest.approx(expected)


def test_masks_are_the_documented_ones(rng):
    pattern = BalancedPattern(8, 16)
    weight = reference.balanced(32, 128, pattern, rng).astype(np.float16)
    _, masks = KERNEL.pack(encode(weight, pattern))
    assert masks.shape == (2, 2, 1, 32)
    for tile, group, lane in ((0, 0, 0), (1, 1, 31), (1, 0, 13)):
        row, column = tile * 16 + lane // 4, (group * 4 + lane % 4) * 16
        for half in (0, 1):
            kept = weight[row + 8 * half, column : column + 16] != 0
            assert int(masks[tile, group, 0, lane]) >> 16 * half & 0xFFFF == sum(1 << c for c in range(16) if kept[c])


def test_fit_has_nothing_where_most_are_kept(rng):
    assert KERNEL.fit(detect(reference.balanced(16, 64, BalancedPattern(10, 16), rng))) is None


@pytest.mark.nvcc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    ("m", "nnz", "dtype", "registers"),
    [(16, 2, "float16", 64), (16, 8, "bfloat16", 96), (64, 4, "float16", 96), (64, 1, "bfloat16", 128)],
)
def test_machine_code(m, nnz, dtype, registers, arch):
    workload = Workload("cuda_decode_mma", m, 4096, 4096, nnz, 16, dtype)
    function = KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200)
    source = nvcc.cuda_source(function, arch)
    (used,) = nvcc.resources(source, arch).values()
    assert (used.spilled, used.stack) == (0, 0)
    assert used.registers <= registers
    text = nvcc.ptx(source, arch)
    assert "mma.sync.aligned.m16n8k16" in text
    assert "cp.async.cg.shared.global" in text
    assert "ld.global.nc.v4" in text
    assert "ld.global.u16" not in text
    assert max(opencl.launch(function)[1]) <= 32


@pytest.mark.parametrize(
    ("m", "n", "k", "nnz"), [(64, 11008, 8192, 8), (64, 28672, 8192, 4), (16, 152064, 5120, 8), (9, 4096, 11008, 2)]
)
def test_large_layers_become_source(m, n, k, nnz):
    workload = Workload("cuda_decode_mma", m, n, k, nnz, 16, "float16")
    source = nvcc.cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), "sm_90")
    assert "cp_async" in source


def cuda_of(m, n, k, nnz):
    workload = Workload("cuda_decode_mma", m, n, k, nnz, 16, "float16")
    source = nvcc.cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), "sm_90")
    return source[source.rindex('extern "C" __global__') :]


def synchronization(kernel):
    """Return what the copies before the loop over stages do, its body, and the last stage behind it, repetitions left out."""
    before, rest = kernel.split("\n  for (int g_0", 1)  # the loop: TVM names it after the axis of K groups
    body, after = rest.split("\n  }\n", 1)
    parts = []
    for part in (before, body, after):
        lines = [word for line in part.splitlines() for text, word in SYNCHRONIZATION.items() if re.search(text, line)]
        parts.append(tuple(word for word, _ in itertools.groupby(lines)))
    return parts[0], parts[1], parts[2][: len(LAST_STAGE)]


@pytest.mark.parametrize(
    ("m", "n", "k", "nnz"), [(4, 16, 704, 8), (16, 64, 1664, 2), (33, 33, 1000, 8), (16, 28672, 8192, 2), (64, 28672, 8192, 8)]
)
def test_copies_are_waited_for_and_not_overwritten(m, n, k, nnz):
    assert synchronization(cuda_of(m, n, k, nnz)) == (COPIES, LOOP, LAST_STAGE)


def test_a_missing_wait_or_barrier_is_seen():
    """As it must be here: in OpenCL the definition of mma has barriers, which hide that one of the loop is missing."""
    lines = cuda_of(4, 16, 704, 8).splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if "ptx_cp_async_legacy" in line)
    last = next(i for i, line in enumerate(lines) if "async_wait_group_0(" in line) + 1  # the barrier of the last stage
    needed = [i for i in range(first, last + 1) if any(re.search(text, lines[i]) for text in SYNCHRONIZATION)]
    assert len(needed) == len(COPIES + LOOP + LAST_STAGE) - 1  # its mma is further on
    for i in needed:
        assert synchronization("".join((*lines[:i], *lines[i + 1 :]))) != (COPIES, LOOP, LAST_STAGE), lines[i]


def test_refuses_what_it_cannot_compute():
    assert "not a GPU" in KERNEL.refuses(H200.host, 64, 64, "float16")
    assert "float32" in KERNEL.refuses(H200, 64, 64, "float32")
    assert KERNEL.refuses(tvm.target.Target({"kind": "cuda", "arch": "sm_75"}), 64, 64, "float16") == "it needs sm_80 or newer"
