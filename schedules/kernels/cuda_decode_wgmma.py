"""Balanced-sparse dense layer for many rows by wgmma, of sm_90 alone: weights become dense in shared memory.

Weights stay sparse in memory. They are packed as for `cuda_decode_mma`, and a lane decodes the same 16 columns of two rows. Here
it stores them to shared memory, where the tensor cores read them, and x as well: four warps, a warpgroup, compute 64 rows of the
weight by up to 128 rows of x. So a weight is decoded once for these, in place of once for 64, and no register holds x.

Both operands lie in shared memory as wgmma reads them without a swizzle: in matrices of eight rows by 16 bytes, 128 bytes one
after another. Those of the same eight columns are 128 bytes apart. From eight columns to the next there are 16 bytes more than a
multiple of 128, so that eight lanes that store to eight columns, or to two rows of four, use all 32 banks:

    decoded  (stage of K, 64 columns, lane of four, half of its 16 columns, 64 rows, 8 columns)   1040 bytes from half to half
    staged   (stage of K, 8 columns, rows of x, 8 columns)                                        16 (rows + 1) bytes

While the tensor cores multiply a stage, the next one is decoded, and the one after it is copied by cp.async. Tensor cores read
shared memory through another proxy than threads write it: each thread passes a fence between what it has written or copied and
the barrier in front of wgmma. Sums stay in
registers in the layout of mma.m16n8k16; each warp has 16 of the 64 rows.

This has never run on a GPU. It is used only where it is named, and by the tuner.
"""

from dataclasses import replace
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.base.cuda_config import MIN_BLOCKS
from tvm_balanced.schedules.base.expressions import divisors, int64
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.space import FORM_ATTR, Decision, form_of
from tvm_balanced.schedules.base.target_info import LEAST_SHARED_KIB, capability, shared_bytes, shared_scope
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.kernels.cuda_decode_mma import (
    CACHE_RATE,
    COPIES,
    DECODING,
    FIXED,
    MEMORY,
    QUAD,
    REGISTERS,
    ROWS,
    SLOT_BYTES,
    TOKENS,
    CudaDecodeMma,
    Layout,
    instructions,
    share_copy,
    spread,
)
from tvm_balanced.schedules.kernels.cuda_gemv import bind_threads
from tvm_balanced.schedules.layouts.byte_permute_tables import WORDS, table
from tvm_balanced.schedules.layouts.row_panels import fit_block
from tvm_balanced.schedules.layouts.warp_panels import BLOCK, WARP, columns_inside, round_up
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.cuda_intrinsics import CORE, WARPS, drain, store_words, wait_for_sums, wgmma

COLUMNS = 128  # of a stage of K
# What a search may choose besides tiles; nothing of it was run
SIZES = (64, 128, 256)  # rows of x in a tile, at most
STAGES = (64, 128, 256)  # columns of a stage
AHEAD = (1, 2, 3)  # stages of the stored weight that are copied ahead of the one that is decoded
RESIDENT = (1, 2)  # thread blocks side by side on a multiprocessor, which registers must leave room for
# With one stage the stored weight would have been read for the last time when what is decoded is stored, and TVM would give both
# the same memory, without a barrier between them, because it does not see that store.
LEAST_STAGES = 2
NNZ = (2, 4, 6, 8)  # with an odd number of slots a K group has 256 columns, twice those of a stage
WARPGROUPS = (2, 1)  # of a thread block, the first that fits shared memory
PIECES = 2  # of eight columns in what a lane decodes of a row


class CudaDecodeWgmma(CudaDecodeMma):
    """Tensor cores on weights that are decoded to shared memory; fp16 and bf16 with sums in fp32; used only if it is named."""

    name = "cuda_decode_wgmma"
    small_tiles = ((1, 64, 64),)
    rows = 128  # rows of x in a tile: wgmma takes 256, but three stages of these do not fit shared memory
    by_name = True

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name == "cuda" and capability(target) != 90:
            return "it needs sm_90, which alone has wgmma"
        return super().refuses(target, n, k, dtype)

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_block(found, BLOCK, NNZ)

    def layout(self, n: int, k: int, nnz: int) -> Layout:
        layout, joined = Layout.of(n, k, nnz), joined_groups(nnz)
        return replace(
            layout,
            tiles=WARPS * round_up(-(-n // (WARPS * ROWS))),
            groups=joined * round_up(max(LEAST_STAGES, -(-k // COLUMNS))),
        )

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        return self._of_stages(workload, _rows(workload), COLUMNS, 1, 1)

    def forms(self, workload: Workload, target: tvm.target.Target) -> tuple[Decision, ...]:
        """Return (rows of x in a tile, columns of a stage, ahead, resident): how many stages of the stored weight are copied
        ahead of the one that is decoded, and how many thread blocks registers must leave room for on a multiprocessor.
        """
        layout = self.layout(workload.n, workload.k, workload.nnz)
        sizes = dict.fromkeys(_rows(workload, most).size for most in SIZES)
        stages = [columns for columns in STAGES if layout.groups % max(1, joined_groups(workload.nnz, columns)) == 0]
        return tuple(
            (size, columns, ahead, resident)
            for size in sizes
            for columns in stages
            for ahead in AHEAD
            for resident in RESIDENT
            if columns >= layout.steps * QUAD * BLOCK
            and layout.groups >= LEAST_STAGES * joined_groups(workload.nnz, columns)
            and shared_need(workload, 1, size, columns, ahead) <= shared_bytes(target)
        )

    def in_form(self, workload: Workload, form: Decision) -> tirx.PrimFunc:
        size, columns, ahead, resident = form
        return self._of_stages(workload, RowTiles(_rows(workload).m, size), columns, ahead, resident)

    def _of_stages(self, workload: Workload, rows: RowTiles, columns: int, ahead: int, resident: int) -> tirx.PrimFunc:
        activation, dtype = ACTIVATIONS[workload.activation], workload.dtype
        n, k, nnz = workload.n, workload.k, workload.nnz
        layout, joined = self.layout(n, k, nnz), joined_groups(nnz, columns)
        n_, k_, tiles_, groups_, loads_, steps_, joined_ = map(
            int64, (n, k, layout.tiles, layout.groups, layout.loads, layout.steps, joined)
        )
        wide_, stages_, chunks_ = map(int64, (layout.tiles // WARPS, layout.groups // joined, columns // CORE))
        size_, parts_, warp_, warps_, quad_ = map(int64, (rows.size, rows.size // TOKENS, WARP, WARPS, QUAD))
        core_, registers_, sums_, words_, pieces_, once_ = map(int64, (CORE, REGISTERS, 4, 4, PIECES, 1))
        entries_, copies_, entry_, halves_ = map(int64, (len(table(nnz)), COPIES, WORDS, 2))
        rows_, wide_rows_ = int64(ROWS), int64(WARPS * ROWS)
        whole, products = layout.groups // joined * columns == k, columns // BLOCK

        def stage(x: tirx.Buffer, tile: Any, row: Any, column: Any) -> Any:
            value = x[rows.read(tile, row), column]
            return value if whole else T.if_then_else(columns_inside(column, k, CORE), value, tirx.const(0, dtype))

        def result(total: Any, residual: tirx.Buffer, row: Any, column: Any) -> Any:
            total = total + T.cast(residual[row, column], "float32") if workload.residual else total
            return T.cast(activation(total), dtype)

        @T.prim_func(private=True, s_tir=True)
        def cuda_decode_wgmma(
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
            values = T.match_buffer(values_, (tiles_, groups_, loads_, warp_, words_), "uint32")
            positions = T.match_buffer(positions_, (tiles_, groups_, loads_, warp_), "uint32")
            selectors = T.match_buffer(selectors_, (entries_, entry_), "uint32")
            bias = T.match_buffer(bias_, (tiles_, rows_), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), dtype)
            y = T.match_buffer(y_, (rows.m, n_), dtype)
            staged = T.sblock_alloc_buffer((rows.tiles, stages_, chunks_, size_, core_), dtype)
            entries = T.sblock_alloc_buffer((entries_, copies_, entry_), "uint32")
            decoded = T.sblock_alloc_buffer(
                (wide_, stages_, joined_, steps_, quad_, pieces_, warps_, halves_, core_, words_), "uint32"
            )
            sums = T.sblock_alloc_buffer((rows.tiles, wide_, warps_, warp_, parts_, sums_), "float32", scope="local")
            share = T.sblock_alloc_buffer((rows.tiles, wide_, warps_, parts_, sums_, warp_), "float32")
            for o, g, c, i, e in T.grid(rows.tiles, stages_, chunks_, size_, core_):
                with T.sblock("stage"):
                    vo, vg, vc, vi, ve = T.axis.remap("SSSSS", [o, g, c, i, e])
                    staged[vo, vg, vc, vi, ve] = stage(x, vo, vi, (vg * chunks_ + vc) * core_ + ve)
            for e, c, w in T.grid(entries_, copies_, entry_):
                with T.sblock("copy_selectors"):
                    ve, vc, vw = T.axis.remap("SSS", [e, c, w])
                    entries[ve, vc, vw] = selectors[ve, vw]
            # lane 4r + q; the last loop runs once: a region that a block writes must start at one of its axes
            for t, w, r, q, g, d in T.grid(wide_, warps_, core_, quad_, stages_, once_):
                with T.sblock("decode"):
                    vt, vw, vr, vq, vg, vd = T.axis.remap("SSSSSS", [t, w, r, q, g, d])
                    T.reads(
                        values[vt * warps_ + vw, vg * joined_ : vg * joined_ + joined_, 0:loads_, vr * quad_ + vq, 0:words_],
                        positions[vt * warps_ + vw, vg * joined_ : vg * joined_ + joined_, 0:loads_, vr * quad_ + vq],
                        entries[0:entries_, 0:copies_, 0:entry_],
                    )
                    T.writes(
                        decoded[
                            vt,
                            vg,
                            vd * joined_ : vd * joined_ + joined_,
                            vd * steps_ : vd * steps_ + steps_,
                            vq,
                            vd * 2 : vd * 2 + 2,
                            vw,
                            vd * 2 : vd * 2 + 2,
                            vr,
                            vd * 4 : vd * 4 + 4,
                        ]
                    )
                    picked = T.sblock_alloc_buffer((WORDS,), "uint32", scope="local")
                    own = T.sblock_alloc_buffer((registers_,), "uint32", scope="local")
                    for j in T.unroll(joined_):
                        for s in T.unroll(steps_):
                            spread(
                                own,
                                (),
                                (vt * warps_ + vw, vg * joined_ + j, s, vr * quad_ + vq),
                                (values, positions, entries),
                                picked,
                                nnz,
                            )
                            for h in T.unroll(2):
                                for p in T.unroll(2):
                                    store_words(
                                        T.address_of(decoded[vt, vg, j, s, vq, vd * 2 + p, vw, vd * 2 + h, vr, vd * 4]),
                                        T.address_of(own[h * 8 + p * 4]),
                                        decoded[vt, vg, j, s, vq, vd * 2 + p, vw, vd * 2 + h, vr, vd * 4 + 3],
                                    )
                    # what the tensor cores have read may be overwritten, and they may read what is here; TVM knows of neither
                    T.evaluate(drain())
                    T.evaluate(T.tvm_storage_sync("shared"))
            # the last loop runs once: a software pipeline takes statements that are not in a loop one by one
            for o, t, w, r, g, d in T.grid(rows.tiles, wide_, warps_, warp_, stages_, once_):
                with T.sblock("mma"):
                    vo, vt, vw, vr, vg, vd = T.axis.remap("SSSSRS", [o, t, w, r, g, d])
                    T.reads(
                        decoded[vt, vg, 0:joined_, 0:steps_, 0:quad_, 0:pieces_, 0:warps_, 0:halves_, 0:core_, 0:words_],
                        staged[vo, vg, 0:chunks_, 0:size_, 0:core_],
                    )
                    T.writes(sums[vo, vt, vw, vr, vd * parts_ : vd * parts_ + parts_, 0:4])
                    with T.init():
                        for p, i in T.grid(parts_, sums_):
                            sums[vo, vt, vw, vr, p, i] = T.float32(0)
                    wgmma(
                        dtype,
                        rows.size,
                        T.address_of(sums[vo, vt, vw, vr, 0, 0]),
                        T.address_of(decoded[vt, vg, 0, 0, 0, 0, 0, 0, 0, 0]),
                        T.address_of(staged[vo, vg, 0, 0, 0]),
                        products,
                        decoded[vt, vg, 0, 0, 0, 0, 0, 0, 0, 0],
                        T.cast(staged[vo, vg, 0, 0, 0], "float32"),
                    )
            # the last two loops run once
            for o, t, w, r, c, d in T.grid(rows.tiles, wide_, warps_, warp_, once_, once_):
                with T.sblock("share"):
                    vo, vt, vw, vr, vc, vd = T.axis.remap("SSSSSS", [o, t, w, r, c, d])
                    T.reads(sums[vo, vt, vw, vr, vc * parts_ : vc * parts_ + parts_, vd * 4 : vd * 4 + 4])
                    T.writes(share[vo, vt, vw, vc * parts_ : vc * parts_ + parts_, vd * 4 : vd * 4 + 4, vr])
                    wait_for_sums(rows.size, T.address_of(sums[vo, vt, vw, vr, 0, 0]))
                    T.evaluate(T.tvm_storage_sync("shared"))  # all warpgroups no longer use the memory that they are written to
                    for p, i in T.grid(parts_, sums_):
                        share[vo, vt, vw, vc * parts_ + p, vd * 4 + i, vr] = sums[vo, vt, vw, vr, vc * parts_ + p, vd * 4 + i]
            for o, i, t, r in T.grid(rows.tiles, size_, wide_, wide_rows_):
                with T.sblock("epilogue"):
                    vo, vi, vt, vr = T.axis.remap("SSSS", [o, i, t, r])
                    T.attr({MIN_BLOCKS: resident})
                    if tirx.all(rows.at(vo, vi) < rows.m, vt * wide_rows_ + vr < n_):
                        y[rows.at(vo, vi), vt * wide_rows_ + vr] = result(
                            share[
                                vo, vt, vr // rows_, vi // TOKENS, vr % rows_ // 8 * 2 + vi % 2, vr % 8 * QUAD + vi % TOKENS // 2
                            ]
                            + bias[vt * warps_ + vr // rows_, vr % rows_],
                            residual,
                            rows.at(vo, vi),
                            vt * wide_rows_ + vr,
                        )

        return workload.attach(cuda_decode_wgmma).with_attr(FORM_ATTR, [rows.size, columns, ahead, resident])

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        shared = shared_scope(target)
        o, t, w, r, g, _ = sch.get_loops(sch.get_sblock("mma"))
        wide = self.layout(workload.n, workload.k, workload.nnz).tiles // WARPS
        size, columns, ahead, _ = form_of(sch.mod["main"]) or (_rows(workload).size, COLUMNS, 1, 1)
        groups = warpgroups(workload, wide, shared_bytes(target), size, columns, ahead)
        cut = sch.sample_perfect_tile(t, 2, 4, decision=[wide // groups, groups])
        block, group = sch.split(t, cut)
        sch.reorder(block, o, group, w, r, g)
        threads = (cut[1], WARPS)
        for loop, axis in (
            (o, "blockIdx.x"),  # neighbours in time, so that all row tiles of x share what is read of the weight
            (block, "blockIdx.y"),
            (group, "threadIdx.z"),
            (w, "threadIdx.y"),
            (r, "threadIdx.x"),
        ):
            sch.bind(loop, axis)
        self._stage_operands(sch, g, r, shared, threads)
        share, epilogue = sch.get_sblock("share"), sch.get_sblock("epilogue")
        sch.set_scope(share, 0, shared)
        sch.reverse_compute_at(share, r, preserve_unit_loops=True)
        sch.reverse_compute_at(epilogue, o, preserve_unit_loops=True)
        *_, i, t, r = sch.get_loops(epilogue)
        bind_threads(sch, sch.fuse(i, t, r), threads)
        sch.decompose_reduction(sch.get_sblock("mma"), g)
        # while tensor cores multiply a stage, the next one is decoded, and cp.async copies x and the weight of the one after it,
        # or of one further ahead
        sch.annotate(g, "software_pipeline_stage", [0, 0, 0, ahead, ahead, ahead, ahead + 1])
        sch.annotate(g, "software_pipeline_order", [0, 1, 2, 4, 5, 6, 3])
        sch.annotate(g, "software_pipeline_async_stages", [0])

    def _stage_operands(self, sch: Schedule, g: Any, lane: Any, shared: str, threads: tuple[Any, int]) -> None:
        """Put what a stage needs into shared memory: x, the weight, and what is decoded of it."""
        decode, stage, copied = (sch.get_sblock(name) for name in ("decode", "stage", "copy_selectors"))
        sch.set_scope(stage, 0, shared)
        sch.storage_align(stage, 0, 2, 64, CORE)
        sch.compute_at(stage, g, preserve_unit_loops=True)
        *_, sg, c, i, e = sch.get_loops(stage)
        sch.reorder(sg, i, c, e)  # threads side by side copy the columns of a row
        bind_threads(sch, sch.fuse(sg, i, c), threads)
        sch.vectorize(e)
        sch.set_scope(decode, 0, shared)
        sch.storage_align(decode, 0, 5, WARP, 4)  # eight columns: 16 bytes more than all banks
        sch.compute_at(decode, g, preserve_unit_loops=True)
        sch.annotate(decode, "double_buffer_scope", 0)  # TVM thinks that its readers are done before the next stage is decoded
        *_, t, w, r, q, _, _ = sch.get_loops(decode)
        for operand in (0, 1):
            held = sch.cache_read(decode, operand, shared)
            sch.compute_at(held, g, preserve_unit_loops=True)
            own_copy(sch, held, 5 if operand == 0 else 4)
        lane_of_block = sch.fuse(r, q)
        for loop, axis in ((t, "threadIdx.z"), (w, "threadIdx.y"), (lane_of_block, "threadIdx.x")):
            sch.bind(loop, axis)
        for operand in (0, 1):
            copy = sch.cache_read(decode, operand, "local")
            sch.compute_at(copy, lane_of_block, preserve_unit_loops=True)
            if operand == 0:
                sch.vectorize(sch.get_loops(copy)[-1])
        sch.set_scope(copied, 0, shared)
        sch.compute_at(copied, lane, preserve_unit_loops=True)
        share_copy(sch, copied, 3, threads)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        """Return the sum of memory, of decoding or tensor cores at their peak, whichever takes longer, and of x from the cache;
        nothing was run to fit it to.
        """
        turns, rows = -(-m // self.rows), -(-m // TOKENS) * TOKENS
        layout = self.layout(workload.n, workload.k, workload.nnz)
        weights = layout.tiles * ROWS * layout.groups * layout.steps * QUAD * BLOCK
        memory = weights / BLOCK * workload.nnz * SLOT_BYTES / (roofline.gbytes_all * 1e9)
        decode = weights * turns * instructions(workload.nnz) / (roofline.gmacs / 2 * 1e9)
        tensor = weights * rows / (roofline.tensor_gmacs * 1e9)
        wide = layout.tiles // WARPS
        blocks = wide // warpgroups(replace(workload, m=min(m, self.rows)), wide, LEAST_SHARED_KIB << 10) * turns
        busy = blocks / (roofline.multiprocessors * -(-blocks // roofline.multiprocessors))
        x = blocks * min(rows, self.rows) * workload.k * 2 / (CACHE_RATE * roofline.gbytes_all * 1e9)
        return FIXED + (MEMORY * memory + max(DECODING * decode, tensor)) / busy + x


def joined_groups(nnz: int, columns: int = COLUMNS) -> int:
    """Return how many K groups are a stage of so many columns."""
    return columns // (Layout.of(1, 1, nnz).steps * QUAD * BLOCK)


def warpgroups(workload: Workload, wide: int, fitting: int, size: int = 0, columns: int = COLUMNS, ahead: int = 1) -> int:
    """Return the warpgroups of a thread block: as many as divide the tiles of 64 rows and fit `fitting` bytes, or one. Row tiles
    have `size` rows of x, the default if that is 0, a stage so many columns, and so many are copied ahead.
    """
    fits = (number for number in WARPGROUPS if number in divisors(wide, 4))
    return next((number for number in fits if shared_need(workload, number, size, columns, ahead) <= fitting), 1)


def shared_need(workload: Workload, groups: int, size: int = 0, columns: int = COLUMNS, ahead: int = 1) -> int:
    """Return the shared memory of a thread block of `groups` warpgroups in bytes: stages of x and of the stored weight, two
    that are decoded, and the table of selectors; or its sums, which come later.
    """
    layout, joined = Layout.of(workload.n, workload.k, workload.nnz), joined_groups(workload.nnz, columns)
    size, chunks = size or _rows(workload).size, columns // CORE
    of_x = chunks * (size + 1) * 16
    of_weights = groups * WARPS * joined * layout.loads * WARP * 20
    of_decoded = groups * chunks * (WARPS * ROWS + 1) * 16
    stages = (ahead + 2) * of_x + (ahead + 1) * of_weights + 2 * of_decoded + table(workload.nnz).nbytes * COPIES
    return max(stages, groups * WARPS * ROWS * size * 4)


def own_copy(sch: Schedule, block: Any, loops: int) -> None:
    """Let each warp copy the words of the weight that it will decode, 16 bytes at once. The loops: tiles, K groups, a group's."""
    tiles, groups, *inner, words = sch.get_loops(block)[-loops:]
    group, warp = sch.split(tiles, [None, WARPS])
    more, vector = sch.split(words, [None, 4])
    _, lanes = sch.split(sch.fuse(groups, *inner, more), [None, WARP])
    for part, axis in ((group, "threadIdx.z"), (warp, "threadIdx.y"), (lanes, "threadIdx.x")):
        sch.bind(part, axis)
    sch.vectorize(vector)


def _rows(workload: Workload, most: int = 0) -> RowTiles:
    most = most or CudaDecodeWgmma.rows
    rows = RowTiles.of(workload.m, longest=most, symbolic=workload.tile or most)
    return RowTiles(rows.m, -(-rows.size // TOKENS) * TOKENS)


CUDA_DECODE_WGMMA = CudaDecodeWgmma()
