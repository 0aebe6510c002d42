"""The scalar definition of the instruction against the published layout of its operands, which is
written here again.
"""

import ml_dtypes
import numpy as np
import pytest
from tvm.script import tirx as T

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules.tir.cuda_intrinsics import MMA, mma, permute_bytes
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
