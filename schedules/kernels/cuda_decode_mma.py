"""Balanced-sparse dense layer on tensor cores: weights stay sparse in memory and become dense in registers.

A warp computes tiles of 16 rows of the weight by 8 rows of x with mma.m16n8k16; the weights are its
first operand. An element of the two operands may stand for any column of K as long as both agree.
The layout uses this freedom so that lanes need not exchange data. The instruction gives a lane two
rows (r and r + 8) and columns 2t, 2t + 1, 2t + 8 and 2t + 9 of 16. Of every 64 columns, four blocks
of 16, that lane holds all 16 columns of the t-th block of its two rows, four per step:

    step s of 4, lane 4r + t:   columns 4s to 4s + 3 of block t   of row r and of row r + 8

So each lane decodes its own blocks: the slots of a row become eight registers of two columns each,
by look-ups in a table in shared memory (see `byte_permute_tables`). x and the weight are copied to
shared memory one stage ahead; a lane's 16 columns of x are 32 contiguous bytes. Thread blocks split
K among their warps and add the partial sums in shared memory in a fixed order. In small layers, blocks of a
cluster share K as well: they store their partial sums in the shared memory of the first, which adds all.

    values     (N / 16, K groups, L, 32, 4)  uint32: eight values of a lane, two a word, 16 bytes
    positions  (N / 16, K groups, L, 32)     uint32: four bits for each of those eight: the rank of a pair in its first and second
    selectors  (entries, 4)                  uint32: the table, the same for all layers of a pattern

A K group is as many steps of 64 columns as fill whole loads; its slots stand in the order (64
columns, row r or r + 8, slot).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.base.cuda_config import MIN_BLOCKS
from tvm_balanced.schedules.base.expressions import divisors, int64, without_loops
from tvm_balanced.schedules.base.gpu_specs import H200, gpu_of
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.space import FORM_ATTR, Decision, form_of, sample_number
from tvm_balanced.schedules.base.target_info import LEAST_SHARED_KIB, has_clusters, shared_bytes, shared_scope, too_old
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.kernels.cuda_gemv import bind_threads
from tvm_balanced.schedules.layouts.byte_permute_tables import WORDS, entry, look_ups, nibbles, table
from tvm_balanced.schedules.layouts.row_panels import SLOTS_PER_WORD, fit_block, pack_indices
from tvm_balanced.schedules.layouts.warp_panels import BLOCK, WARP, columns_inside, round_up, with_columns
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.cuda_intrinsics import is_first, meet_cluster, mma, permute_bytes, store_in_first

ROWS = 16  # rows of the weight in a tile
QUAD = 4  # blocks of a step, one for each of the four lanes that share a row
NNZ = (1, 2, 3, 4, 6, 8)
TOKENS = 8  # rows of x in a tile
REGISTERS = 16  # of a lane's weights of a step: eight for row r and eight for row r + 8
COPIES = 8  # copies of the table of selectors: eight lanes read 16 bytes each from all 32 banks at a time
# How a layer is tiled, from a sweep of 28672x8192 on an H200 (benchmarks/data/gpu_cuts.csv). The
# warps of a block synchronize twice per stage, so stages of two K groups, one copied ahead, beat
# stages of one, three copied ahead: docs/measurements/kernels.md.
MOST_WARPS = 16  # warps of a thread block
STEPS = 2  # K groups of a warp's share of K in a stage
UNROLLED = 4  # steps of 64 columns in a stage, at most
BUSY_WARPS = 12  # this many keep a multiprocessor busy half of the time
START = 150_000  # starting a block takes as long as this many weights
TWO_TILES = 0.85  # relative time if a warp has two tiles of the weight
KEPT_ROWS = 16  # rows of x that stay in a warp's registers while it decodes its tiles
# The cost model adds memory, decoding, tensor cores, and what thread blocks read of x from the
# second-level cache. It is fitted to 22 measurements on an H200 (benchmarks/data/gpu.csv); the
# farthest is 9% off.
SLOT_BYTES = 2.5  # a value and four bits for its position
OVERHEAD = 0.3  # all other integer instructions per weight, counted in the machine code
MEMORY, DECODING, TENSOR = 0.68, 0.65, 1.52  # relative to the times at peak rates
CACHE_RATE = 1.33  # rate of reading x, relative to that of memory
FIXED = 3.8e-6  # seconds of a kernel without work
# What a search may choose besides tiles. Stages copied further ahead, and blocks side by side, gained 6% at most on an H200.
AHEAD = (1, 2, 3)  # stages that are copied ahead
RESIDENT = (1, 2)  # thread blocks side by side on a multiprocessor, which registers must leave room for
SHARES = (1, 2, 4, 8)  # warps that share K, besides the default
# Thread blocks that share K, as a cluster: not measured yet.
SLICES = (2, 4, 8)  # larger clusters are not on every GPU
MEETING = 1e-6  # seconds that it takes them to start together, to wait for each other and to add up
WORTH = 1.15  # by how much that must be faster
MANY_BLOCKS = 128  # thread blocks along the tiles of the weight that make a split count twice: each of them reads x
H200_RATES = Roofline(1, H200.fp32_gmacs, H200.gbytes, H200.gbytes, WARP, H200.half_gmacs, multiprocessors=H200.multiprocessors)


class CudaDecodeMma(SparseKernel):
    """Tensor cores on weights that are decoded in registers; fp16 and bf16 with sums in fp32."""

    name = "cuda_decode_mma"
    parts = ("values", "positions", "selectors")
    kinds = ("cuda", "opencl")
    small_tiles: ClassVar[tuple[tuple[int, int, int], ...]] = ((1, 8, 8), (9, 16, 16), (17, 32, 32))
    dtypes = ("float16", "bfloat16")
    rows = 64  # rows of x in a tile, at most

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name not in self.kinds:
            return "the target is not a GPU"
        return too_old(target, 80) if dtype in self.dtypes else f"it does not compute {dtype}"  # cp.async, mma.m16n8k16

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_block(found, BLOCK, (*NNZ, BLOCK))

    def layout(self, n: int, k: int, nnz: int) -> "Layout":
        """Return how `pack` lays out a weight (N, K) that keeps `nnz` of every 16."""
        return Layout.of(n, k, nnz)

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        (n, k), nnz = weight.shape, weight.pattern.nnz
        layout = self.layout(n, k, nnz)
        shape = (layout.tiles, 2, ROWS // 2, layout.groups, layout.steps, QUAD, nnz)  # tile, half, r, group, step, t, slot

        def by_lane(a: Array) -> Array:
            whole = np.zeros((layout.tiles * ROWS, layout.groups * layout.steps * QUAD, nnz), a.dtype)
            whole[:n, : a.shape[1]] = a
            lanes = whole.reshape(shape).transpose(0, 3, 2, 5, 4, 1, 6)  # tile, group, r, t, step, half, slot
            return lanes.reshape(layout.tiles, layout.groups, WARP, layout.loads, SLOTS_PER_WORD).swapaxes(2, 3)

        dtype = numpy_dtype("bfloat16" if str(weight.values.dtype) == "bfloat16" else "float16")
        kept, columns = with_columns(weight)
        upper = np.arange(n) // (ROWS // 2) % 2 == 1
        stored = np.where(upper[:, None, None], nibbles(columns, nnz), nibbles(columns, 0))
        lanes = by_lane(stored)
        positions = pack_indices(lanes.reshape(-1, SLOTS_PER_WORD, 1), SLOTS_PER_WORD).reshape(lanes.shape[:-1])
        return _words(by_lane(kept.astype(dtype))), positions, table(nnz)

    def pack_bias(self, bias: Array) -> Array:
        padded = np.zeros(self.layout(len(bias), BLOCK, 2).tiles * ROWS, np.float32)
        padded[: len(bias)] = bias
        return padded.reshape(-1, ROWS)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        cut = _cut(workload)
        return self._written(workload, cut.shares, cut.slices, 1)

    def forms(self, workload: Workload, target: tvm.target.Target) -> tuple[Decision, ...]:
        """Return (shares, slices, resident): the warps of a block, and the thread blocks, that share K, and the thread blocks
        that registers must leave room for on a multiprocessor.
        """
        return tuple((cut.shares, cut.slices, resident) for cut in _cuts(workload, target) for resident in RESIDENT)

    def in_form(self, workload: Workload, form: Decision) -> tirx.PrimFunc:
        return self._written(workload, *form)

    def _written(self, workload: Workload, shares: int, slices: int, resident: int) -> tirx.PrimFunc:
        rows, activation, dtype = _rows(workload), ACTIVATIONS[workload.activation], workload.dtype
        n, k, nnz = workload.n, workload.k, workload.nnz
        layout = Layout.of(n, k, nnz)
        columns = layout.steps * QUAD * BLOCK
        n_, k_, tiles_, groups_, loads_, steps_, shares_, slices_ = map(
            int64, (n, k, layout.tiles, layout.groups // (shares * slices), layout.loads, layout.steps, shares, slices)
        )
        parts_, size_, warp_, columns_, block_ = map(int64, (rows.size // TOKENS, rows.size, WARP, columns, BLOCK))
        rows_, registers_, sums_, words_ = map(int64, (ROWS, REGISTERS, 4, 4))
        entries_, copies_, entry_ = map(int64, (len(table(nnz)) if nnz < BLOCK else 1, COPIES, WORDS))
        whole, once_, halves_ = layout.groups * columns == k, int64(1), int64(2)
        groups_in_all = int64(layout.groups)
        stored = (
            (tiles_, rows_, groups_in_all, int64(columns // 2))
            if nnz == BLOCK
            else (tiles_, groups_in_all, loads_, warp_, words_)
        )

        def stage(x: tirx.Buffer, tile: Any, row: Any, column: Any) -> Any:
            value = x[rows.read(tile, row), column]
            return value if whole else T.if_then_else(columns_inside(column, k, 8), value, tirx.const(0, dtype))

        def result(total: Any, residual: tirx.Buffer, row: Any, column: Any) -> Any:
            total = total + T.cast(residual[row, column], "float32") if workload.residual else total
            return T.cast(activation(total), dtype)

        @T.prim_func(private=True, s_tir=True)
        def cuda_decode_mma(
            x_: T.handle,
            values_: T.handle,
            positions_: T.handle,
            selectors_: T.handle,
            bias_: T.handle,
            residual_: T.handle,
            y_: T.handle,
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), dtype)
            values = T.match_buffer(values_, stored, "uint32")
            positions = T.match_buffer(positions_, (tiles_, groups_in_all, loads_, warp_), "uint32")
            selectors = T.match_buffer(selectors_, (entries_, entry_), "uint32")
            bias = T.match_buffer(bias_, (tiles_, rows_), dtype if nnz == BLOCK else "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), dtype)
            y = T.match_buffer(y_, (rows.m, n_), dtype)
            staged = T.sblock_alloc_buffer((rows.tiles, groups_in_all, size_, columns_), dtype)
            columns_of_x = T.sblock_alloc_buffer((rows.tiles, groups_in_all, steps_, parts_, warp_, block_), dtype)
            entries = T.sblock_alloc_buffer((entries_, copies_, entry_), "uint32")
            dense = T.sblock_alloc_buffer((tiles_, groups_in_all, steps_, warp_, registers_), "uint32")
            sums = T.sblock_alloc_buffer((rows.tiles, slices_, shares_, tiles_, parts_, warp_, sums_), "float32", scope="local")
            share = T.sblock_alloc_buffer((rows.tiles, slices_, shares_, tiles_, parts_, sums_, warp_), "float32")
            enlisted = T.sblock_alloc_buffer((slices_,), "int32", scope="local")
            total = T.sblock_alloc_buffer((rows.tiles, size_, tiles_, rows_), "float32", scope="local")
            for o, g, i, c in T.grid(rows.tiles, groups_in_all, size_, columns_):
                with T.sblock("stage"):
                    vo, vg, vi, vc = T.axis.remap("SSSS", [o, g, i, c])
                    staged[vo, vg, vi, vc] = stage(x, vo, vi, vg * columns_ + vc)
            for o, g, s, p, r, c in T.grid(rows.tiles, groups_in_all, steps_, parts_, warp_, block_):
                with T.sblock("read_x"):
                    vo, vg, vs, vp, vr, vc = T.axis.remap("SSSSSS", [o, g, s, p, r, c])
                    columns_of_x[vo, vg, vs, vp, vr, vc] = staged[
                        vo, vg, vp * TOKENS + vr // QUAD, (vs * QUAD + vr % QUAD) * BLOCK + vc
                    ]
            if nnz < BLOCK:
                for e, c, w in T.grid(entries_, copies_, entry_):
                    with T.sblock("copy_selectors"):
                        ve, vc, vw = T.axis.remap("SSS", [e, c, w])
                        entries[ve, vc, vw] = selectors[ve, vw]
            arranged = T.sblock_alloc_buffer((tiles_, groups_in_all, loads_, warp_, words_), "uint32")
            if nnz == BLOCK:  # two halves of the rows, of each two loads of four words: what a lane has of a row
                for t, g, h, r, i, w in T.grid(tiles_, groups_in_all, halves_, warp_, halves_, words_):
                    with T.sblock("arrange"):
                        vt, vg, vh, vr, vi, vw = T.axis.remap("SSSSSS", [t, g, h, r, i, w])
                        arranged[vt, vg, vh * 2 + vi, vr, vw] = values[vt, vh * 8 + vr // QUAD, vg, vr % QUAD * 8 + vi * 4 + vw]
            # the last loop runs once: a region that a block writes must start at one of its axes
            for t, g, s, r, c in T.grid(tiles_, groups_in_all, steps_, warp_, once_):
                with T.sblock("decode"):
                    vt, vg, vs, vr, vc = T.axis.remap("SSSSS", [t, g, s, r, c])
                    if nnz == BLOCK:
                        T.reads(arranged[vt, vg, 0:loads_, vr, 0:4])
                    else:
                        T.reads(
                            values[vt, vg, 0:loads_, vr, 0:4],
                            positions[vt, vg, 0:loads_, vr],
                            entries[0:entries_, 0:copies_, 0:entry_],
                        )
                    T.writes(dense[vt, vg, vs, vr, vc * REGISTERS : vc * REGISTERS + REGISTERS])
                    if nnz == BLOCK:
                        for j in T.serial(REGISTERS):
                            dense[vt, vg, vs, vr, vc * REGISTERS + j] = arranged[
                                vt, vg, (vs * REGISTERS + j) // 4, vr, (vs * REGISTERS + j) % 4
                            ]
                    else:
                        picked = T.sblock_alloc_buffer((WORDS,), "uint32", scope="local")
                        spread(
                            dense, (vt, vg, vs, vr), (vt, vg, vs, vr), (values, positions, entries), picked, nnz, vc * REGISTERS
                        )
            if slices > 1:
                for z in T.serial(slices_):
                    with T.sblock("enlist"):
                        vz = T.axis.spatial(slices_, z)
                        enlisted[vz] = 1
            for o, z, f, t, r, g, s, p in T.grid(rows.tiles, slices_, shares_, tiles_, warp_, groups_, steps_, parts_):
                with T.sblock("mma"):
                    vo, vz, vf, vt, vr, vg, vs, vp = T.axis.remap("SSSSSRRS", [o, z, f, t, r, g, s, p])
                    T.reads(
                        dense[vt, (vz * groups_ + vg) * shares_ + vf, vs, vr, 0:REGISTERS],
                        columns_of_x[vo, (vz * groups_ + vg) * shares_ + vf, vs, vp, vr, 0:BLOCK],
                        *([enlisted[0:slices_]] if slices > 1 else []),
                    )
                    T.writes(sums[vo, vz, vf, vt, vp, vr, 0:4])
                    with T.init():
                        for i in T.serial(4):
                            sums[vo, vz, vf, vt, vp, vr, i] = T.float32(0)
                    for step in T.serial(4):  # nvcc unrolls it
                        mma(
                            dtype,
                            T.address_of(sums[vo, vz, vf, vt, vp, vr, 0]),
                            dense[vt, (vz * groups_ + vg) * shares_ + vf, vs, vr, 2 * step],
                            dense[vt, (vz * groups_ + vg) * shares_ + vf, vs, vr, 2 * step + 8],
                            dense[vt, (vz * groups_ + vg) * shares_ + vf, vs, vr, 2 * step + 1],
                            dense[vt, (vz * groups_ + vg) * shares_ + vf, vs, vr, 2 * step + 9],
                            T.address_of(columns_of_x[vo, (vz * groups_ + vg) * shares_ + vf, vs, vp, vr, 4 * step]),
                        )
            if slices == 1:
                for o, f, t, p, i, r in T.grid(rows.tiles, shares_, tiles_, parts_, sums_, warp_):
                    with T.sblock("share"):
                        vo, vf, vt, vp, vi, vr = T.axis.remap("SSSSSS", [o, f, t, p, i, r])
                        share[vo, 0, vf, vt, vp, vi, vr] = sums[vo, 0, vf, vt, vp, vr, vi]
            else:
                # the last two loops run once
                for o, z, f, t, r, c, d in T.grid(rows.tiles, slices_, shares_, tiles_, warp_, once_, once_):
                    with T.sblock("share"):
                        vo, vz, vf, vt, vr, vc, vd = T.axis.remap("SSSSSSS", [o, z, f, t, r, c, d])
                        T.reads(sums[vo, vz, vf, vt, vc * parts_ : vc * parts_ + parts_, vr, vd * 4 : vd * 4 + 4])
                        T.writes(share[vo, vz, vf, vt, vc * parts_ : vc * parts_ + parts_, vd * 4 : vd * 4 + 4, vr])
                        T.evaluate(meet_cluster())  # the first block no longer uses the memory that they are written to
                        for p, i in T.grid(parts_, sums_):
                            T.evaluate(
                                store_in_first(
                                    T.address_of(share[vo, vz, vf, vt, vc * parts_ + p, vd * 4 + i, vr]),
                                    sums[vo, vz, vf, vt, vc * parts_ + p, vr, vd * 4 + i],
                                )
                            )
                        T.evaluate(meet_cluster())
            for o, i, t, r, z, f in T.grid(rows.tiles, size_, tiles_, rows_, slices_, shares_):
                with T.sblock("add_shares"):
                    vo, vi, vt, vr, vz, vf = T.axis.remap("SSSSRR", [o, i, t, r, z, f])
                    with T.init():
                        total[vo, vi, vt, vr] = T.float32(0)
                    total[vo, vi, vt, vr] = (
                        total[vo, vi, vt, vr]
                        + share[vo, vz, vf, vt, vi // TOKENS, vr // 8 * 2 + vi % 2, vr % 8 * QUAD + vi % TOKENS // 2]
                    )
            for o, i, t, r in T.grid(rows.tiles, size_, tiles_, rows_):
                with T.sblock("epilogue"):
                    vo, vi, vt, vr = T.axis.remap("SSSS", [o, i, t, r])
                    T.attr({MIN_BLOCKS: resident})
                    if tirx.all(rows.at(vo, vi) < rows.m, vt * ROWS + vr < n_, *([is_first() != 0] if slices > 1 else [])):
                        y[rows.at(vo, vi), vt * ROWS + vr] = result(
                            total[vo, vi, vt, vr] + T.cast(bias[vt, vr], "float32"), residual, rows.at(vo, vi), vt * ROWS + vr
                        )

        func = workload.attach(cuda_decode_mma if slices > 1 else without_loops(cuda_decode_mma, "z"))
        return func.with_attr(FORM_ATTR, [shares, slices, resident])

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        stage, read_x, decode, mma_ = (sch.get_sblock(name) for name in ("stage", "read_x", "decode", "mma"))
        o, *slices, f, t, r, g, s, p = sch.get_loops(mma_)
        cut = _cut(workload, target, form_of(sch.mod["main"]))
        tiles = sch.sample_perfect_tile(t, 3, 4, decision=[cut.blocks, cut.warps, cut.tiles])
        block, warps, tile = sch.split(t, tiles)
        steps = _steps(workload, cut, target)
        groups = Layout.of(workload.n, workload.k, workload.nnz).groups // (cut.shares * cut.slices)
        stages, step = sch.split(g, sch.sample_perfect_tile(g, 2, 8, decision=[groups // steps, steps]))
        # few rows of x stay in registers while tiles of the weight pass; otherwise a decoded tile of
        # the weight stays, and tiles of x pass
        keeps_x = _rows(workload).size <= KEPT_ROWS
        sch.reorder(block, o, *slices, f, warps, r, stages, step, s, *((tile, p) if keeps_x else (p, tile)))
        for loop, axis in (
            (o, "blockIdx.x"),  # neighbours in time, so that all row tiles of x share what is read of the weight
            (block, "blockIdx.y"),
            (f, "threadIdx.z"),
            (warps, "threadIdx.y"),
            (r, "threadIdx.x"),
        ):
            sch.bind(loop, axis)
        if cut.slices > 1:
            enlist = sch.get_sblock("enlist")
            sch.compute_at(enlist, r, preserve_unit_loops=True)
            if has_clusters(target):
                sch.bind(slices[0], "blockIdx.z")
                sch.bind(sch.get_loops(enlist)[-1], "clusterCtaIdx.z")  # says how many blocks along z are a cluster
        sch.set_scope(decode, 0, "local")
        sch.compute_at(decode, tile if keeps_x else s, preserve_unit_loops=True)
        shared, threads = shared_scope(target), (cut.shares, tiles[1])
        for operand in (0,) if workload.nnz == BLOCK else (0, 1):
            if workload.nnz == BLOCK:
                held = sch.get_sblock("arrange")
                sch.set_scope(held, 0, shared)
                # the second load of a lane lies 16 banks away from the first: eight threads side by side write both
                sch.storage_align(held, 0, 2, WARP * 4, 16)
            else:
                held = sch.cache_read(decode, operand, shared)
            sch.compute_at(held, stages, preserve_unit_loops=True)
            own_copy(sch, held, 6 if workload.nnz == BLOCK else 5 if operand == 0 else 4, threads)
            copy = sch.cache_read(decode, operand, "local")
            sch.compute_at(copy, step, preserve_unit_loops=True)
            if operand == 0:
                sch.vectorize(sch.get_loops(copy)[-1])
        if workload.nnz < BLOCK:
            copied = sch.get_sblock("copy_selectors")
            sch.set_scope(copied, 0, shared)
            sch.compute_at(copied, r, preserve_unit_loops=True)
            share_copy(sch, copied, 3, threads)
        sch.set_scope(read_x, 0, "local")
        sch.compute_at(read_x, s if keeps_x else p, preserve_unit_loops=True)
        sch.vectorize(sch.split(sch.get_loops(read_x)[-1], [None, 8])[1])
        sch.set_scope(stage, 0, shared)
        sch.compute_at(stage, stages, preserve_unit_loops=True)
        *_, sg, si, sc = sch.get_loops(stage)
        so, sv = sch.split(sc, [None, 8])
        bind_threads(sch, sch.fuse(sg, si, so), threads)
        sch.vectorize(sv)
        # pad columns to 8 past a multiple of 64, so that eight lanes read 16 bytes each from all 32 banks
        sch.storage_align(stage, 0, 2, 64, 8)
        share, add, epilogue = (sch.get_sblock(name) for name in ("share", "add_shares", "epilogue"))
        sch.set_scope(share, 0, shared)
        sch.reverse_compute_at(share, r, preserve_unit_loops=True)
        sch.reverse_compute_at(add, o, preserve_unit_loops=True)
        sch.reverse_compute_at(epilogue, o, preserve_unit_loops=True)
        *_, i, t, r = sch.get_loops(epilogue)
        sch.compute_at(add, bind_threads(sch, sch.fuse(i, t, r), threads), preserve_unit_loops=True)
        if target.kind.name != "opencl":  # there an mma is two barriers, and PoCL compiles them apart
            for loop in (tile, p, s, step):
                sch.unroll(loop)
        sch.decompose_reduction(mma_, stages)
        # cp.async copies x of the next stage, or of one further ahead, while that of this one is used
        copies = 2 if workload.nnz == BLOCK else 3
        ahead = sample_number(sch, AHEAD, 1)
        sch.annotate(stages, "software_pipeline_stage", [*[0] * copies, ahead])
        sch.annotate(stages, "software_pipeline_order", list(range(copies + 1)))
        sch.annotate(stages, "software_pipeline_async_stages", [0])

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        tile = replace(workload, m=min(m, self.rows))
        return modelled(tile, m, roofline, planned(tile))


def instructions(nnz: int) -> float:
    """Integer instructions of a lane to decode a weight: two to find an entry, and 1.5 for each
    register that it reaches.
    """
    each = [2 + 1.5 * look.registers for start in (0, nnz) for look in look_ups(nnz, start)]
    return sum(each) / (2 * BLOCK) + OVERHEAD


def share_copy(sch: Schedule, block: Any, loops: int, threads: tuple[Any, Any]) -> None:
    """Share a copy of words among all threads of a block: (shares, warps) of 32, 16 bytes at once.
    The copy's loops are the last.
    """
    *outer, words = sch.get_loops(block)[-loops:]
    more, vector = sch.split(words, [None, 4])
    bind_threads(sch, sch.fuse(*outer, more), threads)
    sch.vectorize(vector)


def own_copy(sch: Schedule, block: Any, loops: int, threads: tuple[Any, Any]) -> None:
    """Let each warp copy the words of the weight that it will use, 16 bytes at once. The loops:
    tiles, K groups, and one group's.
    """
    tiles, groups, *inner, words = sch.get_loops(block)[-loops:]
    warps, tile = sch.split(tiles, [threads[1], None])
    step, shares = sch.split(groups, [None, threads[0]])
    more, vector = sch.split(words, [None, 4])
    sch.reorder(shares, warps, tile, step, *inner, more)
    _, lanes = sch.split(sch.fuse(tile, step, *inner, more), [None, WARP])
    for part, axis in ((shares, "threadIdx.z"), (warps, "threadIdx.y"), (lanes, "threadIdx.x")):
        sch.bind(part, axis)
    sch.vectorize(vector)


@dataclass(frozen=True)
class Layout:
    """How a weight is laid out: tiles of 16 rows, K groups of `steps` times 64 columns that fill
    `loads` whole loads.
    """

    tiles: int
    groups: int
    steps: int
    loads: int

    @classmethod
    def of(cls, n: int, k: int, nnz: int) -> "Layout":
        """Return the layout of a weight (N, K) that keeps `nnz` of every 16."""
        steps = next(s for s in (1, 2, 4) if 2 * nnz * s % SLOTS_PER_WORD == 0)
        groups = -(-k // (steps * QUAD * BLOCK))
        return cls(round_up(-(-n // ROWS)), round_up(groups), steps, 2 * nnz * steps // SLOTS_PER_WORD)


@dataclass(frozen=True)
class Cut:
    """How tiles of the weight, and K, are split among thread blocks and warps.

    Parameters
    ----------
    shares : int
        Warps that share K. This is part of the function, because their partial sums are.
    blocks, warps, tiles : int
        How the tiles of the weight are split: thread blocks, warps of a block, tiles of a warp.
    slices : int
        Thread blocks that share K, a cluster. They are part of the function as well.
    """

    shares: int
    blocks: int
    warps: int
    tiles: int
    slices: int = 1


def _cut(workload: Workload, target: tvm.target.Target | None = None, form: Decision | None = None) -> Cut:
    """Choose the default split, or that of a form.

    Parameters
    ----------
    workload : Workload
    target : target, optional
        The target to run on. Without one, the split is for an H200 with the shared memory of the
        smallest GPU; the numbers of shares and slices in it are part of the function, which knows no target.
    form : tuple of int, optional
        Of the function; by default as planned.
    """
    if target is None:
        return planned(workload)
    shares, slices = form[:2] if form else (planned(workload).shares, planned(workload).slices)
    at_once = slices if has_clusters(target) else 1
    return _busiest(workload, slices, [shares], shared_bytes(target), gpu_of(target).multiprocessors, at_once)


def _cuts(workload: Workload, target: tvm.target.Target) -> list[Cut]:
    """Return a split for each number of warps and thread blocks that may share K, if a target has room for one.

    Where there are no clusters, one block would compute the slices in turn, so that only the number that is planned is of use.
    """
    groups, fitting = Layout.of(workload.n, workload.k, workload.nnz).groups, shared_bytes(target)
    clusters = has_clusters(target) and workload.nnz < BLOCK
    return [
        Cut(shares, 1, 1, 1, slices)
        for slices in ((1, *SLICES) if clusters else (planned(workload).slices,))
        for shares in sorted({*SHARES, planned(workload).shares})
        if shares <= _most_warps(workload)
        and groups % (slices * shares) == 0
        and _shared_bytes(workload, shares, 1, 1) <= fitting
        and (slices == 1 or _sum_bytes(workload, shares * slices, 1) <= fitting)
    ]


@cache
def planned(workload: Workload, whole: bool = False) -> Cut:
    """Return the split for an H200: thread blocks share K where they are one wave and that is WORTH it by the cost model.
    If `whole`, none share it.

    These are small layers, whose blocks are too few for all multiprocessors or, if they are many, read x too often.
    """
    groups, fitting = Layout.of(workload.n, workload.k, workload.nnz).groups, LEAST_SHARED_KIB << 10
    cuts = [_whole_k(workload)]
    one_wave = not whole and workload.nnz < BLOCK and cuts[0].blocks <= H200.multiprocessors
    for slices in (number for number in SLICES if one_wave and groups % number == 0):
        shares = divisors(groups // slices, _most_warps(workload))
        cuts.append(_busiest(workload, slices, shares, fitting, H200.multiprocessors, slices))
    seconds = [modelled(workload, _rows(workload).size, H200_RATES, cut) for cut in cuts]
    best = min(range(len(cuts)), key=lambda i: seconds[i])
    return cuts[best] if WORTH * seconds[best] <= seconds[0] else cuts[0]


@cache
def _whole_k(workload: Workload) -> Cut:
    """Return the split for an H200 in which each thread block has all of K."""
    groups = Layout.of(workload.n, workload.k, workload.nnz).groups
    return _busiest(workload, 1, divisors(groups, _most_warps(workload)), LEAST_SHARED_KIB << 10, H200.multiprocessors, at_once=1)


def _most_warps(workload: Workload) -> int:
    """Return how many warps a thread block may have: the sums of many rows take the registers of as many warps."""
    return MOST_WARPS if _rows(workload).size <= KEPT_ROWS else MOST_WARPS // 2


def _busiest(workload: Workload, slices: int, shares: Sequence[int], fitting: int, multiprocessors: int, at_once: int) -> Cut:
    """Return the split whose stages fit `fitting` bytes of shared memory and that keeps all multiprocessors busiest, if K is
    shared by `slices` thread blocks, `at_once` of which run side by side. If they are several, what they read of x counts too.
    """
    layout, most = Layout.of(workload.n, workload.k, workload.nnz), _most_warps(workload)
    cuts = [
        Cut(share, layout.tiles // tiles // warps, warps, tiles, slices)
        for share in shares
        for tiles in divisors(layout.tiles, 2)
        for warps in divisors(layout.tiles // tiles, most // share)
        if _shared_bytes(workload, share, warps * tiles, 1) <= fitting
        and (slices == 1 or _sum_bytes(workload, share * slices, warps * tiles) <= fitting)
    ]

    def cost(cut: Cut) -> tuple[float, int, int]:
        turns = _turns(layout, multiprocessors, cut, at_once)
        return turns if slices == 1 else turns * (1 + cut.blocks / MANY_BLOCKS), cut.shares, -cut.warps

    return min(cuts, key=cost)


@cache
def modelled(workload: Workload, m: int, roofline: Roofline, cut: Cut) -> float:
    """Return the seconds of a call with `m` rows of x by a split."""
    rows, turns = -(-m // TOKENS) * TOKENS, -(-m // CudaDecodeMma.rows)
    weights = workload.n * workload.pattern.blocks(workload.k) * BLOCK
    memory = weights / BLOCK * workload.nnz * SLOT_BYTES / (roofline.gbytes_all * 1e9)
    # integer instructions have half the rate of multiply-adds
    decode = weights * turns * instructions(workload.nnz) / (roofline.gmacs / 2 * 1e9)
    tensor = weights * rows / (roofline.tensor_gmacs * 1e9)
    whole = _whole_k(workload)
    blocks = whole.blocks * turns
    busy = blocks / (roofline.multiprocessors * -(-blocks // roofline.multiprocessors))
    x = cut.blocks * rows * workload.k * 2 / (CACHE_RATE * roofline.gbytes_all * 1e9)
    own = (MEMORY * memory + DECODING * decode + TENSOR * tensor) / busy
    if cut.slices > 1:
        layout = Layout.of(workload.n, workload.k, workload.nnz)
        of_cut, of_whole = (_turns(layout, H200.multiprocessors, each, each.slices) for each in (cut, whole))
        own = own * of_cut / of_whole + MEETING
    return FIXED + own + x


def _turns(layout: Layout, multiprocessors: int, cut: Cut, at_once: int) -> float:
    """Relative time of a split: rounds of thread blocks, one per multiprocessor, times the work of one."""
    blocks, weights = cut.blocks * at_once, layout.tiles * ROWS * layout.groups * layout.steps * QUAD * BLOCK
    work = (1 + BUSY_WARPS / (cut.shares * cut.warps)) / blocks * (TWO_TILES if cut.tiles == 2 else 1)
    return round(-(-blocks // multiprocessors) * (work + START / weights), 6)


def _steps(workload: Workload, cut: Cut, target: tvm.target.Target) -> int:
    """Choose how many K groups of each share are a stage: STEPS if they fit shared memory and are
    not unrolled too far.
    """
    layout = Layout.of(workload.n, workload.k, workload.nnz)
    spilling = _rows(workload).size > KEPT_ROWS and workload.nnz > 4  # by sums and look-ups together, if four steps are unrolled
    unrolled = UNROLLED // (2 if spilling else 1)
    return next(
        steps
        for steps in reversed(divisors(layout.groups // cut.shares, min(STEPS, unrolled // layout.steps)))
        if steps == 1 or _shared_bytes(workload, cut.shares, cut.warps * cut.tiles, steps) <= shared_bytes(target)
    )


def _shared_bytes(workload: Workload, shares: int, tiles: int, steps: int) -> int:
    """Return the shared memory of a thread block in bytes: two stages of x and of the weight, and
    the table of selectors.
    """
    layout, dense = Layout.of(workload.n, workload.k, workload.nnz), workload.nnz == BLOCK
    of_x = 2 * _rows(workload).size * (layout.steps * QUAD * BLOCK + 8)
    of_weights = tiles * layout.loads * (WARP * 16 + 64 if dense else WARP * 20)
    return 2 * steps * shares * (of_x + of_weights) + (0 if dense else table(workload.nnz).nbytes * COPIES)


def _sum_bytes(workload: Workload, shares: int, tiles: int) -> int:
    """Return the shared memory of all partial sums of a thread block, or of a cluster in its first, in bytes."""
    return shares * tiles * ROWS * _rows(workload).size * 4


def _rows(workload: Workload) -> RowTiles:
    rows = RowTiles.of(workload.m, longest=CudaDecodeMma.rows, symbolic=workload.tile or CudaDecodeMma.rows)
    return RowTiles(rows.m, -(-rows.size // TOKENS) * TOKENS)


def _words(halves: Array) -> Array:
    """Pack values of 16 bits, two per word."""
    return np.ascontiguousarray(halves).view(np.uint32)


def _stored(word: Any, slot: Any, slots: int) -> Any:
    """Return the four bits of the `slot`-th slot of a word of positions, or the eight bits of two slots."""
    return T.bitwise_and(T.shift_right(word, T.cast(slot * 4, "uint32")), tirx.const((1 << 4 * slots) - 1, "uint32"))


def spread(
    dense: tirx.Buffer,
    place: tuple[Any, ...],
    at: tuple[Any, ...],
    given: tuple[tirx.Buffer, ...],
    picked: tirx.Buffer,
    nnz: int,
    first: Any = 0,
) -> None:
    """Emit the decoding of a lane's part of 64 columns: a block of each of its two rows, into eight registers each.

    Parameters
    ----------
    dense : buffer
        The registers, along its last axis.
    place : tuple
        Where they are along its other axes.
    at : tuple
        Tile, K group, step and lane.
    given : tuple of buffers
        Values, positions, and copies of the table of selectors.
    picked : buffer
        Holds an entry of the table.
    nnz : int
        Slots of a block.
    first : expression
        The index of the first register.
    """
    (values, positions, entries), (tile, group, step, lane) = given, at
    for half in range(2):
        started: set[int] = set()
        for look in look_ups(nnz, half * nnz):
            slot = (step * 2 + half) * nnz + look.slot
            load, within = slot // SLOTS_PER_WORD, slot % SLOTS_PER_WORD
            stored = _stored(positions[tile, group, load, lane], within, look.slots)
            found = entries[T.cast(entry(look, stored), "int64"), lane % COPIES, T.ramp(0, 1, WORDS)]
            T.buffer_store(picked, found, [T.ramp(0, 1, WORDS)])
            for i in range(look.registers):
                register = (*place, first + half * 8 + look.first + i)
                kept = dense[register] if look.first + i in started else tirx.const(0, "uint32")
                selector = T.shift_right(picked[i // 2], tirx.const(i % 2 * 16, "uint32"))
                T.buffer_store(dense, permute_bytes(values[tile, group, load, lane, within // 2], kept, selector), list(register))
                started.add(look.first + i)


CUDA_DECODE_MMA = CudaDecodeMma()
