"""Balanced-sparse dense layer for a few rows of x on CUDA cores: a lane is a row of the weight.

A thread block computes 32 rows, or a few times as many if x is large. The warps of 32 rows split K
among themselves. Each lane reads 16 bytes of its row's values at a time and one index word for
eight, looks up x in shared memory, and sums in float32. The warps' sums are added in shared memory
in a fixed order, so that the same input gives the same bits. For the layout see `warp_panels`.

    x_shared[column][row of x]  <-  x           one stage of K, by all threads together
    sum[row of x]               +=  value * x_shared[block + index][row of x]
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.base.cuda_config import MIN_BLOCKS
from tvm_balanced.schedules.base.expressions import divisor, int64
from tvm_balanced.schedules.base.gpu_specs import H200
from tvm_balanced.schedules.base.kernel import SparseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.row_tiles import RowTiles
from tvm_balanced.schedules.base.space import FORM_ATTR, Decision, form_of, sample_number
from tvm_balanced.schedules.base.target_info import has_clusters, shared_scope, too_old
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import SLOTS_PER_WORD, chunk
from tvm_balanced.schedules.layouts.warp_panels import (
    BLOCK,
    BYTES,
    LOAD_BYTES,
    WARP,
    before,
    behind,
    columns_inside,
    count_chunks,
    count_warp_panels,
    fit,
    fit_any_block,
    index_of,
    masked,
    pack_warp_bias,
    pack_warps,
    position_bytes,
    slots_per_load,
    words_of,
)
from tvm_balanced.schedules.tir.activations import ACTIVATIONS
from tvm_balanced.schedules.tir.cuda_intrinsics import is_first, meet_cluster, store_in_first

ROWS = 8  # rows of x in a tile, at most
# How a layer is tiled, from a search over tilings of 28672x8192 on an H200 (benchmarks/data/gpu_cuts.csv).
STAGE_BYTES = 32 << 10  # default maximum of x in shared memory: with more, fewer thread blocks run side by side
WARPS = 16  # default maximum of warps in a thread block
WARPS_IN_ALL = 4096  # the number of warps wanted on the whole GPU
LOADS = 4  # loads of 16 bytes that a lane issues before it uses the first
# With twice the warps and loads, 8:16 reached 1.57x cuBLAS at M = 1 (docs/measurements/kernels.md), when
# a mask took arithmetic and not two look-ups.
MASKED_WARPS, MASKED_LOADS = 2, 2  # factors on the defaults
# Four rows of x in half precision take many registers, and time to stage them: 3.9x cuBLAS at M =
# 4, 2:16, with half of STAGE_BYTES, two loads and two thread blocks per multiprocessor. Eight rows
# would spill.
LITTLE_STAGE, LITTLE_LOADS = STAGE_BYTES // 2, 2
# Groups of rows share x while its bytes are a small part of those of their weights: 4.9x cuBLAS
# with four groups at M = 2, 2:16.
SPARE_X = 8  # bytes of weights per byte of x
# Thread blocks that share K, as a cluster: not measured yet
SLICES = (2, 4, 8)  # larger clusters are not on every GPU
# What a search may choose besides tiles: not measured yet
RESIDENT = (1, 2)  # thread blocks side by side on a multiprocessor, which registers must leave room for
WIDTHS = (1, 2, 4, 8)  # columns of x that a thread copies at once
AHEAD = (1, 2)  # stages of x that are copied ahead, where they are
# The cost model is fitted to 24 measurements with up to four rows on an H200
# (benchmarks/data/gpu.csv); all but three are within 15%. See docs/measurements/kernels.md.
MEMORY, LOOKING_UP = 1.18, 1.27  # relative to the times at peak rates, which add up
FIXED = 3.4e-6  # seconds of a kernel without work
BANK_BYTES = 128  # of all banks of shared memory
TABLE_BYTES = 2 << 10  # of the tables of masks
SHARED_BYTES = 48 << 10  # the shared memory of a thread block on every GPU and in OpenCL, for x and the warps' partial sums


class CudaGemv(SparseKernel):
    """One lane per row; indices of 4 or 8 bits, or masks if half is kept; fp32, fp16 and bf16 with sums in fp32."""

    name = "cuda_gemv"
    parts: ClassVar[tuple[str, ...]] = ("values", "positions")
    kinds = ("cuda", "opencl")
    small_tiles: ClassVar[tuple[tuple[int, int, int], ...]] = ((1, 1, 1), (2, 2, 2), (3, 4, 4))
    rows = ROWS  # rows of x in a tile, at most
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")
    # How values are stored; a kernel derived from this one changes it: their dtype if it is not that of x, and whether `pack`
    # also returns a scale for each row
    stored: ClassVar[str | None] = None
    scaled = False
    long_blocks = True  # whether blocks of 32 and 64 are stored as such

    def stored_as(self, dtype: str) -> str:
        """Return the dtype of the stored values of a layer of `dtype`."""
        return self.stored or dtype

    def words(self, dtype: str) -> tuple[int, str]:
        """Return how many words a lane loads at once, and the dtype of a word."""
        return slots_per_load(dtype), dtype

    def value(self, values: tirx.Buffer, at: tuple[Any, Any, Any], _scale: Any) -> Any:
        """Return the value of a slot, in float32.

        Parameters
        ----------
        values : buffer
        at : tuple
            Group of rows, slot and lane.
        _scale : expression
            Of the row, where there are scales.
        """
        (group, slot, lane), load = at, int(values.shape[-1])
        return T.cast(values[group, slot // load, lane, slot % load], "float32")

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name not in self.kinds:
            return "the target is not a GPU"
        if dtype not in self.dtypes:
            return f"it does not compute {dtype}"
        # TVM's code for vectors of bfloat16 does not compile for older GPUs
        return too_old(target, 80) if dtype == "bfloat16" else None

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_any_block(found) if self.long_blocks else fit(found)

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        return pack_warps(weight, str(weight.values.dtype))

    def pack_bias(self, bias: Array) -> Array:
        return pack_warp_bias(bias)

    def split_rows(self, workload: Workload) -> RowTiles:
        """Split the rows of x into tiles of a power of two, for vector loads. A row that is read
        twice costs no memory traffic.
        """
        rows = RowTiles.of(workload.m, longest=self.rows, symbolic=workload.tile or self.rows)
        return RowTiles(rows.m, 1 << (rows.size - 1).bit_length())

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        size = self.split_rows(workload).size
        resident = 2 if _stages_little(workload.dtype, size) else 1
        return self._written(workload, *_shared(workload, size, self.stored_as(workload.dtype)), resident)

    def forms(self, workload: Workload, target: tvm.target.Target) -> tuple[Decision, ...]:
        """Return (slices, warps, resident): the thread blocks that share K and the warps of each, 1 and 1 where none does, and
        the thread blocks that registers must leave room for on a multiprocessor.
        """
        size, stored = self.split_rows(workload).size, self.stored_as(workload.dtype)
        shared = _ways(workload, size, stored) if has_clusters(target) else [_shared(workload, size, stored)]
        return tuple((slices, warps, resident) for slices, warps in shared for resident in RESIDENT)

    def in_form(self, workload: Workload, form: Decision) -> tirx.PrimFunc:
        return self._written(workload, *form)

    def _written(self, workload: Workload, slices: int, warps: int, resident: int) -> tirx.PrimFunc:
        rows, activation, dtype = self.split_rows(workload), ACTIVATIONS[workload.activation], workload.dtype
        n, k, nnz, length = workload.n, workload.k, workload.nnz, workload.block
        slots, blocks, words = chunk(nnz)
        chunks, groups, per_load = count_chunks(k, nnz, length), count_warp_panels(n), slots_per_load(self.stored_as(dtype))
        (load, stored_dtype), scaled, value = self.words(dtype), self.scaled, self.value
        n_, k_, chunks_, groups_, slots_, width_ = map(int64, (n, k, chunks, groups, slots, blocks * length))
        as_masks, word_dtype = masked(nnz, length), words_of(length)
        size_, warp_, load_, per_load_ = int64(rows.size), int64(WARP), int64(load), int64(per_load)
        once_, halves_, bytes_ = map(int64, (1, 2, 256))
        slices_, warps_, own_ = map(int64, (slices, warps, chunks // (slices * warps)))
        whole = chunks * blocks * length == k

        def stage(x: tirx.Buffer, tile: Any, row: Any, column: Any) -> Any:
            """Return x, or 0 past the last column."""
            value = x[rows.read(tile, row), column]
            return (
                value if whole else T.if_then_else(columns_inside(column, k, slots_per_load(dtype)), value, tirx.const(0, dtype))
            )

        def result(total: Any, residual: tirx.Buffer, row: Any, column: Any) -> Any:
            total = total + T.cast(residual[row, column], "float32") if workload.residual else total
            return T.cast(activation(total), dtype)

        @T.prim_func(private=True, s_tir=True)
        def cuda_gemv(
            x_: T.handle,
            values_: T.handle,
            positions_: T.handle,
            scales_: T.handle,
            bias_: T.handle,
            residual_: T.handle,
            y_: T.handle,
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), dtype)
            values = T.match_buffer(values_, (groups_, chunks_ * slots_ // per_load_, warp_, load_), stored_dtype)
            positions = T.match_buffer(positions_, (groups_, chunks_ * words, warp_), "uint16" if as_masks else word_dtype)
            scales = T.match_buffer(scales_, (groups_, warp_), "float32")
            bias = T.match_buffer(bias_, (groups_, warp_), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), dtype)
            y = T.match_buffer(y_, (rows.m, n_), dtype)
            staged = T.sblock_alloc_buffer((rows.tiles, chunks_, width_, size_), dtype)
            found = T.sblock_alloc_buffer((rows.tiles, groups_, chunks_, slots_, warp_, size_), dtype)
            total = T.sblock_alloc_buffer((rows.tiles, size_, groups_, warp_), "float32")
            if slices > 1:
                enlisted = T.sblock_alloc_buffer((slices_,), "int32", scope="local")
                sums = T.sblock_alloc_buffer((rows.tiles, slices_, warps_, groups_, warp_, size_), "float32", scope="local")
                share = T.sblock_alloc_buffer((rows.tiles, slices_, warps_, groups_, size_, warp_), "float32")
            for o, c, j, i in T.grid(rows.tiles, chunks_, width_, size_):
                with T.sblock("stage"):
                    vo, vc, vj, vi = T.axis.remap("SSSS", [o, c, j, i])
                    staged[vo, vc, vj, vi] = stage(x, vo, vi, vc * width_ + vj)
            indices = T.sblock_alloc_buffer((groups_, chunks_ * words, warp_), word_dtype)
            tables = T.sblock_alloc_buffer((halves_, bytes_), "uint32")
            if as_masks:
                # the first loop runs once: a region that a block writes must start at one of its axes
                for c, b in T.grid(once_, bytes_):
                    with T.sblock("tabulate"):
                        vc, vb = T.axis.remap("SS", [c, b])
                        T.writes(tables[vc * 2 : vc * 2 + 2, vb])
                        entry = T.sblock_alloc_buffer((2,), "uint32", scope="local")
                        entry[0] = T.uint32(0)
                        entry[1] = T.uint32(0)
                        for bit in T.unroll(SLOTS_PER_WORD):
                            entry[0] = before(entry[0], vb, SLOTS_PER_WORD - 1 - bit)
                            entry[1] = behind(entry[1], vb, bit)
                        tables[vc * 2, vb] = entry[0]
                        tables[vc * 2 + 1, vb] = entry[1]
            for g, w, r in T.grid(groups_, chunks_ * words, warp_):
                with T.sblock("unpack"):
                    vg, vw, vr = T.axis.remap("SSS", [g, w, r])
                    if as_masks:
                        T.reads(positions[vg, vw, vr], tables[0:halves_, 0:bytes_])
                        T.writes(indices[vg, vw, vr])
                        T.sblock_attr({"explicit_read_region": [1]})
                        indices[vg, vw, vr] = T.bitwise_or(
                            tables[0, T.cast(T.bitwise_and(positions[vg, vw, vr], T.uint16(255)), "int64")],
                            tables[1, T.cast(T.shift_right(positions[vg, vw, vr], T.uint16(8)), "int64")],
                        )
                    else:
                        indices[vg, vw, vr] = positions[vg, vw, vr]
            for o, g, c, s, r, i in T.grid(rows.tiles, groups_, chunks_, slots_, warp_, size_):
                with T.sblock("look_up"):
                    vo, vg, vc, vs, vr, vi = T.axis.remap("SSSSSS", [o, g, c, s, r, i])
                    T.reads(staged[vo, vc, 0:width_, vi], indices[vg, vc * words + vs // SLOTS_PER_WORD, vr])
                    T.writes(found[vo, vg, vc, vs, vr, vi])
                    # the bounds of a column cannot be derived, because it is loaded from memory
                    T.sblock_attr({"explicit_read_region": [0]})
                    found[vo, vg, vc, vs, vr, vi] = staged[
                        vo,
                        vc,
                        vs // nnz * length
                        + index_of(indices[vg, vc * words + vs // SLOTS_PER_WORD, vr], vs % SLOTS_PER_WORD, length),
                        vi,
                    ]
            if slices == 1:
                for o, g, r, c, s, i in T.grid(rows.tiles, groups_, warp_, chunks_, slots_, size_):
                    with T.sblock("gemv"):
                        vo, vg, vr, vc, vs, vi = T.axis.remap("SSSRRS", [o, g, r, c, s, i])
                        with T.init():
                            total[vo, vi, vg, vr] = T.float32(0)
                        total[vo, vi, vg, vr] = total[vo, vi, vg, vr] + T.cast(found[vo, vg, vc, vs, vr, vi], "float32") * value(
                            values, (vg, vc * slots_ + vs, vr), scales[vg, vr] if scaled else None
                        )
            else:
                for z in T.serial(slices_):
                    with T.sblock("enlist"):
                        vz = T.axis.spatial(slices_, z)
                        enlisted[vz] = 1
                for o, z, w, g, r, c, s, i in T.grid(rows.tiles, slices_, warps_, groups_, warp_, own_, slots_, size_):
                    with T.sblock("gemv"):
                        vo, vz, vw, vg, vr, vc, vs, vi = T.axis.remap("SSSSSRRS", [o, z, w, g, r, c, s, i])
                        T.reads(
                            found[vo, vg, (vz * own_ + vc) * warps_ + vw, vs, vr, vi],
                            values[vg, (((vz * own_ + vc) * warps_ + vw) * slots_ + vs) // per_load_, vr, 0:load_],
                            *([scales[vg, vr]] if scaled else []),
                            enlisted[0:slices_],
                        )
                        T.writes(sums[vo, vz, vw, vg, vr, vi])
                        with T.init():
                            sums[vo, vz, vw, vg, vr, vi] = T.float32(0)
                        sums[vo, vz, vw, vg, vr, vi] = sums[vo, vz, vw, vg, vr, vi] + T.cast(
                            found[vo, vg, (vz * own_ + vc) * warps_ + vw, vs, vr, vi], "float32"
                        ) * value(
                            values,
                            (vg, ((vz * own_ + vc) * warps_ + vw) * slots_ + vs, vr),
                            scales[vg, vr] if scaled else None,
                        )
                # the last loop runs once
                for o, z, w, g, r, d in T.grid(rows.tiles, slices_, warps_, groups_, warp_, once_):
                    with T.sblock("share"):
                        vo, vz, vw, vg, vr, vd = T.axis.remap("SSSSSS", [o, z, w, g, r, d])
                        T.reads(sums[vo, vz, vw, vg, vr, vd * size_ : vd * size_ + size_])
                        T.writes(share[vo, vz, vw, vg, vd * size_ : vd * size_ + size_, vr])
                        T.evaluate(meet_cluster())  # the first block no longer uses the memory that they are written to
                        for i in T.serial(size_):
                            T.evaluate(
                                store_in_first(
                                    T.address_of(share[vo, vz, vw, vg, vd * size_ + i, vr]),
                                    sums[vo, vz, vw, vg, vr, vd * size_ + i],
                                )
                            )
                        T.evaluate(meet_cluster())
                for o, g, r, i, z, w in T.grid(rows.tiles, groups_, warp_, size_, slices_, warps_):
                    with T.sblock("add_shares"):
                        vo, vg, vr, vi, vz, vw = T.axis.remap("SSSSRR", [o, g, r, i, z, w])
                        with T.init():
                            total[vo, vi, vg, vr] = T.float32(0)
                        total[vo, vi, vg, vr] = total[vo, vi, vg, vr] + share[vo, vz, vw, vg, vi, vr]
            for o, g, r, i in T.grid(rows.tiles, groups_, warp_, size_):
                with T.sblock("epilogue"):
                    vo, vg, vr, vi = T.axis.remap("SSSS", [o, g, r, i])
                    T.attr({MIN_BLOCKS: resident})
                    if tirx.all(rows.at(vo, vi) < rows.m, vg * warp_ + vr < n_, *([is_first() != 0] if slices > 1 else [])):
                        y[rows.at(vo, vi), vg * warp_ + vr] = result(
                            total[vo, vi, vg, vr] + bias[vg, vr], residual, rows.at(vo, vi), vg * warp_ + vr
                        )

        func = workload.attach(cuda_gemv).with_attr(FORM_ATTR, [slices, warps, resident])
        params = list(func.params)
        del params[len(self.parts) + 1 : 4]  # the scales, where there are none
        return tirx.PrimFunc(params, func.body, func.ret_type, func.attrs)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        slices, warps, _ = form_of(sch.mod["main"]) or (1, 1, 1)
        if slices > 1:
            self._sliced_space(sch, workload, target, slices, warps)
            return
        look_up, gemv, epilogue = (sch.get_sblock(name) for name in ("look_up", "gemv", "epilogue"))
        _, g, _, c, s, i = sch.get_loops(gemv)
        split = _split(workload, self.split_rows(workload).size, self.stored_as(workload.dtype))
        block = sch.sample_perfect_tile(g, 2, 4, decision=[count_warp_panels(workload.n) // split.groups, split.groups])
        sch.split(g, block)
        decision = sch.sample_perfect_tile(c, 4, 8, decision=[split.stages, split.warps, split.steps, split.unrolled])
        stages, warps, steps, unrolled = sch.split(c, decision)
        per_load, x_load = slots_per_load(self.stored_as(workload.dtype)), slots_per_load(workload.dtype)
        word, load, slot = sch.split(s, [None, SLOTS_PER_WORD // per_load, per_load])
        # each warp sums a share of K; the partial sums are added in shared memory, in order
        partial = sch.rfactor(warps, 0)
        o, g, groups, r, stages, warps, steps, unrolled, word, load, slot, i = sch.get_loops(partial)
        sch.reorder(o, g, groups, warps, r, stages, steps, unrolled, word, load, slot, i)
        for loop, axis in (
            (o, "blockIdx.x"),  # neighbours in time, so that all row tiles of x share what is read of the weight
            (g, "blockIdx.y"),
            (groups, "threadIdx.z"),
            (warps, "threadIdx.y"),
            (r, "threadIdx.x"),
        ):
            sch.bind(loop, axis)
        sch.set_scope(partial, 0, shared_scope(target))
        threads = (block[1], decision[1])
        _add_shares(sch, gemv, epilogue, g, threads)
        values = sch.cache_read(partial, 1, "local")
        sch.compute_at(values, load, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(values)[-1])
        if self.scaled:
            sch.compute_at(sch.cache_read(partial, 2, "local"), r, preserve_unit_loops=True)
        sch.set_scope(look_up, 0, "local")
        sch.compute_at(look_up, slot, preserve_unit_loops=True)
        _, vector = sch.split(sch.get_loops(look_up)[-1], [None, min(self.split_rows(workload).size, x_load)])
        sch.vectorize(vector)
        unpack_at(sch, word)
        if masked(workload.nnz, workload.block):
            tabulate_at(sch, r, shared_scope(target), threads)
        self._stage_x(sch, workload, target, stages, threads)
        sums = sch.cache_write(partial, 0, "local")
        sch.reverse_compute_at(sums, r, preserve_unit_loops=True)
        for loop in (i, slot, load, word, unrolled):
            sch.unroll(loop)
        sch.decompose_reduction(partial, stages)
        if _pipelined(workload, self.split_rows(workload).size) and not too_old(target, 80):
            sch.annotate(stages, "software_pipeline_stage", [0, sample_number(sch, AHEAD, 1)])
            sch.annotate(stages, "software_pipeline_order", [0, 1])
            sch.annotate(stages, "software_pipeline_async_stages", [0])

    def _sliced_space(self, sch: Schedule, workload: Workload, target: tvm.target.Target, slices: int, warps: int) -> None:
        """Schedule thread blocks that share K, as a cluster where there are clusters."""
        look_up, gemv, epilogue = (sch.get_sblock(name) for name in ("look_up", "gemv", "epilogue"))
        o, z, w, g, r, c, s, i = sch.get_loops(gemv)
        size, scope = self.split_rows(workload).size, shared_scope(target)
        own = count_chunks(workload.k, workload.nnz, workload.block) // (slices * warps)
        decision = _sliced(workload, size, self.stored_as(workload.dtype), own, warps)
        stages, steps, unrolled = sch.split(c, sch.sample_perfect_tile(c, 3, 8, decision=decision))
        per_load, x_load = slots_per_load(self.stored_as(workload.dtype)), slots_per_load(workload.dtype)
        word, load, slot = sch.split(s, [None, SLOTS_PER_WORD // per_load, per_load])
        sch.reorder(o, g, z, w, r, stages, steps, unrolled, word, load, slot, i)
        for loop, axis in ((o, "blockIdx.x"), (g, "blockIdx.y"), (w, "threadIdx.y"), (r, "threadIdx.x")):
            sch.bind(loop, axis)
        enlist = sch.get_sblock("enlist")
        sch.compute_at(enlist, r, preserve_unit_loops=True)
        if has_clusters(target):
            sch.bind(z, "blockIdx.z")
            sch.bind(sch.get_loops(enlist)[-1], "clusterCtaIdx.z")  # says how many blocks along z are a cluster
        values = sch.cache_read(gemv, 1, "local")
        sch.compute_at(values, load, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(values)[-1])
        sch.set_scope(look_up, 0, "local")
        sch.compute_at(look_up, slot, preserve_unit_loops=True)
        _, vector = sch.split(sch.get_loops(look_up)[-1], [None, min(size, x_load)])
        sch.vectorize(vector)
        unpack_at(sch, word)
        threads = (1, warps)
        if masked(workload.nnz, workload.block):
            tabulate_at(sch, r, scope, threads)
        self._stage_x(sch, workload, target, stages, threads)
        share, add = sch.get_sblock("share"), sch.get_sblock("add_shares")
        sch.set_scope(share, 0, scope)
        sch.reverse_compute_at(share, r, preserve_unit_loops=True)
        sch.reverse_compute_at(add, g, preserve_unit_loops=True)
        sch.reverse_compute_at(epilogue, g, preserve_unit_loops=True)
        rows, results = sch.get_loops(epilogue)[-2:]
        sch.reorder(results, rows)
        sch.set_scope(add, 0, "local")
        sch.compute_at(add, bind_threads(sch, sch.fuse(results, rows), threads), preserve_unit_loops=True)
        for loop in (i, slot, load, word, unrolled):
            sch.unroll(loop)
        sch.decompose_reduction(gemv, stages)

    def _stage_x(
        self, sch: Schedule, workload: Workload, target: tvm.target.Target, stages: Any, threads: tuple[Any, Any]
    ) -> None:
        """Copy a stage of x: one row in vectors, several rows, which lie side by side, a column at a time."""
        vector: Any = 1
        if self.split_rows(workload).size == 1:
            widest = slots_per_load(workload.dtype)
            vector = sample_number(sch, [width for width in WIDTHS if width <= widest], widest)
        stage_x(sch, shared_scope(target), stages, threads, vector)

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        size = min(self.rows, 1 << (m - 1).bit_length())
        tiles = -(-m // size)
        memory = tiles * slots * slot_bytes(workload, self.stored_as(workload.dtype)) / (roofline.gbytes_all * 1e9)
        return FIXED + MEMORY * memory + LOOKING_UP * tiles * looking_up(slots, size, workload, roofline)


def looking_up(slots: float, size: int, workload: Workload, roofline: Roofline) -> float:
    """Return the seconds of reading x from shared memory that loading the weights does not hide,
    fitted to measurements on an H200.

    Shared memory delivers one byte per multiply-add of the CUDA cores. From 16 bytes per column on,
    two columns lie in each bank. A long block lies in each bank as often as it is longer than all
    banks, and at worst takes as many turns.
    """
    nbytes = slots * size * BYTES[workload.dtype]
    turns = max(1.0, workload.block * size * BYTES[workload.dtype] / BANK_BYTES) if workload.block > BLOCK else 1.0
    return 0.0 if size * turns == 1 else nbytes * (4 if nbytes > 8 * slots else 1) * turns / (roofline.gmacs * 1e9)


def slot_bytes(workload: Workload, stored: str) -> float:
    """Return the bytes of a value that is stored as a dtype, and of its position."""
    return BYTES[stored] + position_bytes(workload.pattern)


def _add_shares(sch: Schedule, gemv: Any, epilogue: Any, block: Any, threads: tuple[Any, Any]) -> None:
    """Add the warps' partial sums and finish the result, with all threads of a block."""
    sch.reverse_compute_at(gemv, block, preserve_unit_loops=True)
    sch.reverse_compute_at(epilogue, block, preserve_unit_loops=True)
    g, r, i = sch.get_loops(epilogue)[-3:]
    sch.reorder(g, i, r)
    # g and i must not be bound to thread axes separately: loops of one thread axis with different
    # extents compile without a guard
    x = bind_threads(sch, sch.fuse(g, i, r), threads)
    sch.set_scope(gemv, 0, "local")
    sch.compute_at(gemv, x, preserve_unit_loops=True)


def bind_threads(sch: Schedule, loop: Any, threads: tuple[Any, Any]) -> Any:
    """Share a loop among all threads of a block, (groups, warps) of them; return the loop over the
    lanes of a warp.
    """
    _, z, y, x = sch.split(loop, [None, *threads, WARP])
    for part, axis in ((z, "threadIdx.z"), (y, "threadIdx.y"), (x, "threadIdx.x")):
        sch.bind(part, axis)
    return x


def unpack_at(sch: Schedule, loop: Any) -> None:
    """Load the indices of a word into a register, once per iteration of `loop`."""
    unpack = sch.get_sblock("unpack")
    sch.set_scope(unpack, 0, "local")
    sch.compute_at(unpack, loop, preserve_unit_loops=True)


def tabulate_at(sch: Schedule, loop: Any, scope: str, threads: tuple[Any, Any]) -> None:
    """Make the tables of masks in shared memory, by all threads of a block, before what `loop` holds."""
    tabulate = sch.get_sblock("tabulate")
    sch.set_scope(tabulate, 0, scope)
    sch.compute_at(tabulate, loop, preserve_unit_loops=True)
    bind_threads(sch, sch.get_loops(tabulate)[-1], threads)


def stage_x(sch: Schedule, scope: str, stages: Any, threads: tuple[Any, Any], vector: Any, by_column: bool = True) -> None:
    """Copy x for one stage of all warps into shared memory, by all threads of a block, `vector` columns at once.

    Consecutive threads take the rows of a column or, for many rows, the columns of a row, which are
    contiguous.
    """
    stage = sch.get_sblock("stage")
    sch.set_scope(stage, 0, scope)
    sch.compute_at(stage, stages, preserve_unit_loops=True)
    *_, c, j, i = sch.get_loops(stage)
    outer, side_by_side = sch.split(j, [None, vector])
    order = (c, outer, i) if by_column else (i, c, outer)
    sch.reorder(*order, side_by_side)
    bind_threads(sch, sch.fuse(*order), threads)
    sch.vectorize(side_by_side)


@dataclass(frozen=True)
class Split:
    """How the work of a thread block is split: groups of 32 rows, and for each of them the chunks
    of K in stages of x in shared memory, warps, and steps of `unrolled` chunks.
    """

    groups: int
    stages: int
    warps: int
    steps: int
    unrolled: int


def _split(workload: Workload, size: int, stored: str) -> Split:
    """Choose the default split for values that are stored as a dtype: enough warps, each with enough
    loads in flight. All of x is in shared memory if it fits, which needs no barriers.
    """
    slots, blocks, _ = chunk(workload.nnz)
    chunks, groups = count_chunks(workload.k, workload.nnz, workload.block), _groups(workload, size, stored)
    chunk_bytes, share_bytes = blocks * workload.block * size * BYTES[workload.dtype], WARP * size * 4 * groups
    chunk_bytes *= 2 if _pipelined(workload, size) else 1
    masks, little = masked(workload.nnz, workload.block), _stages_little(workload.dtype, size)
    shared = SHARED_BYTES - (TABLE_BYTES if masks else 0)
    fitting = shared // (chunk_bytes + share_bytes)
    wanted = WARPS_IN_ALL * (MASKED_WARPS if masks else 1) // count_warp_panels(workload.n)
    warps = divisor(chunks, min(WARPS // groups, fitting, max(4, wanted)))
    room = min(LITTLE_STAGE if little else STAGE_BYTES, shared - share_bytes * warps)
    staged = divisor(chunks // warps, max(1, room // (chunk_bytes * warps)))
    loads = LITTLE_LOADS if little else LOADS * (MASKED_LOADS if masks else 1)
    unrolled = divisor(staged, max(1, loads * LOAD_BYTES // BYTES[stored] // slots))
    return Split(groups, chunks // warps // staged, warps, staged // unrolled, unrolled)


def _shared(workload: Workload, size: int, stored: str) -> tuple[int, int]:
    """Return how many thread blocks share K, and the warps of each of them that do.

    Several share it where blocks of 32 rows leave half of the multiprocessors idle, if each warp still has LOADS for a lane: a
    multiprocessor has no more loads under way than its warps hold, so that few of them do not fill the memory's rate.
    """
    blocks, chunks = count_warp_panels(workload.n), count_chunks(workload.k, workload.nnz, workload.block)
    ways = [
        slices
        for slices, warps in _ways(workload, size, stored)
        if slices > 1 and warps == WARPS and blocks * slices <= H200.multiprocessors and chunks // (slices * WARPS) >= LOADS
    ]
    return (ways[-1], WARPS) if ways else (1, 1)


def _ways(workload: Workload, size: int, stored: str) -> list[tuple[int, int]]:
    """Return the numbers of thread blocks that may share K, and of the warps of each: 1 and 1 if none does, as the number of
    warps is then the schedule's to decide.
    """
    if _pipelined(workload, size) or BYTES[stored] == 1:
        return [(1, 1)]
    chunks, room = count_chunks(workload.k, workload.nnz, workload.block), SHARED_BYTES - TABLE_BYTES - LITTLE_STAGE
    shared = ((slices, warps) for slices in SLICES for warps in (WARPS // 2, WARPS))
    fits = [(s, w) for s, w in shared if s * w <= room // (WARP * size * 4) and chunks % (s * w) == 0]
    return [(1, 1), *fits]


def _sliced(workload: Workload, size: int, stored: str, own: int, warps: int) -> list[int]:
    """Return the default stages, steps and unrolled chunks of a warp's share of K."""
    slots, blocks, _ = chunk(workload.nnz)
    staged = divisor(own, max(1, LITTLE_STAGE // (blocks * workload.block * size * BYTES[workload.dtype] * warps)))
    unrolled = divisor(staged, max(1, LOADS * LOAD_BYTES // BYTES[stored] // slots))
    return [own // staged, staged // unrolled, unrolled]


def _stages_little(dtype: str, size: int) -> bool:
    """Whether so many rows of x are staged in small parts, with fewer loads of the weight at once."""
    return size == 4 and dtype != "float32"


def _pipelined(workload: Workload, size: int) -> bool:
    """Whether x of the next stage is copied while this one is used, by cp.async, which copies four bytes or more.

    One row of x fits as a whole. Several rows in half precision would be copied two bytes at a
    time; there, other warps fill the wait.
    """
    return size > 1 and workload.dtype == "float32"


def _groups(workload: Workload, size: int, stored: str) -> int:
    """Choose how many groups of 32 rows share x in a thread block, with at least one thread block
    left for each multiprocessor.

    It is the most for which the bytes of x that a block reads from the second-level cache stay
    small beside those of its weights.
    """
    of_x, of_weights = size * BYTES[workload.dtype], WARP * workload.nnz / workload.block * slot_bytes(workload, stored)
    times = 2 if size == 1 else SPARE_X
    wanted = next((groups for groups in (1, 2, 4) if groups * of_weights >= times * of_x), 4)
    return divisor(count_warp_panels(workload.n), max(1, min(wanted, count_warp_panels(workload.n) // H200.multiprocessors)))


CUDA_GEMV = CudaGemv()
