import itertools
import re

import numpy as np
import pytest
import torch
import tvm
from support import reference
from torch import nn

import tvm_balanced as tb
from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.base.target_info import shared_bytes
from tvm_balanced.schedules.kernels.cuda_decode_wgmma import COLUMNS, NNZ, WARPS, shared_need, warpgroups
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.schedules.tir.cuda_intrinsics import descriptor
from tvm_balanced.tuning.runners.gpu import within_limits

KERNEL = KERNELS["cuda_decode_wgmma"]
H200 = cuda_target("h200")
SYNCHRONIZATION = {  # synchronization of a line of CUDA code, by a text in it
    r"__syncthreads\(": "barrier",
    r"ptx_cp_async_legacy\w*\(": "copy",
    r"cp_async_commit_group\w*\(": "commit",
    r"async_wait_group_1\(": "wait for all but the last",
    r"async_wait_group_0\(": "wait for all",
    r"store_words\(": "store",
    r"drain\(": "drain",
    r"wgmma_m64n\w*\(": "wgmma",
    r"wait_for_sums_\d+\(": "wait for sums",
}
DECODE = ("barrier", "wgmma", "store", "drain", "barrier")  # multiplies a stage while the next one is decoded
LOOP = ("copy", "commit", "wait for all but the last", *DECODE)
LAST_STAGES = ("wait for all", *DECODE, "wgmma", "wait for sums", "barrier")


def run(m, n, k, nnz, rng, symbolic=False, **options):
    weight, bias = reference.balanced(n, k, BalancedPattern(nnz, 16), rng), rng.standard_normal(n).astype(np.float32)
    x, residual = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((m, n)).astype(np.float32)
    residual = residual if options.get("residual") else None
    workload = Workload(KERNEL.name, None if symbolic else m, n, k, nnz, 16, "bfloat16", **options)
    got = reference.run_on_opencl(workload, reference.gpu_arguments(workload, weight, x, bias, residual))
    exact = [reference.rounded(a, "bfloat16") for a in (x, weight, bias)]
    return reference.relative_error(got, reference.dense(*exact, workload.activation, reference.rounded(residual, "bfloat16")))


@pytest.mark.pocl
@pytest.mark.parametrize(("m", "n", "k", "nnz"), [(16, 64, 512, 2), (24, 100, 300, 8), (9, 64, 384, 4)])
def test_results(m, n, k, nnz, rng):
    assert run(m, n, k, nnz, rng) < 4e-3  # y itself is rounded to 8 bits


@pytest.mark.pocl
@pytest.mark.grid
@pytest.mark.parametrize(("m", "n", "k", "nnz"), [(64, 200, 700, 4), (70, 64, 128, 2), (300, 33, 272, 6)])
def test_ragged_shapes(m, n, k, nnz, rng):
    assert run(m, n, k, nnz, rng) < 4e-3


@pytest.mark.pocl
def test_epilogue_where_rows_are_known_only_at_the_call(rng):
    assert run(20, 40, 128, 4, rng, symbolic=True, tile=16, activation="gelu", residual=True) < 4e-3


def cuda_of(m, n, k, nnz, dtype="float16"):
    workload = Workload(KERNEL.name, m, n, k, nnz, 16, dtype)
    return cuda_source(KERNEL.schedule_tiles(KERNEL.prim_func(workload), workload, H200), "sm_90")


def kernel_of(source):
    return source[source.rindex('extern "C" __global__') :]


def field(word, first, bits):
    return word >> first & (1 << bits) - 1


def read_operand(memory, word, rows, columns):
    """What tensor cores read by a descriptor: a (rows, columns) operand of 16 bits, from bytes of shared memory.

    PTX ISA, wgmma's matrix descriptor and shared memory layout of K-major operands without a swizzle.
    """
    start, leading, stride = (16 * field(word, first, 14) for first in (0, 16, 32))
    assert field(word, 62, 2) == 0  # no swizzle
    assert field(word, 49, 3) == 0  # no base offset
    row, column = np.ogrid[:rows, :columns]
    at = start + column // 8 * leading + row // 8 * stride + row % 8 * 16 + column % 8 * 2
    return memory.view(np.uint16)[at // 2]


class Threads:
    """Evaluates index expressions of a kernel's source for every thread of a block."""

    def __init__(self, kernel, groups):
        z, y, x = (a.ravel() for a in np.meshgrid(range(groups), range(WARPS), range(32), indexing="ij"))
        self.known = {"tx": x, "ty": y, "tz": z, "bx": 0, "by": 0, "g": 0}
        for name, value in re.findall(r"^  int (cse_v\d+) = (.*);$", kernel, re.MULTILINE):
            self.known[name] = self(value)

    def __call__(self, text, **loops):
        for name, short in (("threadIdx", "t"), ("blockIdx", "b")):
            text = re.sub(rf"\(\(int\){name}\.(\w)\)", rf"{short}\1", text)
        index = eval(text.replace("/", "//").replace("(int64_t)", ""), {}, self.known | loops)  # of our own source
        return np.broadcast_to(index, self.known["tx"].shape)


@pytest.mark.parametrize(("m", "nnz"), [(64, 2), (32, 8), (128, 4)])
def test_tensor_cores_read_what_threads_have_written(m, nnz, rng):
    """A model of the first stage by the addresses in the source: what a lane decodes and copies, descriptors, operands."""
    kernel = kernel_of(cuda_of(m, 128, 4 * COLUMNS, nnz))
    before, rest = kernel.split("\n  for (int g = 0", 1)
    body = rest.split("\n  }\n", 1)[0]
    at = Threads(kernel, 2)
    weight, x = rng.integers(1, 1 << 16, (128, COLUMNS)), rng.integers(1, 1 << 16, (m, 4 * COLUMNS))
    memory = np.zeros(227 << 10, np.uint8)
    lane, tile = at.known["tx"], at.known["tz"] * WARPS + at.known["ty"]
    stores = re.findall(r"store_words\(\(&\(\(\(uint\*\)buf_dyn_shmem_ptr\)\[(.*?)\]\)\), \(&\(own_ptr\w*\[(\d+)\]\)\)", before)
    assert len(stores) == COLUMNS // 64 * 4
    # while this stage is multiplied, the next one is stored elsewhere
    later = re.findall(r"store_words\(\(&\(\(\(uint\*\)buf_dyn_shmem_ptr\)\[(.*?)\]\)\), ", body)
    assert not {int(i) for place, _ in stores for i in at(place)} & {int(i) for place in later for i in at(place)}
    for number, (place, register) in enumerate(stores):
        # a lane's registers have two columns each, of row lane / 4, then of the row eight below; its block of four is lane % 4
        half, first, step = int(register) // 8, int(register) % 8 * 2, number // 4
        rows, starts = tile * 16 + half * 8 + lane // 4, step * 64 + lane % 4 * 16 + first
        for i in range(8):
            memory.view(np.uint16)[at(place) * 2 + i] = weight[rows, starts + i]
    turns, place, source = re.search(
        r"for \(int (\w+ = 0; \w+ < \d+); .*?\n *(?:if .*?\n *)?ptx_cp_async\w+_2_2\(buf_dyn_shmem_ptr, (.*), x_ptr, (.*)\);",
        before,
    ).groups()
    name, count = turns.split(" = 0; ")[0], int(turns.split()[-1])
    for turn in range(count):
        to, of = at(place, **{name: turn}), at(source, **{name: turn})
        for i in range(8):
            memory.view(np.uint16)[to + i] = x.ravel()[of + i]
    left, right, products = re.search(
        r"wgmma_m64n\d+_f16\(.*?\(&\(\(\(uint\*\)\w+\)\[(.*?)\]\)\), \(&\(\(\(half\*\)\w+\)\[(.*?)\]\)\), (\d+),", body
    ).groups()
    assert int(products) * 16 == COLUMNS
    for group in range(2):
        a, b = int(at(left)[group * 128]) * 4, int(at(right)[group * 128]) * 2
        assert a % 16 == b % 16 == 0
        read = read_operand(memory, descriptor(64) | a >> 4, 64, COLUMNS)
        assert (read == weight[group * 64 : group * 64 + 64]).all()
        assert (read_operand(memory, descriptor(m) | b >> 4, m, COLUMNS) == x[:, :COLUMNS]).all()


def synchronization(kernel):
    """Return the synchronization of the loop over stages and of the last two stages after it, without repetitions."""
    body, after = kernel.split("\n  for (int g = 0", 1)[1].split("\n  }\n", 1)
    parts = []
    for part in (body, after):
        lines = [word for line in part.splitlines() for text, word in SYNCHRONIZATION.items() if re.search(text, line)]
        parts.append(tuple(word for word, _ in itertools.groupby(lines)))
    return parts[0], parts[1][: len(LAST_STAGES)]


@pytest.mark.parametrize(("m", "n", "k", "nnz"), [(64, 64, 512, 2), (256, 128, 2000, 8), (128, 64, 1024, 6)])
def test_what_tensor_cores_read_is_fenced_and_not_overwritten(m, n, k, nnz):
    assert synchronization(kernel_of(cuda_of(m, n, k, nnz))) == (LOOP, LAST_STAGES)


def test_a_missing_fence_or_barrier_is_seen():
    lines = kernel_of(cuda_of(64, 64, 512, 2)).splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if "for (int g = 0" in line)
    for word in ("drain", "__syncthreads", "async_wait_group_1", "wait_for_sums"):
        at = next(i for i in range(first, len(lines)) if word in lines[i])
        assert synchronization("".join(lines[:at] + lines[at + 1 :])) != (LOOP, LAST_STAGES), word


@pytest.mark.parametrize("nnz", NNZ)
@pytest.mark.parametrize("m", [64, 256])
@pytest.mark.parametrize(("n", "k"), [(28672, 8192), (33, 1000)])
def test_stages_fit_shared_memory(m, nnz, n, k):
    workload = Workload(KERNEL.name, m, n, k, nnz, 16, "float16")
    space = space_of(workload, H200)
    wide = KERNEL.layout(n, k, nnz).tiles // WARPS
    assert shared_need(workload, warpgroups(workload, wide, shared_bytes(H200))) <= shared_bytes(H200)
    assert within_limits(space, space.default, H200)


@pytest.mark.nvcc
@pytest.mark.parametrize(
    ("m", "nnz", "dtype", "registers"),
    [
        (64, 8, "float16", 128),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(64, 6, "bfloat16", 128), (128, 8, "float16", 168)]),
    ],
)
def test_machine_code(m, nnz, dtype, registers):
    source = cuda_of(m, 28672, 8192, nnz, dtype)
    found, text = nvcc.resources_and_ptx(source, "sm_90")
    (used,) = found.values()
    print(used)
    assert (used.spilled, used.stack) == (0, 0)
    assert used.registers <= registers
    assert ".target sm_90a" in text
    short = {"float16": "f16", "bfloat16": "bf16"}[dtype]
    products = text.count(f"wgmma.mma_async.sync.aligned.m64n{m}k16.f32.{short}.{short}")
    assert products == 3 * COLUMNS // 16  # of the loop, and of the last two stages
    order = re.findall(r"(fence\.proxy\.async|bar\.sync|wgmma\.\w+)", text)
    steps = [word for word, _ in itertools.groupby(order)]
    multiply = ["wgmma.fence", "wgmma.mma_async", "wgmma.commit_group"]
    decode = ["wgmma.wait_group", "fence.proxy.async", "bar.sync"]
    start = steps.index("wgmma.fence")
    assert steps[start - 1 : start + 6] == ["bar.sync", *multiply, *decode]
    assert steps[-6:] == ["bar.sync", *multiply, "wgmma.wait_group", "bar.sync"]
    assert "st.shared.v4" in text


def test_it_is_taken_only_where_it_is_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 256)).half().eval()
    tb.prune(model, "2:16")
    x = (torch.randn(64, 512).half(),)
    assert KERNEL.by_name
    for kernels, wanted in (({}, "cuda_decode_mma"), ({"*": KERNEL.name}, KERNEL.name)):
        (layer,) = tb.compile(model, x, target="cuda/h200", kernels=kernels).report.layers
        assert (layer.kernel == KERNEL.name) == (wanted == KERNEL.name)
    with pytest.raises(TargetError, match="it needs sm_90, which alone has wgmma"):
        tb.compile(model, x, target="cuda/a100", kernels={"*": KERNEL.name})


def test_refuses_what_it_cannot_compute():
    for arch, why in (("sm_80", "sm_90"), ("sm_100", "sm_90"), ("sm_90", None), ("sm_90a", None)):
        refusal = KERNEL.refuses(tvm.target.Target({"kind": "cuda", "arch": arch}), 64, 64, "float16")
        assert refusal is None if why is None else why in refusal
    assert "float32" in KERNEL.refuses(H200, 64, 64, "float32")
    assert "not a GPU" in KERNEL.refuses(H200.host, 64, 64, "float16")


def test_the_weight_is_packed_as_for_mma(rng):
    pattern = BalancedPattern(2, 16)
    encoded = encode(reference.balanced(64, 512, pattern, rng).astype(np.float16), pattern)
    for own, other in zip(KERNEL.pack(encoded), KERNELS["cuda_decode_mma"].pack(encoded), strict=True):
        np.testing.assert_array_equal(own, other)
