"""Balanced-sparse dense layer on tensor cores: weights stay sparse in memory and become dense in registers.

A warp computes tiles of 16 rows of the weight by 8 rows of x with mma.m16n8k16, weights as its first operand. Which column of
K an element of the two operands stands for is free as long as both agree, so that the operand's layout can be chosen to need
no exchange between lanes: of every 64 columns, four blocks of 16, the lane that the instruction gives two rows (r and r + 8)
and columns 2t, 2t + 1, 2t + 8 and 2t + 9 of 16 holds all 16 columns of the t-th block of its two rows, four a step:

    step s of 4, lane 4r + t:   columns 4s to 4s + 3 of block t   of row r and of row r + 8

So each lane decodes its own blocks: the slots of a row become eight registers of two columns each. Up to four slots are pushed:
each is shifted to its half and chosen, by its index, by the register it belongs to. More are pulled: a register takes as many
values from the front of the row's queue as its two bits of the mask say. x is staged in shared memory; a lane's 16 columns of
it are 32 bytes in a row. Thread blocks split K among their warps and add the shares in shared memory in a fixed order.

    values     (N / 16, K groups, L, 32, 4)  uint32: eight values of a lane, two a word, 16 bytes
    positions  (N / 16, K groups, L, 32)     uint32: bits 4s to 4s + 3: position inside its block of the s-th of those eight
           or  (N / 16, K groups, steps, 32) uint32: from five slots a block on, a mask of 16 bits for row r, and above it r + 8

A K group is as many steps of 64 columns as fill whole loads; its slots stand in the order (64 columns, row r or r + 8, slot).
"""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.detection import Detection
from tvm_balanced.encoding import Array, EncodedWeight
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules.cuda_intrinsics import funnel_right, mma, permute_bytes
from tvm_balanced.schedules.epilogue import ACTIVATIONS
from tvm_balanced.schedules.gpus import shared_scope, too_old
from tvm_balanced.schedules.kernel import Rows, SparseKernel, Workload, int64
from tvm_balanced.schedules.machine import Machine
from tvm_balanced.schedules.row_groups import SLOTS_PER_WORD, fit_block, pack_indices
from tvm_balanced.schedules.rule import divisor
from tvm_balanced.schedules.warp_rows import BLOCK, WARP, columns_inside, round_up, with_masks

ROWS = 16  # of the weight in a tile
QUAD = 4  # blocks of a step, one for each of the four lanes that share a row
NNZ = (1, 2, 3, 4, 6, 8)
TOKENS = 8  # rows of x in a tile
WARPS = 2048  # that are wanted in all: 16 on each of an H200's 132 multiprocessors
EFFICIENCY = 0.6  # of the tensor cores' peak, which is wgmma's
STAGE_BYTES = 80 << 10  # of x in shared memory: with the least of all GPUs, 99 KiB on sm_86 and sm_89, one thread block fits


class CudaDecodeMma(SparseKernel):
    """Tensor cores on weights that are decoded in registers; fp16 and bf16 with sums in fp32."""

    name = "cuda_decode_mma"
    parts = ("values", "positions")
    kinds = ("cuda", "opencl")
    small_tiles = ((1, 8, 8), (9, 16, 16), (17, 32, 32))
    dtypes = ("float16", "bfloat16")
    rows = 64  # of x in a tile at most

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name not in self.kinds:
            return "the target is not a GPU"
        return too_old(target, 80) if dtype in self.dtypes else f"it does not compute {dtype}"  # cp.async, mma.m16n8k16

    def fit(self, found: Detection) -> BalancedPattern | None:
        return fit_block(found, BLOCK, (*NNZ, BLOCK))

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        (n, k), nnz = weight.shape, weight.pattern.nnz
        layout = Layout.of(n, k, nnz)
        shape = (layout.tiles, 2, ROWS // 2, layout.groups, layout.steps, QUAD, nnz)  # tile, half, r, group, step, t, slot

        def by_lane(a: Array) -> Array:
            whole = np.zeros((layout.tiles * ROWS, layout.groups * layout.steps * QUAD, nnz), a.dtype)
            whole[:n, : a.shape[1]] = a
            lanes = whole.reshape(shape).transpose(0, 3, 2, 5, 4, 1, 6)  # tile, group, r, t, step, half, slot
            return lanes.reshape(layout.tiles, layout.groups, WARP, layout.loads, SLOTS_PER_WORD).swapaxes(2, 3)

        dtype = ml_dtypes.bfloat16 if str(weight.values.dtype) == "bfloat16" else np.float16
        kept, masks = with_masks(weight) if pulls(nnz) else (weight.values, None)
        values = np.ascontiguousarray(by_lane(kept.astype(dtype))).view(np.uint32)
        if masks is not None:
            return values, _pair_masks(masks, layout)
        nibbles = by_lane(weight.indices.astype(np.uint32))
        words = pack_indices(nibbles.reshape(-1, SLOTS_PER_WORD, 1), SLOTS_PER_WORD).reshape(nibbles.shape[:-1])
        return values, words

    def pack_bias(self, bias: Array) -> Array:
        padded = np.zeros(round_up(-(-len(bias) // ROWS)) * ROWS, np.float32)
        padded[: len(bias)] = bias
        return padded.reshape(-1, ROWS)

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation, dtype = _rows(workload), ACTIVATIONS[workload.activation], workload.dtype
        n, k, nnz = workload.n, workload.k, workload.nnz
        layout = Layout.of(n, k, nnz)
        shares = _shares(workload)  # of K, one a warp: part of the function, for their sums are
        columns = layout.steps * QUAD * BLOCK
        n_, k_, tiles_, groups_, loads_, steps_, shares_ = map(
            int64, (n, k, layout.tiles, layout.groups // shares, layout.loads, layout.steps, shares)
        )
        parts_, size_, warp_, columns_, block_ = map(int64, (rows.size // TOKENS, rows.size, WARP, columns, BLOCK))
        rows_, halves_, pairs_, sums_, words_ = map(int64, (ROWS, 2, BLOCK // 2, 4, 4))
        position_words_ = int64(layout.steps if pulls(nnz) else layout.loads)
        whole, words, once_ = layout.groups * columns == k, nnz // 2, int64(1)

        def stage(x: tirx.Buffer, tile: Any, row: Any, column: Any) -> Any:
            value = x[rows.read(tile, row), column]
            return value if whole else T.if_then_else(columns_inside(column, k, 8), value, tirx.const(0, dtype))

        def result(total: Any, residual: tirx.Buffer, row: Any, column: Any) -> Any:
            total = total + T.cast(residual[row, column], "float32") if workload.residual else total
            return T.cast(activation(total), dtype)

        @T.prim_func(private=True, s_tir=True)
        def cuda_decode_mma(
            x_: T.handle, values_: T.handle, positions_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), dtype)
            values = T.match_buffer(values_, (tiles_, groups_ * shares_, loads_, warp_, words_), "uint32")
            positions = T.match_buffer(positions_, (tiles_, groups_ * shares_, position_words_, warp_), "uint32")
            bias = T.match_buffer(bias_, (tiles_, rows_), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), dtype)
            y = T.match_buffer(y_, (rows.m, n_), dtype)
            staged = T.sblock_alloc_buffer((rows.tiles, groups_ * shares_, size_, columns_), dtype)
            columns_of_x = T.sblock_alloc_buffer((rows.tiles, groups_ * shares_, steps_, parts_, warp_, block_), dtype)
            dense = T.sblock_alloc_buffer((tiles_, groups_ * shares_, steps_, halves_, warp_, pairs_), "uint32")
            sums = T.sblock_alloc_buffer((rows.tiles, shares_, tiles_, parts_, warp_, sums_), "float32", scope="local")
            share = T.sblock_alloc_buffer((rows.tiles, shares_, tiles_, parts_, sums_, warp_), "float32")
            total = T.sblock_alloc_buffer((rows.tiles, size_, tiles_, rows_), "float32", scope="local")
            for o, g, i, c in T.grid(rows.tiles, groups_ * shares_, size_, columns_):
                with T.sblock("stage"):
                    vo, vg, vi, vc = T.axis.remap("SSSS", [o, g, i, c])
                    staged[vo, vg, vi, vc] = stage(x, vo, vi, vg * columns_ + vc)
            for o, g, s, p, r, c in T.grid(rows.tiles, groups_ * shares_, steps_, parts_, warp_, block_):
                with T.sblock("read_x"):
                    vo, vg, vs, vp, vr, vc = T.axis.remap("SSSSSS", [o, g, s, p, r, c])
                    columns_of_x[vo, vg, vs, vp, vr, vc] = staged[
                        vo, vg, vp * TOKENS + vr // QUAD, (vs * QUAD + vr % QUAD) * BLOCK + vc
                    ]
            # the last loop runs once: a region that a block writes must start at one of its axes
            for t, g, s, h, r, c in T.grid(tiles_, groups_ * shares_, steps_, halves_, warp_, once_):
                with T.sblock("decode"):
                    vt, vg, vs, vh, vr, vc = T.axis.remap("SSSSSS", [t, g, s, h, r, c])
                    if nnz == BLOCK:
                        T.reads(values[vt, vg, 0:loads_, vr, 0:4])
                    else:
                        T.reads(values[vt, vg, 0:loads_, vr, 0:4], positions[vt, vg, 0:position_words_, vr])
                    T.writes(dense[vt, vg, vs, vh, vr, vc * 8 : vc * 8 + 8])
                    if nnz == BLOCK:
                        for j in T.unroll(8):
                            dense[vt, vg, vs, vh, vr, vc * 8 + j] = values[
                                vt, vg, ((vs * 2 + vh) * words + j) // 4, vr, ((vs * 2 + vh) * words + j) % 4
                            ]
                    elif pulls(nnz):
                        queue = T.sblock_alloc_buffer((words,), "uint32", scope="local")
                        for i in T.unroll(words):
                            queue[i] = values[vt, vg, ((vs * 2 + vh) * words + i) // 4, vr, ((vs * 2 + vh) * words + i) % 4]
                        for j in T.unroll(8):
                            pair = _pair(positions[vt, vg, vs, vr], vh, j)
                            dense[vt, vg, vs, vh, vr, vc * 8 + j] = permute_bytes(queue[0], T.uint32(0), _selector(pair))
                            for i in T.unroll(words - 1):
                                queue[i] = funnel_right(queue[i], queue[i + 1], _taken_bits(pair))
                            queue[words - 1] = funnel_right(queue[words - 1], T.uint32(0), _taken_bits(pair))
                    else:
                        for j in T.unroll(8):
                            dense[vt, vg, vs, vh, vr, vc * 8 + j] = _push(
                                values, positions, (vt, vg, vr), (vs * 2 + vh) * nnz, nnz, j
                            )
            for o, f, t, r, g, s, p in T.grid(rows.tiles, shares_, tiles_, warp_, groups_, steps_, parts_):
                with T.sblock("mma"):
                    vo, vf, vt, vr, vg, vs, vp = T.axis.remap("SSSSRRS", [o, f, t, r, g, s, p])
                    T.reads(
                        dense[vt, vg * shares_ + vf, vs, 0:2, vr, 0:8], columns_of_x[vo, vg * shares_ + vf, vs, vp, vr, 0:BLOCK]
                    )
                    T.writes(sums[vo, vf, vt, vp, vr, 0:4])
                    with T.init():
                        for i in T.serial(4):
                            sums[vo, vf, vt, vp, vr, i] = T.float32(0)
                    for step in T.serial(4):  # nvcc unrolls it
                        mma(
                            dtype,
                            T.address_of(sums[vo, vf, vt, vp, vr, 0]),
                            dense[vt, vg * shares_ + vf, vs, 0, vr, 2 * step],
                            dense[vt, vg * shares_ + vf, vs, 1, vr, 2 * step],
                            dense[vt, vg * shares_ + vf, vs, 0, vr, 2 * step + 1],
                            dense[vt, vg * shares_ + vf, vs, 1, vr, 2 * step + 1],
                            T.address_of(columns_of_x[vo, vg * shares_ + vf, vs, vp, vr, 4 * step]),
                        )
            for o, f, t, p, i, r in T.grid(rows.tiles, shares_, tiles_, parts_, sums_, warp_):
                with T.sblock("share"):
                    vo, vf, vt, vp, vi, vr = T.axis.remap("SSSSSS", [o, f, t, p, i, r])
                    share[vo, vf, vt, vp, vi, vr] = sums[vo, vf, vt, vp, vr, vi]
            for o, i, t, r, f in T.grid(rows.tiles, size_, tiles_, rows_, shares_):
                with T.sblock("add_shares"):
                    vo, vi, vt, vr, vf = T.axis.remap("SSSSR", [o, i, t, r, f])
                    with T.init():
                        total[vo, vi, vt, vr] = T.float32(0)
                    total[vo, vi, vt, vr] = (
                        total[vo, vi, vt, vr]
                        + share[vo, vf, vt, vi // TOKENS, vr // 8 * 2 + vi % 2, vr % 8 * QUAD + vi % TOKENS // 2]
                    )
            for o, i, t, r in T.grid(rows.tiles, size_, tiles_, rows_):
                with T.sblock("epilogue"):
                    vo, vi, vt, vr = T.axis.remap("SSSS", [o, i, t, r])
                    if tirx.all(rows.at(vo, vi) < rows.m, vt * ROWS + vr < n_):
                        y[rows.at(vo, vi), vt * ROWS + vr] = result(
                            total[vo, vi, vt, vr] + bias[vt, vr], residual, rows.at(vo, vi), vt * ROWS + vr
                        )

        return workload.attach(cuda_decode_mma)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        stage, read_x, decode, mma_ = (sch.get_sblock(name) for name in ("stage", "read_x", "decode", "mma"))
        o, f, t, r, g, s, p = sch.get_loops(mma_)
        cut = _cut(workload)
        tiles = sch.sample_perfect_tile(t, 3, 4, decision=[cut.blocks, cut.warps, cut.tiles])
        block, warps, tile = sch.split(t, tiles)
        steps = sch.sample_perfect_tile(g, 2, 4, decision=[cut.stages, cut.steps])
        stages, step = sch.split(g, steps)
        sch.reorder(block, o, f, warps, r, stages, step, s, p, tile)
        for loop, axis in (
            (o, "blockIdx.x"),  # next to each other in time, so that all rows of x share what is read of the weight
            (block, "blockIdx.y"),
            (f, "threadIdx.z"),
            (warps, "threadIdx.y"),
            (r, "threadIdx.x"),
        ):
            sch.bind(loop, axis)
        sch.set_scope(decode, 0, "local")
        sch.compute_at(decode, s, preserve_unit_loops=True)
        for operand in (0,) if workload.nnz == BLOCK else (0, 1):
            copy = sch.cache_read(decode, operand, "local")
            sch.compute_at(copy, step, preserve_unit_loops=True)
            if operand == 0:
                sch.vectorize(sch.get_loops(copy)[-1])
        sch.set_scope(read_x, 0, "local")
        sch.compute_at(read_x, p, preserve_unit_loops=True)
        sch.vectorize(sch.split(sch.get_loops(read_x)[-1], [None, 8])[1])
        shared = shared_scope(target)
        sch.set_scope(stage, 0, shared)
        sch.compute_at(stage, stages, preserve_unit_loops=True)
        *_, sg, si, sc = sch.get_loops(stage)
        so, sv = sch.split(sc, [None, 8])
        _, z, y, x = sch.split(sch.fuse(sg, si, so), [None, _shares(workload), tiles[1], WARP])
        for loop, axis in ((z, "threadIdx.z"), (y, "threadIdx.y"), (x, "threadIdx.x")):
            sch.bind(loop, axis)
        sch.vectorize(sv)
        # rows of x eight columns apart from a multiple of 64: eight lanes then read 16 bytes each from all 32 banks
        sch.storage_align(stage, 0, 2, 64, 8)
        share, add, epilogue = (sch.get_sblock(name) for name in ("share", "add_shares", "epilogue"))
        sch.set_scope(share, 0, shared)
        sch.reverse_compute_at(share, r, preserve_unit_loops=True)
        sch.reverse_compute_at(add, o, preserve_unit_loops=True)
        sch.reverse_compute_at(epilogue, o, preserve_unit_loops=True)
        *_, i, t, r = sch.get_loops(epilogue)
        _, z, y, x = sch.split(sch.fuse(i, t, r), [None, _shares(workload), tiles[1], WARP])
        for loop, axis in ((z, "threadIdx.z"), (y, "threadIdx.y"), (x, "threadIdx.x")):
            sch.bind(loop, axis)
        sch.compute_at(add, x, preserve_unit_loops=True)
        if target.kind.name != "opencl":  # where every mma is two barriers, and PoCL compiles what is between two apart
            for loop in (tile, p, s, step):
                sch.unroll(loop)
        sch.decompose_reduction(mma_, stages)
        # x of the next stage is copied, by cp.async, while that of this one is used
        sch.annotate(stages, "software_pipeline_stage", [0, 1])
        sch.annotate(stages, "software_pipeline_order", [0, 1])
        sch.annotate(stages, "software_pipeline_async_stages", [0])

    def seconds(self, workload: Workload, m: int, machine: Machine) -> float:
        nnz, weights = workload.nnz, workload.n * workload.pattern.blocks(workload.k) * BLOCK
        tiles, tokens = -(-m // self.rows), -(-m // TOKENS) * TOKENS
        slot_bytes = 2 + (2 / nnz if pulls(nnz) else 0.5)
        # Instructions of a lane to decode a weight, counted in the PTX; a lane's instructions go at the rate of multiply-adds.
        decode = weights * tiles * (4.5 if pulls(nnz) else 0.5 + 1.6 * nnz) / (machine.gmacs * 1e9)
        tensor = weights * tokens / (machine.tensor_gmacs * 1e9 * EFFICIENCY)
        return max(machine.seconds(0, 1, weights / BLOCK * nnz * slot_bytes / 0.8), machine.launch + max(decode, tensor))


@dataclass(frozen=True)
class Layout:
    """How a weight is laid out: tiles of 16 rows, K groups of `steps` times 64 columns that fill `loads` whole loads."""

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
    """How tiles of the weight and K groups are cut among thread blocks, warps and loops."""

    blocks: int
    warps: int
    tiles: int
    stages: int
    steps: int


def _cut(workload: Workload) -> Cut:
    """Choose the default cut: up to 16 warps a thread block, and two tiles a warp where that spares reading x again."""
    layout, shares, size = Layout.of(workload.n, workload.k, workload.nnz), _shares(workload), _rows(workload).size
    warps = divisor(layout.tiles, max(1, 16 // shares))
    tiles = 2 if size >= 32 and layout.tiles // warps % 2 == 0 and layout.tiles * shares >= 2 * WARPS else 1
    groups = layout.groups // shares
    fitting = STAGE_BYTES // (shares * _stage_bytes(layout, size))
    steps = divisor(groups, max(1, min(fitting, 4 // layout.loads if size <= 16 else 1)))
    return Cut(layout.tiles // warps // tiles, warps, tiles, groups // steps, steps)


def _shares(workload: Workload) -> int:
    """Choose how many warps share K: as many as keep an H200 busy, where x fits for all of them."""
    layout, size = Layout.of(workload.n, workload.k, workload.nnz), _rows(workload).size
    fitting = STAGE_BYTES // _stage_bytes(layout, size)
    return divisor(layout.groups, max(1, min(8, fitting, -(-WARPS // layout.tiles))))


def _stage_bytes(layout: Layout, size: int) -> int:
    """Bytes of x that one warp needs for one K group, twice: the next is copied while one is used."""
    return 2 * 2 * size * (layout.steps * QUAD * BLOCK + 8)


def _rows(workload: Workload) -> Rows:
    rows = Rows.of(workload.m, longest=CudaDecodeMma.rows, symbolic=workload.tile or CudaDecodeMma.rows)
    return Rows(rows.m, -(-rows.size // TOKENS) * TOKENS)


def pulls(nnz: int) -> bool:
    """Whether positions are a mask of 16 bits a block, by which registers pull their values, or an index of four bits a slot.

    A mask takes the fewer bytes from five slots on, and what it takes to decode does not grow with the slots.
    """
    return nnz > 4


def _pair_masks(masks: Array, layout: Layout) -> Array:
    """Lay masks (N, blocks) out as (tiles, groups, steps, 32) words: row r in the low half of a word, row r + 8 above."""
    n, blocks = masks.shape
    padded = np.zeros((layout.tiles * ROWS, layout.groups * layout.steps * QUAD), np.uint32)
    padded[:n, :blocks] = masks
    lanes = padded.reshape(layout.tiles, 2, ROWS // 2, layout.groups, layout.steps, QUAD).transpose(0, 3, 4, 2, 5, 1)
    return np.ascontiguousarray(lanes[..., 0] | lanes[..., 1] << np.uint32(16)).reshape(*lanes.shape[:3], WARP)


def _push(values: tirx.Buffer, indices: tirx.Buffer, at: tuple[Any, ...], first: Any, nnz: int, register: Any) -> Any:
    """Two columns of a block: those of the `nnz` slots from `first` on whose index is one of them."""
    (tile, group, lane), found = at, tirx.const(0, "uint32")
    for j in range(nnz):
        load, slot = (first + j) // SLOTS_PER_WORD, (first + j) % SLOTS_PER_WORD
        index = T.shift_right(indices[tile, group, load, lane], T.cast(slot * 4, "uint32"))
        pair = values[tile, group, load, lane, slot // 2]
        value = T.bitwise_and(T.shift_right(pair, T.cast(slot % 2 * 16, "uint32")), tirx.const(0xFFFF, "uint32"))
        moved = T.shift_left(value, T.shift_left(T.bitwise_and(index, tirx.const(1, "uint32")), tirx.const(4, "uint32")))
        here = T.bitwise_and(index, tirx.const(14, "uint32")) == T.cast(register * 2, "uint32")
        found = T.bitwise_or(found, T.Select(here, moved, tirx.const(0, "uint32")))
    return found


def _pair(word: Any, half: Any, register: Any) -> Any:
    """Two bits: which of a register's two columns are kept."""
    return T.bitwise_and(T.shift_right(word, T.cast(half * 16 + register * 2, "uint32")), tirx.const(3, "uint32"))


def _selector(pair: Any) -> Any:
    """Bytes of the queue's first word, or zeros (4), that a register gets: 0x4444, 0x4410, 0x1044 or 0x3210 for a pair 0 to 3."""
    which = pair * tirx.const(0x22, "uint32") + tirx.const(0x10, "uint32")
    return permute_bytes(tirx.const(0x44104444, "uint32"), tirx.const(0x32101044, "uint32"), which)


def _taken_bits(pair: Any) -> Any:
    """Bits that a register takes from the queue: 0, 16, 16 or 32 for a pair 0 to 3."""
    return T.bitwise_and(pair * tirx.const(8, "uint32") + tirx.const(8, "uint32"), tirx.const(0x30, "uint32"))


CUDA_DECODE_MMA = CudaDecodeMma()
