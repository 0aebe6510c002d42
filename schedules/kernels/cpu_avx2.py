"""Balanced-sparse dense layer for x86 CPUs with AVX2: rows in lanes, x in registers, permuted by packed indices.

Eight rows of the weight are the lanes of a register. A block of 16 values of x is two registers, low and high. vpermps
picks from each by the low three bits of an index, a blend takes the one that the fourth bit names, and one fused
multiply-add uses it:

    acc[8 rows] += (index[8 rows] < 8 ? permute(x[first 8 columns], index) : permute(x[last 8 columns], index)) * values

A block of 8 is one register and takes one permute.

The layout is that of cpu_avx512, with both lengths of block, so that one packed weight can serve both; S = blocks * nnz:

    values   (G, S, 16) float32   step by step, a step being one slot of one block for 16 rows
    indices  (G, S / 8, 16) int32 eight 4-bit indices a word; vpermps ignores the bits above, so decoding is one shift
    bias     (G, 16) float32

A group is computed in two halves. Groups of eight rows would need none but walk twice the streams: M = 1, weights from memory,
they take 0.96x to 1.15x the time with blocks of 16 and 1.2x with blocks of 8 (4096x4096 and 768x3072, Zen 4).
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
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import (
    LANES,
    NNZ,
    SLOTS_PER_WORD,
    chunk,
    count_row_panels,
    pack_panel_bias,
    pack_steps,
)
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.prefetch import panel_order
from tvm_balanced.schedules.tir.tiling import Tiles, read_lanes, schedule_tiles, store_lanes, tiles_together

HALF = 8  # lanes of a register, half a row group
BLOCK = 16  # the longer of the two blocks
# The slots that a block of each length may have: chunks of steps stay short (see row_groups.chunk), and 8 stands for full.
SLOTS = {BLOCK: NNZ, HALF: (1, 2, 3, 4, 8)}
# Sums of 8 rows that are computed together, in 16 registers. A block of 16 leaves few: its two halves of x, and for each step
# index, mask and both permutes. With eight sums LLVM stores 46 to 75 registers a loop of 64 multiply-adds and M = 8 takes
# 1.1x the time; with four, none. A block of 8 stores 6 to 11 and gains from eight: 4096x4096, 2:8, M = 2, cold, 0.75x.
ACCUMULATORS = {BLOCK: 4, HALF: 8}
# Steps between the values that are used and those that are fetched, for blocks of 16: four sums walk two groups or one, too
# few streams for hardware prefetch. 4096x4096, 4:16 and 2:16, M = 1, cold: 0.8x the time of a kernel that fetches nothing;
# at M = 1 16 and 32 steps are slower than 8, for more rows of x 32 is 1.02 to 1.14x as fast. A fetch also keeps LLVM from moving
# later steps before it, which is what spilled: 25 registers of 4:16 and 53 of 2:16. Blocks of 8 need neither: 3072x768, 2:8,
# M = 8, 1.2x the time with it.
AHEAD_OF_ONE, AHEAD = 8, 32


class CpuAvx2(SparseKernel):
    """Rows in lanes, one or two permutes a step, packed 4-bit indices; fp32, blocks of 16 and of 8, K >= 16."""

    name = "cpu_avx2"
    parts = ("values", "indices")
    small_tiles = ((1, 1, 1),)

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        has = tvm.target.codegen.llvm_cpu_has_features
        if target.kind.name != "llvm" or not (has("avx2", target) and has("fma", target)):
            return "the target has no AVX2 with FMA"
        if dtype != "float32":
            return f"it does not compute {dtype}"
        return f"K = {k} is less than one block of {BLOCK}" if k < BLOCK else None

    def fit(self, found: Detection) -> BalancedPattern | None:
        long, short = (
            BalancedPattern(min(n for n in SLOTS[block] if n >= found.covering(block).nnz), block) for block in (BLOCK, HALF)
        )
        # A step of a block of 8 takes half the time, but where it stores more slots memory decides.
        best = short if 2 * short.nnz <= long.nnz else long
        return best if best.nnz < best.block else None

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        return pack_steps(weight)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = _rows(workload), ACTIVATIONS[workload.activation]
        n, k, nnz, block = workload.n, workload.k, workload.nnz, workload.block
        steps, chunk_blocks, chunk_words = chunk(nnz)
        groups, chunks = count_row_panels(n), -(-workload.pattern.blocks(k) // chunk_blocks)
        whole_k = not k % (block * chunk_blocks)
        n_, k_, groups_, chunks_, steps_, size_ = map(int64, (n, k, groups, chunks, steps, rows.size))
        streams = panel_order(workload, max(1, _tiles(workload).groups // 2))  # tiles are of halves
        halves_, ahead = int64(2 * groups), AHEAD if rows.size > 1 else AHEAD_OF_ONE
        acc_shape = (rows.tiles, size_, int64(groups * LANES))

        def start(c: Any, step: Any) -> Any:
            """First column of the block of a step; the last columns where the block would end past K."""
            column = (c * chunk_blocks + step // nnz) * block
            return column if whole_k else T.min(column, int64(k - block))

        def lanes(half: Any) -> Any:
            """Lanes of a row group that a half is."""
            return T.ramp(half % 2 * HALF, 1, HALF)

        def group(position: Any) -> Any:
            """Row group of the half whose turn it is."""
            return streams.group(position // 2)

        def at(position: Any) -> Any:
            """The half whose turn it is."""
            return group(position) * 2 + position % 2

        def plus(total: Any, residual: tirx.Buffer, row: Any, half: Any) -> Any:
            return total + read_lanes(residual, row, half, HALF) if workload.residual else total

        @T.prim_func(private=True, s_tir=True)
        def cpu_avx2(
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
            for h, c, s, o, i in T.grid(halves_, chunks_, steps_, rows.tiles, size_):
                with T.sblock("dense"):
                    vh, vc, vs, vo, vi = T.axis.remap("SRRSS", [h, c, s, o, i])
                    T.reads(
                        x[rows.read(vo, vi), start(vc, vs) : start(vc, vs) + block],
                        values[group(vh), vc * steps + vs, vh % 2 * HALF : vh % 2 * HALF + HALF],
                        indices[group(vh), vc * chunk_words + vs // SLOTS_PER_WORD, vh % 2 * HALF : vh % 2 * HALF + HALF],
                    )
                    T.writes(acc[vo, vi, vh * HALF : vh * HALF + HALF])
                    with T.init():
                        acc[vo, vi, T.ramp(vh * HALF, 1, HALF)] = T.broadcast(T.float32(0), HALF)
                    acc[vo, vi, T.ramp(vh * HALF, 1, HALF)] = (
                        acc[vo, vi, T.ramp(vh * HALF, 1, HALF)]
                        + _pick(
                            [x[rows.read(vo, vi), T.ramp(start(vc, vs) + part, 1, HALF)] for part in range(0, block, HALF)],
                            indices[group(vh), vc * chunk_words + vs // SLOTS_PER_WORD, lanes(vh)],
                            vs,
                        )
                        * values[group(vh), vc * steps + vs, lanes(vh)]
                    )
                    if block == BLOCK and vh % 2 == 0 and vi == 0:  # once for each 64 bytes; past the end it does nothing
                        T.evaluate(_fetch(values[group(vh), vc * steps + vs + ahead, 0]))
            for h, o, i in T.grid(halves_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vh, vo, vi = T.axis.remap("SSS", [h, o, i])
                    T.reads(acc[vo, vi, vh * HALF : vh * HALF + HALF], bias[group(vh), vh % 2 * HALF : vh % 2 * HALF + HALF])
                    T.writes(y[rows.read(vo, vi), at(vh) * HALF : at(vh) * HALF + HALF])
                    if rows.at(vo, vi) < rows.m:  # not T.where, which reverse_compute_at would drop
                        total = acc[vo, vi, T.ramp(vh * HALF, 1, HALF)] + bias[group(vh), lanes(vh)]
                        store_lanes(y, rows.at(vo, vi), at(vh), plus(total, residual, rows.at(vo, vi), at(vh)), activation, HALF)

        return workload.attach(cpu_avx2)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_tiles(sch, _tiles(workload), unroll=1)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        size = _rows(workload).size
        # One thread of a Zen 4 core, where permutes take a cycle each, AVX2 code. Of the peak, hot: blocks of 16 0.21 to 0.24
        # at every M (two permutes allow 0.25), of 8 0.36 to 0.43 where M > 1. Weights from memory at 22 of the 31 GB/s of
        # cpu_dense: 4096x4096, M = 1, 4:16 835 us and 1:8 386 us, dense 2330 us.
        share = (0.22 if workload.block == BLOCK else 0.4) * HALF / roofline.lanes
        return roofline.seconds(slots * -(-m // size) * size, share, slots * 4.5 * 1.4)


def _pick(parts: list[Any], word: Any, step: Any) -> Any:
    """Return for each lane the value of x that nibble `step` % 8 of `word` names; `parts` are the block's registers."""
    bits = step % SLOTS_PER_WORD * 4
    index = T.shift_right(word, _broadcast(bits))
    picked = [T.call_llvm_pure_intrin("float32x8", "llvm.x86.avx2.permps", part, index) for part in parts]
    if len(picked) == 1:
        return picked[0]
    # The sign is the nibble's fourth bit. LLVM makes the same of a select on that bit; the permutes are what takes the time.
    high = T.reinterpret("float32x8", T.shift_left(word, _broadcast(28 - bits)))
    return T.call_llvm_pure_intrin("float32x8", "llvm.x86.avx.blendv.ps.256", *picked, high)


def _broadcast(bits: Any) -> Any:
    return T.broadcast(T.cast(bits, "int32"), HALF)


def _fetch(element: Any) -> Any:
    """Bring the cache line of a buffer's element into the first-level cache."""
    return T.call_intrin("void", "tirx.prefetch", T.address_of(element), 0, 3, 1)


def _tiles(workload: Workload) -> Tiles:
    """Return how the layer is cut without tuning, in halves of row groups."""
    rows, halves = _rows(workload).size, 2 * count_row_panels(workload.n)
    covered = min(ACCUMULATORS[workload.block] // rows, halves)
    half_bytes = workload.pattern.blocks(workload.k) * workload.nnz * HALF * 9 // 2
    return Tiles(rows, covered, tiles_together(halves // covered, half_bytes * covered))


def _rows(workload: Workload) -> RowTiles:
    # Two rows use what one decodes; more take as long, for the permutes are what a step waits for: 3072x768, 4:16, M = 8,
    # tiles of 4 rows 1.03x to 1.07x the time. A symbolic M takes two as well, but for one row, which took 1.2x to 1.9x, hot.
    return RowTiles.of(workload.m, longest=2, symbolic=workload.tile or 2)


CPU_AVX2 = CpuAvx2()
