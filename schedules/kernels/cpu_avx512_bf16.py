"""Balanced-sparse dense layer in bfloat16 for CPUs with AVX-512 BF16: as cpu_avx512, two blocks at a time.

A window of 32 values of x, two blocks of 16, is a register. One permute (vpermw) selects two values
for each of 16 rows, one from either block. One dot product of pairs (vdpbf16ps) adds both products
to the row's sum in float32:

    acc[16 rows] += dot(permute(x[32 columns], index[16 rows][2 blocks]), values[16 rows][2 blocks])

A step therefore does twice the work of a step of cpu_avx512 in the same time, with 2.5 bytes per
nonzero instead of 4.5.

Layout, for G row panels and S = windows * nnz steps (a step is one slot of both blocks of a window
for 16 rows):

    values   (G, S, 32) bfloat16   row by row, for each the slot of the first block and of the second
    indices  (G, S / 4, 32) uint16 four 4-bit indices a word, in the order of the values
    bias     (G, 16) float32

Blocks are paired from the first on. If one whole block is left over, it is the second block of a
window of its own. So is a block that K cuts short; its window is the last 32 columns. The first
slots of these windows hold 0.

A block of 32 is a window by itself: a step covers two of its slots, S = blocks * nnz / 2, and an
index has 5 bits, three per word. vpermw ignores the bits above, so decoding is one shift. An index
into half a window is masked and offset as well.
"""

from typing import Any

import ml_dtypes
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
    pack_indices,
    pack_panel_bias,
    pad_rows,
)
from tvm_balanced.schedules.tir import prefetch, prefetch_rows
from tvm_balanced.schedules.tir.activations_avx512 import ACTIVATIONS
from tvm_balanced.schedules.tir.prefetch import STREAMED_TILES, Spread, Stream, import_prefetch, split_rows_once, streams
from tvm_balanced.schedules.tir.prefetch_rows import NextRows
from tvm_balanced.schedules.tir.tiling import Tiles, default_tiling, schedule_tiles, store_lanes

BLOCK = 16
WINDOW = 2 * BLOCK
SLOTS_PER_WORD = {BLOCK: 4, WINDOW: 3}
NNZ_LONG = (2, 4, 6, 8, 12)  # pairs of slots; 16 would unroll 24 steps

# TVM lowers bfloat16 vectors to integers, which the intrinsic's signature does not accept. This
# function hides the cast.
DOT = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
define linkonce_odr <16 x float> @tvm_balanced_dpbf16ps(<16 x float> %acc, <32 x i16> %x, <32 x i16> %w) alwaysinline nounwind {
  %a = bitcast <32 x i16> %x to <32 x bfloat>
  %b = bitcast <32 x i16> %w to <32 x bfloat>
  %r = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %acc, <32 x bfloat> %a, <32 x bfloat> %b)
  ret <16 x float> %r
}
"""


class CpuAvx512Bf16(SparseKernel):
    """Rows in lanes, register permute, packed indices of 4 or 5 bits; bf16 with sums in fp32,
    blocks of 16 and 32, K >= 32.
    """

    name = "cpu_avx512_bf16"
    parts = ("values", "indices")
    small_tiles = STREAMED_TILES
    dtypes = ("bfloat16",)

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not tvm.target.codegen.llvm_cpu_has_features("avx512bf16", target):
            return "the target has no AVX-512 BF16"
        if dtype != "bfloat16":
            return f"it does not compute {dtype}"
        return f"K = {k} is less than one window of {WINDOW}" if k < WINDOW else None

    def fit(self, found: Detection) -> BalancedPattern | None:
        short = fit_block(found, BLOCK, NNZ)
        if found.shape[1] < WINDOW or found.covering(WINDOW).nnz > NNZ_LONG[-1]:
            return short
        long = fit_block(found, WINDOW, NNZ_LONG)
        return long if long and long.nnz < 2 * (short.nnz if short else BLOCK) else short

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        n, k = weight.shape
        nnz, block = weight.pattern.nnz, weight.pattern.block
        steps, slots = _steps(nnz, block), SLOTS_PER_WORD[block]
        _, chunk_windows, _ = chunk(steps, slots)
        windows = -(-_windows(k, block) // chunk_windows) * chunk_windows
        indices = weight.indices.astype(np.uint16)
        if k % block:
            indices[:, -1] += np.uint16(block - k % block)

        def by_group(a: Array) -> Array:
            spread = np.zeros((n, windows * WINDOW // block, nnz), a.dtype)
            spread[:, _places(k, block)] = a
            rows = pad_rows(spread, n).reshape(
                count_row_panels(n), LANES, windows, *((2, steps) if block == BLOCK else (steps, 2))
            )
            ordered = rows.transpose(0, 2, 4, 1, 3) if block == BLOCK else rows.transpose(0, 2, 3, 1, 4)
            return np.ascontiguousarray(ordered).reshape(count_row_panels(n), windows * steps, WINDOW)

        return by_group(weight.values.astype(ml_dtypes.bfloat16)), pack_indices(by_group(indices), slots, 16 // slots)

    def pack_bias(self, bias: Array) -> Array:
        return pack_panel_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = split_rows_once(workload), ACTIVATIONS[workload.activation]
        n, k, block, slots = workload.n, workload.k, workload.block, SLOTS_PER_WORD[workload.block]
        per_window = _steps(workload.nnz, block)
        steps, chunk_windows, chunk_words = chunk(per_window, slots)
        groups, chunks = count_row_panels(n), -(-_windows(k, block) // chunk_windows)
        n_, k_, groups_, chunks_, steps_, size_ = map(int64, (n, k, groups, chunks, steps, rows.size))
        acc_shape = (rows.tiles, size_, int64(groups * LANES))
        tiles, fetches, stores = _tiles(workload), _fetches(workload), prefetch_rows.are_large(workload)
        group, next_rows = prefetch.panel_order(workload, tiles.groups).group, NextRows.of(workload, rows, tiles)

        def start(c: Any, step: Any) -> Any:
            """First column of the window of a step."""
            window = c * chunk_windows + step // per_window
            whole = k // BLOCK
            column = window * WINDOW if not k % (WINDOW * chunk_windows) else T.min(window * WINDOW, int64(k - WINDOW))
            if (
                block == BLOCK and whole % 2 and k % BLOCK
            ):  # then a left-over whole block and a partial last block have a window each
                return T.Select(window == whole // 2, int64((whole - 2) * BLOCK), column)
            return column

        def step_of(x: Any, word: Any, values: Any, step: Any, acc: Any) -> Any:
            index = T.shift_right(word, T.broadcast(T.cast(step % slots * (16 // slots), "uint16"), WINDOW))
            if block == BLOCK:
                second = T.reinterpret(f"uint16x{WINDOW}", T.broadcast(T.uint32(BLOCK << 16), LANES))
                index = T.bitwise_or(T.bitwise_and(index, T.broadcast(T.uint16(15), WINDOW)), second)
            picked = T.call_llvm_pure_intrin(
                f"int16x{WINDOW}",
                "llvm.x86.avx512.permvar.hi.512",
                T.reinterpret(f"int16x{WINDOW}", x),
                T.reinterpret(f"int16x{WINDOW}", index),
            )
            return T.call_extern(f"float32x{LANES}", "tvm_balanced_dpbf16ps", acc, picked, values)

        @T.prim_func(private=True, s_tir=True)
        def cpu_avx512_bf16(
            x_: T.handle, values_: T.handle, indices_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), "bfloat16")
            values = T.match_buffer(values_, (groups_, chunks_ * steps, WINDOW), "bfloat16")
            indices = T.match_buffer(indices_, (groups_, chunks_ * chunk_words, WINDOW), "uint16")
            bias = T.match_buffer(bias_, (groups_, LANES), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "bfloat16")
            y = T.match_buffer(y_, (rows.m, n_), "bfloat16")
            acc = T.sblock_alloc_buffer(acc_shape, "float32", scope="local")
            for g, c, s, o, i in T.grid(groups_, chunks_, steps_, rows.tiles, size_):
                with T.sblock("dense"):
                    vg, vc, vs, vo, vi = T.axis.remap("SRRSS", [g, c, s, o, i])
                    T.reads(
                        x[rows.read(vo, vi), start(vc, vs) : start(vc, vs) + WINDOW],
                        values[group(vg), vc * steps + vs, 0:WINDOW],
                        indices[group(vg), vc * chunk_words + vs // slots, 0:WINDOW],
                    )
                    T.writes(acc[vo, vi, vg * LANES : vg * LANES + LANES])
                    with T.init():
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = T.broadcast(T.float32(0), LANES)
                        if stores:
                            prefetch_rows.prefetch_stores((residual, y), workload, rows.at(vo, vi), group(vg) * LANES)
                    acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] = step_of(
                        x[rows.read(vo, vi), T.ramp(start(vc, vs), 1, WINDOW)],
                        indices[group(vg), vc * chunk_words + vs // slots, T.ramp(0, 1, WINDOW)],
                        T.reinterpret(f"int16x{WINDOW}", values[group(vg), vc * steps + vs, T.ramp(0, 1, WINDOW)]),
                        vs,
                        acc[vo, vi, T.ramp(vg * LANES, 1, LANES)],
                    )
                    if next_rows is not None and vi == 0 and vs % per_window == 0:
                        next_rows.emit(x, vg, vo, start(vc, vs), WINDOW)
                    if fetches is not None and vi == 0:
                        fetches.emit((values, indices), (steps, chunk_words), group(vg), vc, vs, vo)
            for g, o, i in T.grid(groups_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vg, vo, vi = T.axis.remap("SSS", [g, o, i])
                    T.reads(acc[vo, vi, vg * LANES : vg * LANES + LANES], bias[group(vg), 0:LANES])
                    T.writes(y[rows.read(vo, vi), group(vg) * LANES : group(vg) * LANES + LANES])
                    if rows.at(vo, vi) < rows.m:
                        total = acc[vo, vi, T.ramp(vg * LANES, 1, LANES)] + bias[group(vg), T.ramp(0, 1, LANES)]
                        store_lanes(y, rows.at(vo, vi), group(vg), total, residual, workload, activation)

        return workload.attach(cpu_avx512_bf16)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        fetches = _fetches(workload)
        schedule_tiles(sch, _tiles(workload), unroll=1, unroll_rows=isinstance(fetches, Stream))
        import_prefetch(sch, "dense_update", target, DOT, stores=prefetch_rows.are_large(workload))

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * _slots(workload)
        # Share of the peak of fp32 multiply-adds: twice that of cpu_avx512, because a step does two.
        return roofline.seconds(slots * m, 1.1 if m > 1 else 0.7, slots * _slot_bytes(workload))


def _steps(nnz: int, block: int) -> int:
    """Return the steps of a window. Each takes a slot of both blocks, or two slots of a block as
    long as the window.
    """
    return nnz if block == BLOCK else nnz // 2


def _windows(k: int, block: int) -> int:
    """Return the windows of a row. They are blocks of 32, or pairs of whole blocks, then one window
    for a left-over whole block and one for a partial block.
    """
    whole = k // BLOCK
    return -(-k // WINDOW) if block == WINDOW else whole // 2 + whole % 2 + (k % BLOCK > 0)


def _places(k: int, block: int) -> list[int]:
    """Return the place of each block in the row of windows: pairs first, then blocks with their own
    window, as its second block.
    """
    whole, windows = k // BLOCK, _windows(k, block)
    if block == WINDOW:
        return list(range(windows))
    return [*range(whole - whole % 2), *([whole] if whole % 2 else []), *([2 * windows - 1] if k % BLOCK else [])]


def _slots(workload: Workload) -> int:
    """Return the slots of a row, including those that hold 0 because their block has no partner."""
    return _windows(workload.k, workload.block) * 2 * _steps(workload.nnz, workload.block)


def _slot_bytes(workload: Workload) -> float:
    """Return the bytes of a value with its index."""
    return 2 + 2 / SLOTS_PER_WORD[workload.block]


def _nbytes(workload: Workload) -> int:
    """Return the bytes of the packed weight."""
    return int(count_row_panels(workload.n) * _slots(workload) * LANES * _slot_bytes(workload))


def _tiles(workload: Workload) -> Tiles:
    """Return the default tiling of the layer."""
    nbytes, groups, rows = _nbytes(workload), count_row_panels(workload.n), split_rows_once(workload)
    return default_tiling(rows.size, rows.known_tiles, groups, nbytes // groups, once=streams(workload))


def _fetches(workload: Workload) -> Stream | Spread | None:
    """Return how weights are prefetched, None if they are not."""
    steps, chunk_windows, _ = chunk(_steps(workload.nnz, workload.block), SLOTS_PER_WORD[workload.block])
    chunks, nbytes = -(-_windows(workload.k, workload.block) // chunk_windows), _nbytes(workload)
    return prefetch.choose(workload, nbytes, chunks, steps, split_rows_once(workload), _tiles(workload))


CPU_AVX512_BF16 = CpuAvx512Bf16()
