"""The scalar definition of the instruction against the published layout of its operands, which is
written here again.
"""

import ml_dtypes
import numpy as np
import pytest
from tvm.script import tirx as T

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules.tir.cuda_intrinsics import MMA, descriptor, mma, permute_bytes, wgmma
from tvm_balanced.testing import opencl


def one_mma(dtype):
    """Return y (32 lanes, 4 sums) of one instruction on a (32, 4) words and b (32, 4) elements."""

    @T.prim_func(private=True, s_tir=True)
    def main(a: T.Buffer((32, 4), "uint32"), b: T.Buffer((32, 4), dtype), y: T.Buffer((32, 4), "float32")):
        T.func_attr({"tirx.noalias": True})
        own = T.sblock_alloc_buffer((32, 4), dtype, scope="local")
        sums = T.sblock_alloc_buffer((32, 4), "float32", scope="local")
        for lane in T.thread_binding(32, thread="threadIdx.x"):
            for i in range(4):
                with T.sblock("load"):
                    vl, vi = T.axis.remap("SS", [lane, i])
                    own[vl, vi] = b[vl, vi]
            with T.sblock("mma"):
                vl = T.axis.remap("S", [lane])
                T.reads(a[vl, 0:4], own[vl, 0:4])
                T.writes(sums[vl, 0:4])
                for i in range(4):
                    sums[vl, i] = T.float32(0)
                mma(dtype, T.address_of(sums[vl, 0]), a[vl, 0], a[vl, 1], a[vl, 2], a[vl, 3], T.address_of(own[vl, 0]))
            for i in range(4):
                with T.sblock("store"):
                    vl, vi = T.axis.remap("SS", [lane, i])
                    y[vl, vi] = sums[vl, vi]

    return main


@pytest.mark.pocl
def test_one_instruction_multiplies_by_the_published_layout(rng):
    left = rng.standard_normal((16, 16)).astype(ml_dtypes.bfloat16)
    right = rng.standard_normal((16, 8)).astype(ml_dtypes.bfloat16)
    a, b, y = np.zeros((32, 8), ml_dtypes.bfloat16), np.zeros((32, 4), ml_dtypes.bfloat16), np.zeros((32, 4), np.float32)
    # PTX ISA, mma.m16n8k16 with .bf16: for element i of a lane, groupID = lane >> 2 and threadID_in_group = lane % 4
    for lane in range(32):
        group, thread = lane >> 2, lane % 4
        for i in range(8):
            row = group if i in (0, 1, 4, 5) else group + 8
            a[lane, i] = left[row, thread * 2 + (i & 1) + (8 if i >= 4 else 0)]
        for i in range(4):
            b[lane, i] = right[thread * 2 + (i & 1) + (8 if i >= 2 else 0), group]
    got = opencl.run(one_mma("bfloat16"), [a.view(np.uint32), b, y])
    want = left.astype(np.float64) @ right.astype(np.float64)
    for lane in range(32):
        for i in range(4):
            row, column = (lane >> 2) + 8 * (i // 2), lane % 4 * 2 + (i & 1)
            assert got[lane, i] == pytest.approx(want[row, column], rel=1e-5, abs=1e-5)


@pytest.mark.nvcc
@pytest.mark.parametrize("dtype", MMA)
def test_becomes_one_instruction(dtype):
    text = nvcc.ptx(cuda_source(one_mma(dtype), "sm_80"), "sm_80")
    short = {"float16": "f16", "bfloat16": "bf16"}[dtype]
    assert text.count(f"mma.sync.aligned.m16n8k16.row.col.f32.{short}.{short}.f32") == 1


@T.prim_func(private=True, s_tir=True)
def permuted(a: T.Buffer((32, 3), "uint32"), y: T.Buffer((32, 1), "uint32")):
    T.func_attr({"tirx.noalias": True})
    for lane in T.thread_binding(32, thread="threadIdx.x"):
        with T.sblock("permuted"):
            vl = T.axis.remap("S", [lane])
            y[vl, 0] = permute_bytes(a[vl, 0], a[vl, 1], a[vl, 2])


@pytest.mark.pocl
def test_bytes_are_permuted(rng):
    low, high = rng.integers(0, 1 << 32, (2, 32), dtype=np.uint32)
    selector = rng.integers(0, 8, (32, 4))
    words = (selector << 4 * np.arange(4)).sum(1)
    got = opencl.run(permuted, [np.stack([low, high, words], 1).astype(np.uint32), np.zeros((32, 1), np.uint32)])
    both = np.stack([low, high], 1).view(np.uint8)
    assert (got.copy().view(np.uint8) == np.take_along_axis(both, selector, 1)).all()


@pytest.mark.nvcc
def test_a_permutation_is_one_instruction():
    text = nvcc.ptx(cuda_source(permuted, "sm_80"), "sm_80")
    assert text.count("prmt.b32") == 1
    assert "and.b32" not in text  # masks the bits of the selector


def one_wgmma(dtype):
    """A warpgroup's sums (128 lanes, 16) of one product of operands that lie in shared memory: (64, 32) and (32, 32)."""

    @T.prim_func(private=True, s_tir=True)
    def main(a: T.Buffer((4 * 260,), "uint32"), b: T.Buffer((4 * 264,), dtype), y: T.Buffer((128, 16), "float32")):
        T.func_attr({"tirx.noalias": True})
        left = T.sblock_alloc_buffer((4 * 260,), "uint32", scope="shared")
        right = T.sblock_alloc_buffer((4 * 264,), dtype, scope="shared")
        sums = T.sblock_alloc_buffer((128, 16), "float32", scope="local")
        for lane in T.thread_binding(128, thread="threadIdx.x"):
            for i in range(9):
                with T.sblock("load"):
                    vi = T.axis.spatial(1152, i * 128 + lane)
                    if vi < 1040:
                        left[vi] = a[vi]
                    if vi < 1056:
                        right[vi] = b[vi]
            with T.sblock("wgmma"):
                vl = T.axis.remap("S", [lane])
                T.reads(left[0:1040], right[0:1056])
                T.writes(sums[vl, 0:16])
                for i in range(16):
                    sums[vl, i] = T.float32(0)
                T.evaluate(T.tvm_storage_sync("shared"))
                seen = (left[1039], T.cast(right[1055], "float32"))
                wgmma(dtype, 32, T.address_of(sums[vl, 0]), T.address_of(left[0]), T.address_of(right[0]), 2, seen[0], seen[1])
            for i in range(16):
                with T.sblock("store"):
                    vl, vi = T.axis.remap("SS", [lane, i])
                    y[vl, vi] = sums[vl, vi]

    return main


def at(row, column, chunk):
    """Where PTX has an element of a K-major operand without a swizzle, in elements; `chunk` is the distance of eight columns."""
    return column // 8 * chunk + row // 8 * 64 + row % 8 * 8 + column % 8


@pytest.mark.pocl
def test_a_warpgroup_multiplies_by_the_published_layout(rng):
    left = rng.standard_normal((64, 32)).astype(ml_dtypes.bfloat16)
    right = rng.standard_normal((32, 32)).astype(ml_dtypes.bfloat16)
    a, b = np.zeros(4 * 520, ml_dtypes.bfloat16), np.zeros(4 * 264, ml_dtypes.bfloat16)
    for row, column in np.ndindex(64, 32):
        a[at(row, column, 520)] = left[row, column]
    for row, column in np.ndindex(32, 32):
        b[at(row, column, 264)] = right[row, column]
    got = opencl.run(one_wgmma("bfloat16"), [a.view(np.uint32), b, np.zeros((128, 16), np.float32)])
    want = left.astype(np.float64) @ right.astype(np.float64).T
    # PTX ISA, wgmma's matrix D: d[i] of each thread of the four warps
    thread, i = np.ogrid[:128, :16]
    rows = thread // 32 * 16 + thread % 32 // 4 + i % 4 // 2 * 8
    columns = i // 4 * 8 + thread % 4 * 2 + i % 2
    np.testing.assert_allclose(got, want[rows, columns], rtol=1e-4, atol=1e-4)


def test_bits_of_a_descriptor():
    """PTX ISA, wgmma's matrix descriptor: distances in 16 bytes, from bit 16 of eight columns and from bit 32 of eight rows."""
    assert descriptor(64) == 65 << 16 | 8 << 32
    assert descriptor(256) == 257 << 16 | 8 << 32


@pytest.mark.nvcc
@pytest.mark.parametrize("dtype", MMA)
def test_wgmma_becomes_an_instruction_for_each_16_columns(dtype):
    text = nvcc.ptx(cuda_source(one_wgmma(dtype), "sm_90"), "sm_90")
    short = {"float16": "f16", "bfloat16": "bf16"}[dtype]
    assert text.count(f"wgmma.mma_async.sync.aligned.m64n32k16.f32.{short}.{short}") == 2
