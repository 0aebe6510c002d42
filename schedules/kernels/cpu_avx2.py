"""Balanced-sparse dense layer for x86 CPUs with AVX2: rows in lanes, x in registers, permuted by packed indices.

Eight rows of the weight are the lanes of a register. A block of 16 values of x is two registers,
low and high. vpermps selects from each by the low three bits of an index, a blend selects between
the two by the fourth bit, and one fused multiply-add uses the result:

    acc[8 rows] += (index[8 rows] < 8 ? permute(x[first 8 columns], index) : permute(x[last 8 columns], index)) * values

A block of 8 is one register and takes one permute.

The layout is the one of cpu_avx512, for both block lengths, so that both kernels can use one packed
weight; S = blocks * nnz:

    values   (G, S, 16) float32   step by step, a step being one slot of one block for 16 rows
    indices  (G, S / 8, 16) int32 eight 4-bit indices a word; vpermps ignores the bits above, so decoding is one shift
    bias     (G, 16) float32

A row panel is computed in two halves. Panels of eight rows would not need this, but they would read
twice as many streams: 1.2x the time with blocks of 8 (docs/measurements/kernels.md).
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
from tvm_balanced.schedules.tir.tiling import Tiles, schedule_tiles, store_lanes, tiles_together

HALF = 8  # lanes of a register, half a row panel
BLOCK = 16  # the longer of the two blocks
# The slots that a block of each length may have. Chunks of steps stay short (see row_panels.chunk);
# 8 stands for a full block.
SLOTS = {BLOCK: NNZ, HALF: (1, 2, 3, 4, 8)}
# Sums of 8 rows that are computed together, in 16 registers. A block of 16 needs registers for its
# two halves of x and, in each step, for the index, the mask and both permutes: eight sums would
# spill. A block of 8 gains from eight: 0.75x the time at M = 2 (docs/measurements/kernels.md).
ACCUMULATORS = {BLOCK: 4, HALF: 8}
# Prefetch distance in steps, for blocks of 16. Four sums read one or two row panels, too few
# streams for hardware prefetch: 0.8x the time at M = 1. A prefetch also keeps LLVM from moving
# later steps before it, which spilled registers. Blocks of 8 need neither. See
# docs/measurements/kernels.md.
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
        # A step of a block of 8 takes half the time. If it stores more slots, however, memory decides.
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
        streams = panel_order(workload, max(1, _tiles(workload).groups // 2))  # tiles consist of halves
        halves_, ahead = int64(2 * groups), AHEAD if rows.size > 1 else AHEAD_OF_ONE
        acc_shape = (rows.tiles, size_, int64(groups * LANES))

        def start(c: Any, step: Any) -> Any:
            """First column of the block of a step; if the block would end past K, the first of the last columns."""
            column = (c * chunk_blocks + step // nnz) * block
            return column if whole_k else T.min(column, int64(k - block))

        def lanes(half: Any) -> Any:
            """Lanes of a row panel that belong to a half."""
            return T.ramp(half % 2 * HALF, 1, HALF)

        def group(position: Any) -> Any:
            """Row panel of the half at a position of the loop."""
            return streams.group(position // 2)

        def at(position: Any) -> Any:
            """The half at a position of the loop."""
            return group(position) * 2 + position % 2

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
                    if rows.at(vo, vi) < rows.m:  # not T.where: reverse_compute_at would drop it
                        total = acc[vo, vi, T.ramp(vh * HALF, 1, HALF)] + bias[group(vh), lanes(vh)]
                        store_lanes(y, rows.at(vo, vi), at(vh), total, residual, workload, activation, HALF)

        return workload.attach(cpu_avx2)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        schedule_tiles(sch, _tiles(workload), unroll=1)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        size = _rows(workload).size
        # Blocks of 16 reach at most 0.24 of the peak on one Zen 4 thread; two permutes allow 0.25.
        # See docs/measurements/kernels.md.
        share = (0.22 if workload.block == BLOCK else 0.4) * HALF / roofline.lanes
        return roofline.seconds(slots * -(-m // size) * size, share, slots * 4.5 * 1.4)


def _pick(parts: list[Any], word: Any, step: Any) -> Any:
    """For each lane, select the value of x that nibble `step` % 8 of `word` names; `parts` are the
    block's registers.
    """
    bits = step % SLOTS_PER_WORD * 4
    index = T.shift_right(word, _broadcast(bits))
    picked = [T.call_llvm_pure_intrin("float32x8", "llvm.x86.avx2.permps", part, index) for part in parts]
    if len(picked) == 1:
        return picked[0]
    # The sign is the nibble's fourth bit. LLVM compiles a select on that bit to the same code; the
    # permutes take the time.
    high = T.reinterpret("float32x8", T.shift_left(word, _broadcast(28 - bits)))
    return T.call_llvm_pure_intrin("float32x8", "llvm.x86.avx.blendv.ps.256", *picked, high)


def _broadcast(bits: Any) -> Any:
    return T.broadcast(T.cast(bits, "int32"), HALF)


def _fetch(element: Any) -> Any:
    """Prefetch the cache line of a buffer's element into the first-level cache."""
    return T.call_intrin("void", "tirx.prefetch", T.address_of(element), 0, 3, 1)


def _tiles(workload: Workload) -> Tiles:
    """Return the default tiling of the layer, in halves of row panels."""
    rows, halves = _rows(workload).size, 2 * count_row_panels(workload.n)
    covered = min(ACCUMULATORS[workload.block] // rows, halves)
    half_bytes = workload.pattern.blocks(workload.k) * workload.nnz * HALF * 9 // 2
    return Tiles(rows, covered, tiles_together(halves // covered, half_bytes * covered))


def _rows(workload: Workload) -> RowTiles:
    # Two rows share what one decodes. More take as long, because a step waits for the permutes. A
    # symbolic M takes two as well, except for the specialization for one row: 1.2x to 1.9x the time
    # with two.
    return RowTiles.of(workload.m, longest=2, symbolic=workload.tile or 2)


CPU_AVX2 = CpuAvx2()
