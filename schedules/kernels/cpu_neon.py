"""Balanced-sparse dense layer for 64-bit ARM CPUs with NEON: rows in lanes, x in registers, looked up by packed indices.

Four rows of the weight are the lanes of a register. A block of 16 values of x is four registers, which are one table of 64 bytes
for TBL. One look-up selects for each row the value that its next nonzero needs, and one fused multiply-add uses it:

    acc[4 rows] += TBL(x[16 columns], bytes of index[4 rows]) * values[4 rows]

The bytes of an index i are 4 i, 4 i + 1, 4 i + 2, 4 i + 3: one multiply-add of integers, (i * 0x04040404) + 0x03020100.

The layout is the one of cpu_avx512 for blocks of 16, with S = blocks * nnz:

    values   (G, S, 16) float32   step by step, a step being one slot of one block for 16 rows
    indices  (G, S / 8, 16) int32 eight 4-bit indices a word
    bias     (G, 16) float32

A row panel is computed in four quarters.
"""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.target_info import is_aarch64
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import (
    LANES,
    NNZ,
    SLOTS_PER_WORD,
    chunk,
    count_row_panels,
    fit_block,
    pack_panel_bias,
    pack_steps,
)
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.tiling import Tiles, schedule_tiles, store_lanes, tiles_together

BLOCK = 16
WIDTH = 4  # lanes of a register
QUARTERS = LANES // WIDTH
# Sums of four rows of the weight that are computed together. A table is four registers in a row, which leaves LLVM little choice:
# eight sums spill 18 times in a loop of 64 multiply-adds, four do not.
ACCUMULATORS = 4
# Share of the peak. Assumed from the instructions and not measured: a look-up in four registers takes as long as four
# multiply-adds, and decoding an index, which rows of x share, as long as three.
SHARE_OF_ONE, SHARE = 0.12, 0.18


class CpuNeon(SparseKernel):
    """Rows in lanes, one table look-up a step, packed 4-bit indices; fp32, blocks of 16, K >= 16."""

    name = "cpu_neon"
    parts = ("values", "indices")
    small_tiles = ((1, 1, 1),)

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not is_aarch64(target):
            return "the target is no 64-bit ARM CPU"
        if dtype != "float32":
            return f"it does not compute {dtype}"
        return f"K = {k} is less than one block of {BLOCK}" if k < BLOCK else None

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_block(found, BLOCK, NNZ)

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        return pack_steps(weight)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = _rows(workload), ACTIVATIONS[workload.activation]
        n, k, nnz = workload.n, workload.k, workload.nnz
        steps, chunk_blocks, chunk_words = chunk(nnz)
        groups, chunks = count_row_panels(n), -(-workload.pattern.blocks(k) // chunk_blocks)
        whole_k = not k % (BLOCK * chunk_blocks)
        n_, k_, groups_, chunks_, steps_, size_ = map(int64, (n, k, groups, chunks, steps, rows.size))
        quarters_, acc_shape = int64(QUARTERS * groups), (rows.tiles, size_, int64(groups * LANES))

        def start(c: Any, step: Any) -> Any:
            """First column of the block of a step; if the block would end past K, the first of the last columns."""
            column = (c * chunk_blocks + step // nnz) * BLOCK
            return column if whole_k else T.min(column, int64(k - BLOCK))

        def lanes(quarter: Any) -> Any:
            """Lanes of a row panel that belong to a quarter."""
            return T.ramp(quarter % QUARTERS * WIDTH, 1, WIDTH)

        @T.prim_func(private=True, s_tir=True)
        def cpu_neon(
            x_: T.handle, values_: T.handle, indices_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), "float32")
            values = T.match_buffer(values_, (groups_, chunks_ * steps, LANES), "float32")
            indices = T.match_buffer(indices_, (groups_, chunks_ * chunk_words, LANES), "int32")
            bias = T.match_buffer(bias_, (groups_, LANES), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            acc = T.sblock_alloc_buffer(acc_shape, "float32", scope="local")
            for q, c, s, o, i in T.grid(quarters_, chunks_, steps_, rows.tiles, size_):
                with T.sblock("dense"):
                    vq, vc, vs, vo, vi = T.axis.remap("SRRSS", [q, c, s, o, i])
                    T.reads(
                        x[rows.read(vo, vi), start(vc, vs) : start(vc, vs) + BLOCK],
                        values[vq // QUARTERS, vc * steps + vs, vq % QUARTERS * WIDTH : vq % QUARTERS * WIDTH + WIDTH],
                        indices[
                            vq // QUARTERS,
                            vc * chunk_words + vs // SLOTS_PER_WORD,
                            vq % QUARTERS * WIDTH : vq % QUARTERS * WIDTH + WIDTH,
                        ],
                    )
                    T.writes(acc[vo, vi, vq * WIDTH : vq * WIDTH + WIDTH])
                    with T.init():
                        acc[vo, vi, T.ramp(vq * WIDTH, 1, WIDTH)] = T.broadcast(T.float32(0), WIDTH)
                    acc[vo, vi, T.ramp(vq * WIDTH, 1, WIDTH)] = (
                        acc[vo, vi, T.ramp(vq * WIDTH, 1, WIDTH)]
                        + _look_up(
                            [x[rows.read(vo, vi), T.ramp(start(vc, vs) + part, 1, WIDTH)] for part in range(0, BLOCK, WIDTH)],
                            indices[vq // QUARTERS, vc * chunk_words + vs // SLOTS_PER_WORD, lanes(vq)],
                            vs,
                        )
                        * values[vq // QUARTERS, vc * steps + vs, lanes(vq)]
                    )
            for q, o, i in T.grid(quarters_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vq, vo, vi = T.axis.remap("SSS", [q, o, i])
                    T.reads(
                        acc[vo, vi, vq * WIDTH : vq * WIDTH + WIDTH],
                        bias[vq // QUARTERS, vq % QUARTERS * WIDTH : vq % QUARTERS * WIDTH + WIDTH],
                    )
                    T.writes(y[rows.read(vo, vi), vq * WIDTH : vq * WIDTH + WIDTH])
                    if rows.at(vo, vi) < rows.m:  # not T.where: reverse_compute_at would drop it
                        total = acc[vo, vi, T.ramp(vq * WIDTH, 1, WIDTH)] + bias[vq // QUARTERS, lanes(vq)]
                        store_lanes(y, rows.at(vo, vi), vq, total, residual, workload, activation, WIDTH)

        return workload.attach(cpu_neon)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_tiles(sch, _tiles(workload), unroll=1)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        size = _rows(workload).size
        share = (SHARE if size > 1 else SHARE_OF_ONE) * WIDTH / roofline.lanes
        return roofline.seconds(slots * -(-m // size) * size, share, slots * 4.5)


def _look_up(parts: list[Any], word: Any, step: Any) -> Any:
    """For each lane, select the value of x that nibble `step` % 8 of `word` names; `parts` are the block's four registers."""

    def all_lanes(number: Any) -> Any:
        return T.broadcast(T.cast(number, "int32"), WIDTH)

    index = T.bitwise_and(T.shift_right(word, all_lanes(step % SLOTS_PER_WORD * 4)), all_lanes(15))
    places = T.reinterpret("uint8x16", index * all_lanes(0x04040404) + all_lanes(0x03020100))
    table = [T.reinterpret("uint8x16", part) for part in parts]
    return T.reinterpret(f"float32x{WIDTH}", T.call_llvm_pure_intrin("uint8x16", "llvm.aarch64.neon.tbl4.v16i8", *table, places))


def _tiles(workload: Workload) -> Tiles:
    """Return the default tiling of the layer, in quarters of row panels."""
    rows, quarters = _rows(workload).size, QUARTERS * count_row_panels(workload.n)
    covered = min(ACCUMULATORS // rows, quarters)
    quarter_bytes = workload.pattern.blocks(workload.k) * workload.nnz * WIDTH * 9 // 2
    return Tiles(rows, covered, tiles_together(quarters // covered, quarter_bytes * covered))


def _rows(workload: Workload) -> RowTiles:
    # Two rows share what one decodes; four spill.
    return RowTiles.of(workload.m, longest=2, symbolic=workload.tile or 2)


CPU_NEON = CpuNeon()
