import itertools
import re

import numpy as np
import pytest
import tvm
from support import reference

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.kernels import cuda_gemv
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.testing import opencl

KERNEL = KERNELS["cuda_gemv"]
H200 = cuda_target("h200")


def run(m, n, k, nnz, rng, dtype="float32", symbolic=False, block=16, **options):
    pattern = BalancedPattern(nnz, block)
    weight, bias = reference.balanced(n, k, pattern, rng), rng.standard_normal(n).astype(np.float32)
    x, residual = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((m, n)).astype(np.float32)
    residual = residual if options.get("residual") else None
    workload = Workload("cuda_gemv", None if symbolic else m, n, k, nnz, block, dtype, **options)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x, bias, residual))
    exact = [reference.rounded(a, dtype) for a in (x, weight, bias)]
    want = reference.dense(*exact, workload.activation, reference.rounded(residual, dtype))
    return reference.relative_error(got, want)


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize("nnz", [1, 2, 3, 4, 6, 8, 12])
def test_patterns(nnz, rng):
    assert run(2, 64, 512, nnz, rng) < 1e-6


@pytest.mark.pocl
@pytest.mark.parametrize(("nnz", "block"), [(4, 32), (8, 32), (3, 64), (16, 64)])
def test_long_blocks(nnz, block, rng):
    """K ends inside a block; eight of 32 have no masks."""
    assert run(2, 40, 8 * block + 20, nnz, rng, block=block) < 1e-6


@pytest.mark.pocl
def test_long_blocks_in_bfloat16(rng):
    assert run(1, 32, 256, 4, rng, "bfloat16", block=32) < 4e-3


@pytest.mark.parametrize(("pattern", "stored"), [("4:32", "4:32"), ("3:64", "3:64"), ("2:16", "2:16"), ("8:16", "8:16")])
def test_blocks_are_stored_in_the_fewest_bytes(pattern, stored, rng):
    """2:16 also fits 4:32, whose positions take twice the bits."""
    weight = reference.balanced(64, 512, BalancedPattern.parse(pattern), rng)
    assert str(KERNEL.fit(detect(weight))) == stored


def test_a_long_block_takes_half_the_bytes_of_two_short_ones(rng):
    """As 4:16, 4:32 took 2.5 bytes for each of twice as many slots; now 3 bytes for each."""
    weight = encode(reference.balanced(64, 1024, BalancedPattern(4, 32), rng).astype("float16"), BalancedPattern(4, 32))
    values, positions = KERNEL.pack(weight)
    assert values.nbytes + positions.nbytes == 64 * 1024 * 4 // 32 * 3
    short = encode(weight.decode(), BalancedPattern(4, 16))
    assert sum(part.nbytes for part in KERNEL.pack(short)) == 64 * 1024 * 4 // 16 * 2.5


@pytest.mark.slow
@pytest.mark.nvcc
def test_long_blocks_need_no_more_registers_than_short_ones():
    used = {}
    for nnz, block in ((2, 16), (4, 32)):
        workload = Workload("cuda_gemv", 1, 8192, 8192, nnz, block, "float16")
        source = cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), "sm_90")
        (used[block],) = nvcc.resources(source, "sm_90").values()
    assert used[32].spilled == used[32].stack == 0
    assert used[32].registers <= used[16].registers + 16


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 8, 9, 20])
def test_rows_of_x(m, rng):
    assert run(m, 64, 256, 2, rng) < 1e-6


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize(("n", "k"), [(33, 700), (1, 16), (100, 1000), (32, 8196), (95, 130)])
def test_ragged_shapes(n, k, rng):
    assert run(2, n, k, 2, rng) < 1e-6


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize("m", [1, 8])
@pytest.mark.parametrize(("groups", "split"), [((1, 4), (1, 4, 1, 1)), ((2, 2), (4, 1, 1, 1)), ((2, 2), (2, 2, 1, 1))])
def test_groups_of_rows_that_share_x(m, groups, split, rng):
    """In one stage and in several, with and without a split of K."""
    weight = reference.balanced(128, 256, BalancedPattern(2, 16), rng)
    bias, x = rng.standard_normal(128).astype(np.float32), rng.standard_normal((m, 256)).astype(np.float32)
    workload = Workload("cuda_gemv", m, 128, 256, 2, 16)
    arguments = reference.gpu_arguments(workload, weight, x, bias)
    last = (2,) if m == 1 else (0,)  # x is copied four columns at once, or one stage ahead
    got = opencl.run(space_of(workload, opencl.target()).replay(((1, 1, 1), groups, split, last)), arguments)
    assert reference.relative_error(got, reference.dense(x, weight, bias)) < 1e-6


def test_large_x_is_shared_by_more_rows():
    """Otherwise a block would read as many bytes of x as of weights from the second-level cache.
    Every multiprocessor needs a block, though.
    """
    for m, dtype, nnz, groups in ((1, "float16", 2, 1), (2, "float16", 8, 1), (2, "float16", 2, 4), (8, "float32", 8, 4)):
        workload = Workload("cuda_gemv", m, 65536, 4096, nnz, 16, dtype)
        assert space_of(workload, H200).default[1][1] == groups
    assert space_of(Workload("cuda_gemv", 8, 4096, 4096, 1, 16, "float16"), H200).default[1] == (128, 1)


@pytest.mark.pocl
@pytest.mark.parametrize("kept", [3, 7])
def test_masks_of_blocks_that_keep_less(kept, rng):
    pattern, weight = BalancedPattern(8, 16), reference.balanced(40, 200, BalancedPattern(kept, 16), rng)
    x = rng.standard_normal((2, 200)).astype(np.float32)
    workload = Workload("cuda_gemv", 2, 40, 200, pattern.nnz, 16)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x))
    assert reference.relative_error(got, reference.dense(x, weight)) < 1e-6


@pytest.mark.pocl
def test_every_mask(rng):
    """Every choice of eight columns of 16, in one weight."""
    masks = np.array([mask for mask in range(1 << 16) if mask.bit_count() == 8])
    rows, blocks = 130, 99
    assert rows * blocks == len(masks)
    kept = masks.reshape(rows, blocks, 1) >> np.arange(16) & 1
    weight = (rng.uniform(1, 2, kept.shape) * kept).astype(np.float32).reshape(rows, -1)
    x = rng.standard_normal((2, weight.shape[1])).astype(np.float32)
    workload = Workload("cuda_gemv", 2, *weight.shape, 8, 16)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x))
    assert reference.relative_error(got, reference.dense(x, weight)) < 1e-6


@pytest.mark.nvcc
def test_masks_are_looked_up():
    """Two words of a table for eight slots, and no search for bits, which took two thirds of all instructions."""
    workload = Workload("cuda_gemv", 1, 4096, 4096, 8, 16, "float16")
    text = nvcc.ptx(cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), "sm_90"), "sm_90")
    assert not re.search(r"clz|bfind|popc", text)
    assert text.count("ld.shared.u32") + text.count("ld.shared.b32") == 2 * text.count("ld.global.nc.u16")


@pytest.mark.pocl
@pytest.mark.parametrize("nnz", [1, 4])
def test_bfloat16_with_sums_in_float32(nnz, rng):
    assert run(4, 64, 1024, nnz, rng, "bfloat16") < 4e-3  # y itself is rounded to 8 bits


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu"])
def test_epilogue(activation, rng):
    assert run(2, 40, 96, 4, rng, activation=activation, residual=True) < 1e-5


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize("m", [1, 7, 8, 19])
def test_rows_known_only_at_the_call(m, rng):
    assert run(m, 64, 128, 2, rng, symbolic=True) < 1e-6


def test_layout_is_the_documented_one(rng):
    pattern = BalancedPattern(2, 16)
    encoded = encode(reference.balanced(64, 256, pattern, rng), pattern)
    values, indices = KERNEL.pack(encoded)
    assert (values.shape, indices.shape) == ((2, 8, 32, 4), (2, 4, 32))
    for row, slot in ((0, 0), (5, 3), (33, 7), (63, 31)):
        assert values[row // 32, slot // 4, row % 32, slot % 4] == encoded.values[row, slot // 2, slot % 2]
        word = int(indices[row // 32, slot // 8, row % 32])
        assert word >> 4 * (slot % 8) & 15 == encoded.indices[row, slot // 2, slot % 2]


@pytest.mark.parametrize(
    ("nnz", "dtype", "expected"), [(2, "float32", 4.5), (2, "float16", 2.5), (4, "bfloat16", 2.5), (8, "float32", 4.25)]
)
def test_bytes_a_nonzero(nnz, dtype, expected, rng):
    pattern = BalancedPattern(nnz, 16)
    weight = reference.balanced(64, 1024, pattern, rng).astype(reference.numpy_dtype(dtype))
    assert sum(a.nbytes for a in KERNEL.pack(encode(weight, pattern))) / (64 * 1024 * nnz / 16) == expected


def test_fit_has_nothing_for_a_dense_weight(rng):
    assert KERNEL.fit(detect(rng.standard_normal((16, 64)).astype(np.float32))) is None


@pytest.mark.grid
@pytest.mark.parametrize("workload", [Workload("cuda_gemv", m, 4096, 4096, 2, 16, d) for m in (1, 8) for d in KERNEL.dtypes])
def test_loops_of_a_thread_axis_agree(workload):
    blocks, threads = opencl.launch(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200))
    assert blocks == (1, 128, 1)
    assert threads[0] == 32
    assert threads[1] >= 8


@pytest.mark.slow
@pytest.mark.nvcc
@pytest.mark.grid
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    ("m", "nnz", "dtype", "registers"), [(1, 2, "float16", 48), (8, 2, "float16", 80), (1, 1, "float32", 48)]
)
def test_machine_code(m, nnz, dtype, registers, arch):
    workload = Workload("cuda_gemv", m, 4096, 4096, nnz, 16, dtype)
    source = cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), arch)
    found, text = nvcc.resources_and_ptx(source, arch)
    (used,) = found.values()
    assert (used.spilled, used.stack) == (0, 0)
    assert used.registers <= registers
    assert used.shared <= 48 << 10
    assert "ld.global.nc.v4" in text


@pytest.mark.nvcc
@pytest.mark.parametrize(("m", "nnz"), [(8, 1), (4, 2), (1, 8)])
def test_large_layers_spill_nothing(m, nnz):
    workload = Workload("cuda_gemv", m, 28672, 8192, nnz, 16, "float16")
    source = cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), "sm_90")
    (used,) = nvcc.resources(source, "sm_90").values()
    assert (used.spilled, used.stack) == (0, 0)


def test_symbolic_rows_get_a_kernel_for_each_range():
    workload = Workload("cuda_gemv", None, 256, 256, 2, 16, "float16")
    source = cuda_source(KERNEL.schedule(KERNEL.prim_func(workload), workload, H200), "sm_90")
    assert source.count('extern "C" __global__') == 2 * 4  # declared and defined


def test_refuses_what_it_cannot_compute():
    assert "not a GPU" in KERNEL.refuses(H200.host, 64, 64, "float32")
    assert "float64" in KERNEL.refuses(H200, 64, 64, "float64")
    assert KERNEL.refuses(H200, 1, 1, "float16") is None
    turing = tvm.target.Target({"kind": "cuda", "arch": "sm_75"})
    assert KERNEL.refuses(turing, 64, 64, "bfloat16") == "it needs sm_80 or newer"
    assert KERNEL.refuses(turing, 64, 64, "float16") is None


@pytest.mark.nvcc
@pytest.mark.parametrize(("dtype", "copies"), [("float32", True), ("float16", False)])
def test_x_is_copied_while_it_is_used_where_cp_async_can(dtype, copies):
    workload = Workload("cuda_gemv", 8, 16384, 8192, 2, 16, dtype)
    source = cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), "sm_90")
    kernel = source[source.rindex('extern "C" __global__') :]
    assert ("cp_async" in kernel) == copies
    assert ("async_wait_group_1" in kernel) == ("async_wait_group_0" in kernel) == copies


SMALL = Workload("cuda_gemv", 1, 1024, 8192, 8, 16, "float16")  # too few blocks of 32 rows for all multiprocessors


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize(
    ("m", "n", "k", "nnz", "dtype", "slices"),
    [(2, 40, 2048, 8, "bfloat16", 2), (1, 33, 8192, 2, "float32", 2), (1, 64, 4096, 8, "bfloat16", 4)],
)
def test_slices_of_k(m, n, k, nnz, dtype, slices, rng):
    """In OpenCL one block computes them in turn."""
    workload = Workload("cuda_gemv", m, n, k, nnz, 16, dtype)
    assert cuda_gemv._shared(workload, KERNEL.split_rows(workload).size, dtype)[0] == slices
    assert run(m, n, k, nnz, rng, dtype, residual=True) < (1e-6 if dtype == "float32" else 4e-3)


def test_blocks_share_k_where_they_leave_multiprocessors_idle():
    for n, k, nnz, slices in (
        (1024, 8192, 8, 4),
        (1024, 8192, 2, 2),
        (2048, 8192, 8, 2),
        (4096, 4096, 8, 1),
        (28672, 8192, 2, 1),
    ):
        assert cuda_gemv._shared(Workload("cuda_gemv", 1, n, k, nnz, 16, "float16"), 1, "float16")[0] == slices
    assert cuda_gemv._shared(SMALL, 1, "int8") == (1, 1), "values in 8 bits have scales"


@pytest.mark.slow
@pytest.mark.nvcc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_machine_code_of_slices(arch):
    """A cluster meets before its sums go to the first block and after that, and without atomics."""
    target = cuda_target("a100") if arch == "sm_80" else H200
    source = cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(SMALL), SMALL, target), arch)
    kernel = source[source.rindex('extern "C" __global__') :]
    words = re.findall(r"meet_cluster|store_in_first|is_first", kernel)
    order = [word for word, _ in itertools.groupby(words)]
    assert order == ["meet_cluster", "store_in_first", "meet_cluster", "is_first"]
    assert ("blockIdx.z" in kernel) == (arch != "sm_80")
    found, text = nvcc.resources_and_ptx(source, arch)
    (used,) = found.values()
    assert (used.spilled, used.stack) == (0, 0)
    assert used.registers <= 128
    assert ("st.shared::cluster.f32" in text) == ("barrier.cluster.arrive.release" in text) == (arch != "sm_80")
    assert not re.search(r"\b(atom|red)\.", text)  # what was added in any order would not be the same bits
