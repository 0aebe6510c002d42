"""Balanced-sparse dense layer for CPUs with AVX-512: rows in lanes, x in a register, permuted by packed indices.

Sixteen rows of the weight, a row panel, are the lanes of a register. A block of 16 values of x is
another register. One permute (vpermps) selects for each row the value that its next nonzero needs,
and one fused multiply-add uses it:

    acc[16 rows] += permute(x[16 columns], index[16 rows]) * values[16 rows]

Layout, for G row panels and S = blocks * nnz steps (a step is one slot of one block for 16 rows):

    values   (G, S, 16) float32   step by step in the order they are used
    indices  (G, S / 8, 16) int32 eight 4-bit indices a word; vpermps ignores the bits above, so decoding is one shift
    bias     (G, 16) float32

A block of 32 is two registers. One permute of two sources (vpermi2ps) selects from them; its
indices have 5 bits, six per word.

Half precision is computed in float32, and its values are stored in float32. On CPUs with AVX-512
BF16, cpu_avx512_bf16 is faster.

For comparison there is a hand-written kernel, benchmarks/reference/cpu_kernel.cpp.
"""

from dataclasses import replace
from typing import Any

import numpy as np
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
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import (
    LANES,
    NNZ,
    chunk,
    count_row_panels,
    fit_block,
    pack_panel_bias,
    pack_steps,
    slots_per_word,
)
from tvm_balanced.schedules.tir import prefetch, prefetch_rows
from tvm_balanced.schedules.tir.activations_avx512 import ACTIVATIONS
from tvm_balanced.schedules.tir.prefetch import STREAMED_TILES, Spread, Stream, import_prefetch, split_rows_once, streams
from tvm_balanced.schedules.tir.prefetch_rows import NextRows
from tvm_balanced.schedules.tir.tiling import Tiles, default_tiling, schedule_tiles, store_lanes

BLOCK, LONG = 16, 32
NNZ_LONG = (1, 2, 3, 4, 6, 8, 12)  # as NNZ for words of six slots; 16 would unroll 48 steps
# Time of a slot in a block of 32, relative to one in a block of 16. On Zen 4, vpermi2ps takes four
# passes over the execution ports and vpermps two.
LONG_COST = 1.5


class CpuAvx512(SparseKernel):
    """Rows in lanes, register permute, packed indices of 4 or 5 bits; sums in fp32, blocks of 16
    and of 32, K >= 16.
    """

    name = "cpu_avx512"
    parts = ("values", "indices")
    small_tiles = STREAMED_TILES
    dtypes = ("float32", "float16", "bfloat16")
    # How values are stored; kernels derived from this one change it: dtype of a word, steps in a
    # word, bytes of a slot with its 4-bit index, and whether blocks of 32 are supported.
    word, steps_per_word, slot_bytes, long_blocks = "float32", 1, 4.5, True

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not tvm.target.codegen.llvm_cpu_has_features("avx512f", target):
            return "the target has no AVX-512"
        if dtype not in self.dtypes:
            return f"it does not compute {dtype}"
        return f"K = {k} is less than one block of {BLOCK}" if k < BLOCK else None

    def fit(self, found: Detection) -> BalancedPattern | None:
        short = fit_block(found, BLOCK, NNZ)
        if not self.long_blocks or found.shape[1] < LONG or found.covering(LONG).nnz > NNZ_LONG[-1]:
            return short
        long = fit_block(found, LONG, NNZ_LONG)
        return long if long and LONG_COST * long.nnz <= 2 * (short.nnz if short else BLOCK) else short

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        values, indices = pack_steps(replace(weight, values=weight.values.astype(np.float32)))
        return self.store(values), indices

    def extra_words(self, _steps: int) -> int:
        """Return how many words follow those of a row panel's steps."""
        return 0

    def store(self, values: Array) -> Array:
        """Convert values (G, S, 16) float32 to what is stored, (G, words, 16)."""
        return values

    def value(self, values: tirx.Buffer, group: Any, word: Any, step: Any) -> Any:
        """Return the float32 values of a step, 16 rows at a time, from the word of a row panel that holds them."""
        return values[group, word, T.ramp(0, 1, LANES)]

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = split_rows_once(workload), ACTIVATIONS[workload.activation]
        n, k, nnz, block = workload.n, workload.k, workload.nnz, workload.block
        slots = slots_per_word(block)
        steps, chunk_blocks, chunk_words = chunk(nnz, slots)
        groups, chunks = count_row_panels(n), -(-workload.pattern.blocks(k) // chunk_blocks)
        whole_k, per_word = not k % (block * chunk_blocks), self.steps_per_word
        words = chunks * steps // per_word + self.extra_words(chunks * steps)
        n_, k_, groups_, chunks_, steps_, size_, words_ = map(int64, (n, k, groups, chunks, steps, rows.size, words))
        acc_shape = (rows.tiles, size_, int64(groups * LANES))
        tiles, fetches, stores = self._tiles(workload), self._fetches(workload), prefetch_rows.are_large(workload)
        group, next_rows = prefetch.panel_order(workload, tiles.groups).group, NextRows.of(workload, rows, tiles)

        def start(c: Any, step: Any) -> Any:
            """First column of the block of a step; if the block would end past K, the first of the last columns."""
            column = (c * chunk_blocks + step // nnz) * block
            return column if whole_k else T.min(column, int64(k - block))

        def permute(x: list[Any], word: Any, step: Any) -> Any:
            """Select a value for each row from the block's registers; the instructions ignore the
            bits above an index.
            """
            index = T.shift_right(word, T.broadcast(T.cast(step % slots * (32 // slots), "int32"), LANES))
            if len(x) == 1:
                return T.call_llvm_pure_intrin("float32x16", "llvm.x86.avx512.permvar.sf.512", *x, index)
            return T.call_llvm_pure_intrin("float32x16", "llvm.x86.avx512.vpermi2var.ps.512", x[0], index, x[1])

        def wide(values: Any) -> Any:
            return values if workload.dtype == "float32" else T.cast(values, f"float32x{LANES}")

        @T.prim_func(private=True, s_tir=True)
        def cpu_avx512(
            x_: T.handle, values_: T.handle, indices_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), workload.dtype)
            values = T.match_buffer(values_, (groups_, words_, LANES), self.word)
            indices = T.match_buffer(indices_, (groups_, chunks_ * chunk_words, LANES), "int32")
            bias = T.match_buffer(bias_, (groups_, LANES), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), workload.dtype)
            y = T.match_buffer(y_, (rows.m, n_), workload.dtype)
            acc = T.sblock_alloc_buffer(acc_shape, "float32", scope="local")
            for g, c, s, o, i in T.grid(groups_, chunks_, steps_, rows.tiles, size_):
                with T.sblock("dense"):
                    vg, vc, vs, vo, vi = T.axis.remap("SRRSS", [g, c, s, o, i])
                    T.reads(
                        x[rows.read(vo, vi), start(vc, vs) : start(vc, vs) + block],
                        values[group(vg), (vc * steps + vs) // per_word, 0:LANES],
                        indices[group(vg), vc * chunk_words + vs // slots, 0:LANES],
                    )
                    T.writes(acc[vo, vi, vg * LANES : vg * LANES + LANES])
                    with T.init():
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = T.broadcast(T.float32(0), LANES)
                        if stores:
                            prefetch_rows.prefetch_stores((residual, y), workload, rows.at(vo, vi), group(vg) * LANES)
                    acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] + permute(
                        [wide(x[rows.read(vo, vi), T.ramp(start(vc, vs) + part, 1, LANES)]) for part in range(0, block, LANES)],
                        indices[group(vg), vc * chunk_words + vs // slots, T.ramp(0, 1, LANES)],
                        vs,
                    ) * self.value(values, group(vg), (vc * steps + vs) // per_word, vs)
                    if next_rows is not None and vi == 0 and vs % nnz == 0:
                        next_rows.emit(x, vg, vo, start(vc, vs), block)
                    if fetches is not None and vi == 0:
                        fetches.emit((values, indices), (steps // per_word, chunk_words), group(vg), vc, vs, vo)
            for g, o, i in T.grid(groups_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vg, vo, vi = T.axis.remap("SSS", [g, o, i])
                    T.reads(acc[vo, vi, vg * LANES : vg * LANES + LANES], bias[group(vg), 0:LANES])
                    T.writes(y[rows.read(vo, vi), group(vg) * LANES : group(vg) * LANES + LANES])
                    if rows.at(vo, vi) < rows.m:  # not T.where: reverse_compute_at would drop it
                        sums = acc[vo, vi, T.ramp(vg * LANES, 1, LANES)]
                        total = sums + bias[group(vg), T.ramp(0, 1, LANES)]
                        store_lanes(y, rows.at(vo, vi), group(vg), total, residual, workload, activation)

        return workload.attach(cpu_avx512)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        fetches = self._fetches(workload)
        schedule_tiles(sch, self._tiles(workload), unroll=1, unroll_rows=isinstance(fetches, Stream))
        if fetches or prefetch_rows.are_large(workload):
            import_prefetch(sch, "dense_update", target, stores=prefetch_rows.are_large(workload))

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        # The permute shares ports with the multiply-add: 79 of 118 GMAC/s at best (docs/measurements/bound.md).
        cost = LONG_COST if workload.block == LONG else 1
        return roofline.seconds(slots * m * cost, 0.55 if m > 1 else 0.35, slots * self._slot_bytes(workload))

    def _tiles(self, workload: Workload) -> Tiles:
        """Return the default tiling of the layer."""
        nbytes, slots, groups = self._nbytes(workload), slots_per_word(workload.block), count_row_panels(workload.n)
        rows, once = split_rows_once(workload), streams(workload)
        # If a chunk is more than a word of steps, prefetches beside 16 sums spill (docs/measurements/kernels.md).
        sums = 15 if once and rows.size % 8 == 0 and chunk(workload.nnz, slots)[0] > slots else 16
        return default_tiling(rows.size, rows.known_tiles, groups, nbytes // groups, sums, workload.block // LANES, once)

    def _fetches(self, workload: Workload) -> Stream | Spread | None:
        """Return how weights are prefetched, None if they are not."""
        steps, chunk_blocks, _ = chunk(workload.nnz, slots_per_word(workload.block))
        chunks, nbytes = -(-workload.pattern.blocks(workload.k) // chunk_blocks), self._nbytes(workload)
        fetches = prefetch.choose(workload, nbytes, chunks, steps, split_rows_once(workload), self._tiles(workload))
        # Prefetches beside permutes of two registers make the kernel slower: 0.95x.
        return None if workload.block == LONG and isinstance(fetches, Spread) else fetches

    def _nbytes(self, workload: Workload) -> int:
        """Return the bytes of the packed weight."""
        slots = workload.pattern.blocks(workload.k) * workload.nnz
        return int(count_row_panels(workload.n) * slots * LANES * self._slot_bytes(workload))

    def _slot_bytes(self, workload: Workload) -> float:
        """Return the bytes of a value with its index."""
        return self.slot_bytes + 4 / slots_per_word(workload.block) - 4 / slots_per_word(BLOCK)


CPU_AVX512 = CpuAvx512()
