"""Balanced-sparse dense layer in float32 for many rows of x on CUDA cores: a lane is a row of the
weight, a warp some rows of x.

Layout and function are those of `cuda_gemv`, so both kernels can use one copy of a weight. Here
warps do not share K: all read the same values and indices, which the first one brings into the
cache, and each computes sums for its own eight rows of x. A multiply-add reads four bytes of x from
shared memory, so the bound is a quarter of the CUDA cores' peak, or an eighth if two columns lie in
each bank.

At M = 64 cuBLAS was faster on an H200 (docs/measurements/kernels.md), so the cost model leaves M =
64 to dense.
"""

from typing import Any

import tvm
from tvm.s_tir import Schedule

from tvm_balanced.schedules.base.expressions import divisor
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.target_info import shared_scope
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.kernels.cuda_gemv import SHARED_BYTES, CudaGemv, looking_up, slot_bytes, stage_x, unpack_at
from tvm_balanced.schedules.layouts.row_panels import SLOTS_PER_WORD, chunk
from tvm_balanced.schedules.layouts.warp_panels import BLOCK, BYTES, count_chunks, slots_per_load

PER_WARP = 8  # rows of x of a warp: as many sums per lane
BANKS, APART = 32, 4  # words: of all banks of shared memory, and of what a lane reads at once


class CudaGemmFp32(CudaGemv):
    """Up to 64 rows of x per thread block; fp32 without TF32."""

    name = "cuda_gemm_fp32"
    dtypes = ("float32",)
    small_tiles = ((1, 1, 1), (2, 2, 2), (3, 4, 4), (5, 8, 8))
    rows = 64
    long_blocks = False

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        size = self.split_rows(workload).size
        if size <= PER_WARP:  # so few rows are for cuda_gemv
            super().space(sch, workload, target)
            return
        look_up, gemm, epilogue = (sch.get_sblock(name) for name in ("look_up", "gemv", "epilogue"))
        o, g, r, c, s, i = sch.get_loops(gemm)
        stages, steps = sch.split(c, sch.sample_perfect_tile(c, 2, 8, decision=_stages(workload, size)))
        warps, rows = sch.split(i, [None, PER_WARP])
        per_load = slots_per_load(workload.dtype)
        word, load, slot = sch.split(s, [None, SLOTS_PER_WORD // per_load, per_load])
        sch.reorder(o, g, warps, r, stages, steps, word, load, slot, rows)
        for loop, axis in ((o, "blockIdx.x"), (g, "blockIdx.y"), (warps, "threadIdx.y"), (r, "threadIdx.x")):
            sch.bind(loop, axis)
        sch.set_scope(gemm, 0, "local")
        sch.reverse_compute_at(epilogue, r, preserve_unit_loops=True)
        values = sch.cache_read(gemm, 1, "local")
        sch.compute_at(values, load, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(values)[-1])
        sch.set_scope(look_up, 0, "local")
        sch.compute_at(look_up, slot, preserve_unit_loops=True)
        _, vector = sch.split(sch.get_loops(look_up)[-1], [None, per_load])
        sch.vectorize(vector)
        unpack_at(sch, word)
        stage_x(sch, shared_scope(target), stages, (1, size // PER_WARP), vector=1, by_column=False)
        # pad columns to 16 bytes past a multiple of all banks, so that lanes look up eight different ones at once
        sch.storage_align(sch.get_sblock("stage"), 0, 2, BANKS, APART)
        for loop in (rows, slot, load, word):
            sch.unroll(loop)
        sch.decompose_reduction(gemm, stages)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        if m <= PER_WARP:
            return super().seconds(workload, m, roofline)
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        tiles, size = -(-m // self.rows), min(self.rows, -(-m // PER_WARP) * PER_WARP)
        memory = roofline.seconds(0, 1, tiles * slots * slot_bytes(workload, workload.dtype) / 0.8)
        return memory + tiles * looking_up(slots, size, workload, roofline)


def _stages(workload: Workload, size: int) -> list[Any]:
    """Return the default split of the chunks of K: a stage is as many as fit half of the shared
    memory that every GPU has.
    """
    chunks, columns = count_chunks(workload.k, workload.nnz), chunk(workload.nnz)[1] * BLOCK
    apart = -(-(size - APART) // BANKS) * BANKS + APART  # words from a column to the next
    steps = divisor(chunks, max(1, SHARED_BYTES // 2 // (columns * apart * BYTES[workload.dtype])))
    return [chunks // steps, steps]


CUDA_GEMM_FP32 = CudaGemmFp32()
