"""Balanced-sparse dense layer for CPUs with AVX-512 and many rows of x; the rows of x are the lanes.

cpu_avx512 permutes x for every multiply-add, and both instructions need the same ports. Here a
nonzero multiplies whole vectors of rows of x at its column, and multiply-adds read these from the
first-level cache (docs/cpu.md):

    acc[row of weight][32 rows of x] += value * xt[column of value][32 rows of x]

The bottleneck is then loads, so eight slots of a row (an oct) take only two. Their values come in
one load, stay in a register and are broadcast from there, by shuffles that run beside the
multiply-adds. Their columns are one word.

x is packed in columns, one tile of K after another, so that the part in use stays in the
first-level cache. The sums of a set of rows of the weight stay in the second-level cache until the
next tile. Layout, for N padded to row panels, K split into tiles of up to 256 columns, and the
slots that a row has in a tile split into octs, padded with zeros at column 0:

    values   (tiles of K, groups, 16, octs, 8)  float32
    columns  (tiles of K, groups, 16, octs)     uint64   eight of 8 bits, counted from the tile's first, the first lowest
    bias     (groups, 16)                       float32
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.caches import LARGE_BYTES
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.schedules.base.expressions import divisor, int64
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir import prefetch_rows
from tvm_balanced.schedules.tir.activations_avx512 import ACTIVATIONS
from tvm_balanced.schedules.tir.packed_activations import (
    GROUP,
    PackedActivations,
    count_column_groups,
    count_tasks,
    pack_column_bias,
    tile_rows,
)
from tvm_balanced.schedules.tir.prefetch import import_prefetch, prefetch_line
from tvm_balanced.schedules.tir.register_transpose import BARRIER, optimization_barrier
from tvm_balanced.schedules.tir.tiling import divide

LANES = 16
OCT = 8  # slots whose values are one load and whose columns are one word; four are at most 0.99x as fast
K_TILE = 256  # the most columns of a tile of K, because a column has 8 bits: with 32 rows of x 32 KB
SLOT_BYTES = 5
# Rows of x in a tile, and the time of a row in such a tile. Two vectors are as fast as four with
# tiles of K half as long, which load and store the sums twice as often, and they waste fewer rows.
# One vector waits for loads of values.
TILES = {32: 1.0, 16: 1.45}
ROWS = 2  # rows of the weight whose sums are in registers at once; four are at most as fast
# Row tiles of x, and rows of the weight, in a set. Weights from memory are read once for every
# `SET_TILES_LARGE` row tiles: four are 1.02x as fast as one. Smaller weights are up to 1.03x as
# fast with one.
SET_TILES_LARGE, SET_ROWS = 4, 1024
# Up to this many row tiles, all of x is packed first, because sets are small then: 1.1x at M = 128.
# With more tiles it would go through the last-level cache (docs/measurements/kernels.md).
AT_ONCE = 4
# Rows of the weight between a prefetch and its use. 8 to 32 are within 2%; without prefetching it is 0.75x as fast.
AHEAD = 16
# Smaller weights are prefetched for up to this many row tiles: at best 1.4x at M = 32, 1.04x at M =
# 256 (docs/measurements/kernels.md).
FETCHED_TILES = 4


class CpuAvx512Spmm(SparseKernel):
    """Rows of x in lanes, values broadcast from registers; fp32, any block up to 256, for many rows of x."""

    name = "cpu_avx512_spmm"
    parts = ("values", "columns")
    small_tiles = ((1, 16, 16),)

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm" or not tvm.target.codegen.llvm_cpu_has_features("avx512f", target):
            return "the target has no AVX-512"
        return None if dtype == "float32" else f"it does not compute {dtype}"

    def fit(self, found: Detection) -> BalancedPattern | None:
        return found.pattern

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        n, k = weight.shape
        pattern, groups, tiles = weight.pattern, count_column_groups(n), KTiles.of(weight.pattern, k)
        slots = tiles.blocks * pattern.nnz

        def lay_out(a: Array) -> Array:
            whole = np.zeros((groups * GROUP, tiles.count * tiles.blocks, pattern.nnz), a.dtype)
            whole[:n, : a.shape[1]] = a
            by_tile = whole.reshape(groups, GROUP, tiles.count, slots).transpose(2, 0, 1, 3)
            padded = np.zeros((*by_tile.shape[:3], tiles.octs * OCT), a.dtype)
            padded[..., :slots] = by_tile
            return padded.reshape(*by_tile.shape[:3], tiles.octs, OCT)

        starts = (np.arange(pattern.blocks(k)) % tiles.blocks * pattern.block)[:, None]
        columns = lay_out((weight.indices + starts).astype(np.uint8))
        return lay_out(weight.values), columns.view("<u8")[..., 0]

    def pack_bias(self, bias: Array) -> Array:
        return pack_column_bias(bias)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, tiles = _rows(workload), KTiles.of(workload.pattern, workload.k)
        columns = PackedActivations(workload, rows, LANES, ACTIVATIONS, optimization_barrier)
        squares, k_tile, size = columns.squares(tiles.count * tiles.columns), tiles.columns, rows.size
        n_, k_, groups_, tiles_, octs_ = map(
            int64, (workload.n, workload.k, count_column_groups(workload.n), tiles.count, tiles.octs)
        )
        packed = (tiles_, groups_, GROUP, octs_, OCT)
        acc_shape, xt_shape = (rows.tiles, groups_, GROUP, int64(size)), (rows.tiles, int64(squares * LANES), int64(size))
        fetches = _is_large(workload) or (rows.known_tiles is not None and rows.known_tiles <= FETCHED_TILES)
        far = prefetch_rows.are_large(workload) and not _at_once(workload)

        def fetch_x(x: tirx.Buffer, o: Any, g: Any, t: Any, r: Any) -> None:
            """Prefetch a share of the tile of x that is packed next; the row panels of a set prefetch all of it."""
            lines, sharing = k_tile // LANES, divisor(count_column_groups(workload.n), SET_ROWS // GROUP)
            share, later = -(-size * lines * ROWS // (sharing * GROUP)), o + (t + 1) // tiles.count * _tiles_together(workload)
            for i in range(share):
                line = (g % sharing * (GROUP // ROWS) + r) * share + i
                T.evaluate(prefetch_line(x[rows.at(later, line // lines), (t + 1) % tiles.count * k_tile + line % lines * LANES]))

        def fetch_y(residual: tirx.Buffer, y: tirx.Buffer, o: Any, g: Any, t: Any, r: Any) -> None:
            """Prefetch a share of where a row panel's finished sums are stored."""
            share = size * ROWS // GROUP
            with T.If(t == tiles.count - 1), T.Then():
                for i in range(share):
                    prefetch_rows.prefetch_stores((residual, y), workload, rows.at(o, r * share + i), g * GROUP)

        def vectors(r: Any) -> list[tuple[Any, Any, Any]]:
            """Return (row among those in registers, row of the panel, lanes) of the vectors of sums."""
            return [(row, r * ROWS + row, T.ramp(first, 1, LANES)) for row, first in product(range(ROWS), range(0, size, LANES))]

        def begin(buffers: tuple[tirx.Buffer, ...], o: Any, g: Any, t: Any, r: Any) -> None:
            """Load the sums that `add` adds to."""
            acc, sums, words = buffers
            T.evaluate(T.call_extern("int32", "tvm_balanced_barrier"))
            for row, place, lanes in vectors(r):
                T.buffer_store(sums, acc[o, g, place, lanes], [row, lanes])
            for oct_ in range(0, ROWS * tiles.octs if fetches else 0, 64 // 8):
                T.evaluate(prefetch_line(words[t, g, r * ROWS + AHEAD, oct_]))

        def add(buffers: tuple[tirx.Buffer, ...], o: Any, g: Any, t: Any, r: Any, q: Any) -> None:
            """Add the products of an oct of each row to its sums."""
            xt, values, words, sums = buffers
            if fetches:
                T.evaluate(prefetch_line(values[t, g, r * ROWS + AHEAD, q * ROWS, 0]))
            for slot, (row, place, lanes) in product(range(OCT), vectors(r)):
                x = T.address_of(xt[o, t * k_tile, lanes.base])
                oct_ = words[t, g, place, q], values[t, g, place, q, T.ramp(0, 1, OCT)]
                total = T.call_extern(f"float32x{LANES}", function(size, slot), sums[row, lanes], x, *oct_)
                T.buffer_store(sums, total, [row, lanes])

        def end(buffers: tuple[tirx.Buffer, ...], o: Any, g: Any, r: Any) -> None:
            """Store the sums."""
            acc, sums = buffers
            for row, place, lanes in vectors(r):
                T.buffer_store(acc, sums[row, lanes], [o, g, place, lanes])

        @T.prim_func(private=True, s_tir=True)
        def cpu_avx512_spmm(
            x_: T.handle, values_: T.handle, words_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), "float32")
            values = T.match_buffer(values_, packed, "float32")
            words = T.match_buffer(words_, packed[:-1], "uint64")
            bias = T.match_buffer(bias_, (groups_, GROUP), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            xt = T.sblock_alloc_buffer(xt_shape, "float32")
            acc = T.sblock_alloc_buffer(acc_shape, "float32")
            for o, c, i in T.grid(rows.tiles, int64(squares), size // LANES):
                with T.sblock("transpose"):
                    vo, vc, vi = T.axis.remap("SSS", [o, c, i])
                    T.reads(x[rows.read(vo, vi * LANES), T.min(vc * LANES, k_ - 1)])
                    T.writes(xt[vo, vc * LANES : vc * LANES + LANES, vi * LANES : vi * LANES + LANES])
                    columns.lay_out(x, xt, vo, vc, vi)
            for o, g, t, r in T.grid(rows.tiles, groups_, tiles_, GROUP // ROWS):
                with T.sblock("dense"):
                    vo, vg, vt, vr = T.axis.remap("SSRS", [o, g, t, r])
                    T.reads(
                        xt[vo, vt * k_tile : vt * k_tile + k_tile, 0:size],
                        values[vt, vg, vr * ROWS : vr * ROWS + ROWS, 0:octs_, 0:OCT],
                        words[vt, vg, vr * ROWS : vr * ROWS + ROWS, 0:octs_],
                    )
                    T.writes(acc[vo, vg, vr * ROWS : vr * ROWS + ROWS, 0:size])
                    with T.init():
                        for i in T.serial(ROWS * size // LANES):
                            acc[vo, vg, vr * ROWS + i // (size // LANES), T.ramp(i % (size // LANES) * LANES, 1, LANES)] = (
                                T.broadcast(T.float32(0), LANES)
                            )
                    sums = T.sblock_alloc_buffer((ROWS, size), "float32", scope="local")
                    if far:
                        fetch_x(x, vo, vg, vt, vr)
                        fetch_y(residual, y, vo, vg, vt, vr)
                    begin((acc, sums, words), vo, vg, vt, vr)
                    for q in T.serial(octs_):
                        add((xt, values, words, sums), vo, vg, vt, vr, q)
                    end((acc, sums), vo, vg, vr)
            for o, g, q, i in T.grid(rows.tiles, groups_, GROUP // LANES, size // LANES):
                with T.sblock("epilogue"):
                    vo, vg, vq, vi = T.axis.remap("SSSS", [o, g, q, i])
                    T.reads(
                        acc[vo, vg, vq * LANES : vq * LANES + LANES, vi * LANES : vi * LANES + LANES],
                        bias[vg, vq * LANES : vq * LANES + LANES],
                    )
                    T.writes(y[rows.read(vo, vi * LANES), T.min(vg * GROUP + vq * LANES, n_ - 1)])
                    columns.finish((acc, bias, residual, y), vo, vg, vq, vi)

        return workload.attach(cpu_avx512_spmm)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        rows = _rows(workload)
        transpose, dense, epilogue = (sch.get_sblock(name) for name in ("transpose", "dense", "epilogue"))
        o, g, t, r = sch.get_loops(dense)
        tiles, groups = _set(workload, target)
        oo, oi = sch.split(o, [None, 1] if rows.known_tiles is None else divide(sch, o, tiles))
        go, gi = sch.split(g, divide(sch, g, groups))
        sch.reorder(oo, go, t, oi, gi, r)
        sch.reverse_compute_at(epilogue, go, preserve_unit_loops=True)
        if _at_once(workload):
            sch.parallel(sch.fuse(*sch.get_loops(transpose)[:2]))
        else:
            sch.compute_at(transpose, t, preserve_unit_loops=True)
        sch.parallel(sch.fuse(oo, go))
        import_prefetch(sch, "dense", target, functions(rows.size), stores=prefetch_rows.are_large(workload))

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        tiles = KTiles.of(workload.pattern, workload.k)
        size = _size(m) if workload.m is not None else next(iter(self.tiles_in(workload, RowRange(m, m))), max(TILES))
        slots = workload.n * tiles.count * tiles.octs * OCT
        # The shares are relative to cpu_avx512's 0.55 of the peak. Loading and storing a sum once
        # per tile of K takes as long as five multiply-adds; packing or unpacking a number as long
        # as two. See docs/measurements/kernels.md.
        sums = slots + 5 * workload.n * tiles.count + 2 * (workload.k + workload.n)
        # Packing all of x first sends it through the second-level cache: otherwise the kernel is 1.04x
        # as fast. It gains more above 1024 columns, where the eight rows of x of cpu_avx512 leave the
        # first-level cache (docs/measurements/kernels.md).
        share = 0.67 if -(-m // size) <= AT_ONCE or _at_once(workload) else 0.7 if workload.k <= 1024 else 0.735
        return roofline.seconds(-(-m // size) * size * sums * TILES[size], share, slots * SLOT_BYTES)


@dataclass(frozen=True)
class KTiles:
    """How K is tiled: `count` tiles of `blocks` blocks, which are `columns` columns and `octs` octs
    of slots per row.
    """

    count: int
    blocks: int
    columns: int
    octs: int

    @classmethod
    def of(cls, pattern: BalancedPattern, k: int) -> "KTiles":
        """Split K evenly into as few tiles as possible."""
        blocks = pattern.blocks(k)
        count = -(-blocks // (K_TILE // pattern.block))
        each = -(-blocks // count)
        return cls(-(-blocks // each), each, each * pattern.block, -(-each * pattern.nnz // OCT))


def functions(size: int) -> str:
    """Return LLVM IR of the functions that the kernel calls, for row tiles of `size` rows of x.

    These are `tvm_balanced_opaque`, `tvm_balanced_barrier`, and for every slot of an oct a function
    (16 sums, x at the tile's first column, columns, values) that adds the slot's products to the
    sums.

    From TensorIR, LLVM would load every value again to broadcast it, and would compute addresses in
    six instructions instead of three. Empty inline assembly prevents the first. Loads of x have a
    TBAA type of their own among TVM's, so LLVM knows that they do not read the sums. The barrier
    before every use keeps them after the stores of the packed x, which they do read.
    """
    text = [
        "declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)",
        "define linkonce_odr i32 @tvm_balanced_barrier() alwaysinline nounwind {",
        '  call void asm sideeffect "", "~{memory}"() nounwind',
        "  ret i32 0",
        "}",
    ]
    for slot in range(OCT):
        text += [
            f"define linkonce_odr <16 x float> @{function(size, slot)}"
            "(<16 x float> %sums, ptr %x, i64 %columns, <8 x float> %values) alwaysinline nounwind willreturn {",
            _shuffle("wide", "values", range(OCT), OCT),
            "  %all = call <16 x float> @tvm_balanced_opaque(<16 x float> %wide)",
            _shuffle("half", "all", (slot // 4 * 4 + lane % 4 for lane in range(LANES))),
            "  %four = call <16 x float> @tvm_balanced_opaque(<16 x float> %half)",
            _shuffle("value", "four", (lane // 4 * 4 + slot % 4 for lane in range(LANES))),
            f"  %shifted = lshr i64 %columns, {8 * slot}",
            "  %column = and i64 %shifted, 255",
            f"  %at = getelementptr inbounds [{size} x float], ptr %x, i64 %column",
            "  %vector = load <16 x float>, ptr %at, align 64, !tbaa !0",
            "  %result = call <16 x float> @llvm.fma.v16f32(<16 x float> %vector, <16 x float> %value, <16 x float> %sums)",
            "  ret <16 x float> %result",
            "}",
        ]
    return BARRIER + "\n".join(
        [*text, "!0 = !{!1, !1, i64 0}", '!1 = !{!"tvm_balanced_x", !2, i64 0}', '!2 = !{!"tvm-tbaa"}', ""]
    )


def function(size: int, slot: int) -> str:
    """Return the name of the function of a slot of an oct."""
    return f"tvm_balanced_spmm_{size}_{slot}"


def _shuffle(result: str, source: str, picked: Iterable[int], lanes: int = LANES) -> str:
    """Return a line of LLVM IR that selects lanes of `source`. If there are sixteen, the lanes that
    are not selected hold anything.
    """
    mask = [*map(str, picked)]
    indices = ", ".join(f"i32 {lane}" for lane in [*mask, *["poison"] * (LANES - len(mask))])
    return f"  %{result} = shufflevector <{lanes} x float> %{source}, <{lanes} x float> poison, <{LANES} x i32> <{indices}>"


def _set(workload: Workload, target: tvm.target.Target) -> tuple[int, int]:
    """Return the number of row tiles of x, and of row panels of the weight, in a set."""
    tiles, groups, together = _rows(workload).known_tiles, count_column_groups(workload.n), _tiles_together(workload)
    enough = groups if tiles is None else max(1, groups * (tiles // together) // count_tasks(target))
    return together, divisor(groups, min(SET_ROWS // GROUP, enough))


def _tiles_together(workload: Workload) -> int:
    """Return how many row tiles of x are in a set."""
    tiles = _rows(workload).known_tiles
    return divisor(tiles, SET_TILES_LARGE) if tiles is not None and _is_large(workload) else 1


def _at_once(workload: Workload) -> bool:
    """Whether all of x is packed in columns first."""
    tiles = _rows(workload).known_tiles
    return (tiles is not None and tiles <= AT_ONCE) or KTiles.of(workload.pattern, workload.k).columns % LANES != 0


def _is_large(workload: Workload) -> bool:
    """Whether the packed weight is loaded from memory."""
    tiles = KTiles.of(workload.pattern, workload.k)
    return count_column_groups(workload.n) * GROUP * tiles.count * tiles.octs * OCT * SLOT_BYTES >= LARGE_BYTES


def _rows(workload: Workload) -> RowTiles:
    if workload.m is None:
        return RowTiles.of(None, longest=max(TILES), symbolic=workload.tile or max(TILES))
    return RowTiles(int64(workload.m), _size(workload.m))


def _size(m: int) -> int:
    """Return the rows of a tile for M rows of x."""
    return tile_rows(m, TILES)


CPU_AVX512_SPMM = CpuAvx512Spmm()
