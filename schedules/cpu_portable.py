"""Balanced-sparse dense layer for any LLVM target and any block: rows of x in lanes.

x is transposed once into tiles (K, rows of x). A nonzero of the weight then needs no gather: it multiplies a whole vector
of x's rows that stands at its column. Eight rows of the weight are computed together, for their independent sums.

    acc[row of weight][rows of x] += value * xt[column of value][rows of x]

Layout, for N padded to a multiple of 8 and S = blocks * nnz slots a row:

    values   (N, S)  float32
    indices  (N, S)  uint8   position inside the block
    bias     (N,)    float32
"""

from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.detection import Detection
from tvm_balanced.encoding import Array, EncodedWeight
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules.epilogue import ACTIVATIONS
from tvm_balanced.schedules.kernel import Rows, SparseKernel, Workload, int64
from tvm_balanced.schedules.machine import Machine, lanes
from tvm_balanced.schedules.rule import divisor

ROWS_TOGETHER = 8  # rows of the weight that are padded and computed together: hides the latency of multiply-add


class CpuPortable(SparseKernel):
    """Rows of x in lanes, one-byte indices; fp32, any block up to 256."""

    name = "cpu_portable"
    parts = ("values", "indices")

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name != "llvm":
            return "the target is not a CPU"
        return None if dtype == "float32" else f"it does not compute {dtype}"

    def fit(self, found: Detection) -> BalancedPattern | None:
        return found.pattern

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        n, _ = weight.shape
        padded = _padded(n)
        slots = weight.values.shape[1] * weight.values.shape[2]
        values = np.zeros((padded, slots), weight.values.dtype)
        values[:n] = weight.values.reshape(n, slots)
        indices = np.zeros((padded, slots), np.uint8)
        indices[:n] = weight.indices.reshape(n, slots)
        return values, indices

    def pack_bias(self, bias: Array) -> Array:
        return np.pad(bias, (0, _padded(len(bias)) - len(bias)))

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        rows, activation = _rows(workload), ACTIVATIONS[workload.activation]
        n, k, nnz, block = workload.n, workload.k, workload.nnz, workload.block
        blocks = workload.pattern.blocks(k)
        n_, padded_, k_, blocks_, nnz_, size_ = map(int64, (n, _padded(n), k, blocks, nnz, rows.size))
        acc_shape, xt_shape = (rows.tiles, padded_, size_), (rows.tiles, int64(blocks * block), size_)

        def plus(total: Any, residual: tirx.Buffer, row: Any, column: Any) -> Any:
            return total + residual[row, column] if workload.residual else total

        @T.prim_func(private=True, s_tir=True)
        def cpu_portable(
            x_: T.handle, values_: T.handle, indices_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle
        ) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (rows.m, k_), "float32")
            values = T.match_buffer(values_, (padded_, blocks_ * nnz_), "float32")
            indices = T.match_buffer(indices_, (padded_, blocks_ * nnz_), "uint8")
            bias = T.match_buffer(bias_, (padded_,), "float32")
            residual = T.match_buffer(residual_, (rows.m, n_), "float32")
            y = T.match_buffer(y_, (rows.m, n_), "float32")
            xt = T.sblock_alloc_buffer(xt_shape, "float32")
            acc = T.sblock_alloc_buffer(acc_shape, "float32", scope="local")
            for o, c, i in T.grid(rows.tiles, blocks_ * block, size_):
                with T.sblock("transpose"):
                    vo, vc, vi = T.axis.remap("SSS", [o, c, i])
                    # Columns past K are written, for the regions to match, but no index points there.
                    xt[vo, vc, vi] = x[rows.read(vo, vi), T.min(vc, k_ - 1)]
            for r, o, b, j, i in T.grid(padded_, rows.tiles, blocks_, nnz_, size_):
                with T.sblock("dense"):
                    vr, vo, vb, vj, vi = T.axis.remap("SSRRS", [r, o, b, j, i])
                    T.reads(
                        xt[vo, vb * block : vb * block + block, vi],
                        values[vr, vb * nnz + vj],
                        indices[vr, vb * nnz + vj],
                    )
                    T.writes(acc[vo, vr, vi])
                    with T.init():
                        acc[vo, vr, vi] = T.float32(0)
                    acc[vo, vr, vi] = (
                        acc[vo, vr, vi]
                        + xt[vo, vb * block + T.cast(indices[vr, vb * nnz + vj], "int64"), vi] * values[vr, vb * nnz + vj]
                    )
            for r, o, i in T.grid(padded_, rows.tiles, size_):
                with T.sblock("epilogue"):
                    vr, vo, vi = T.axis.remap("SSS", [r, o, i])
                    T.reads(acc[vo, vr, vi], bias[vr])
                    T.writes(y[rows.read(vo, vi), T.min(vr, n_ - 1)])
                    if rows.at(vo, vi) < rows.m and vr < n_:
                        y[rows.at(vo, vi), vr] = activation(plus(acc[vo, vr, vi] + bias[vr], residual, rows.at(vo, vi), vr))

        return workload.attach(cpu_portable)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        transpose, dense, epilogue = (sch.get_sblock(name) for name in ("transpose", "dense", "epilogue"))
        o, c, _ = sch.get_loops(transpose)
        sch.parallel(sch.fuse(o, c))
        r, o, b, j, i = sch.get_loops(dense)
        ro, ri = sch.split(r, [None, ROWS_TOGETHER])
        io, ii = sch.split(i, [None, divisor(_rows(workload).size, lanes(target))])
        sch.reorder(ro, o, io, b, j, ri, ii)
        sch.reverse_compute_at(epilogue, io, preserve_unit_loops=True)
        sch.unroll(ri)
        sch.vectorize(ii)
        sch.parallel(sch.fuse(ro, o))
        init = sch.decompose_reduction(dense, b)
        init_rows, init_lanes = sch.get_loops(init)[-2:]
        sch.unroll(init_rows)
        sch.vectorize(init_lanes)
        for loop in sch.get_loops(epilogue)[-2:]:
            sch.unroll(loop)

    def seconds(self, workload: Workload, m: int, machine: Machine) -> float:
        slots = workload.n * workload.pattern.blocks(workload.k) * workload.nnz
        tile = max(machine.lanes, 8)  # a part-filled vector costs what a full one does
        # One thread of a Zen 4 core, AVX2 code. Of the peak, hot, M >= 4: 0.30 to 0.34 where a tile of x is at most 128 KB,
        # 0.18 to 0.28 where it is more (768x3072, M = 256). Eight rows of weights, far apart in memory, come at 8 GB/s where
        # cpu_dense's come at 31: 4096x4096, 4:16, cold, 2.6 ms at M = 1 and 2.5 ms at M = 8. Modelled at 10 of 34 GB/s,
        # because hot they cost a quarter less.
        in_cache = workload.k * _rows(workload).size * 4 <= 128 << 10
        return machine.seconds(slots * -(-m // tile) * tile, 0.31 if in_cache else 0.21, slots * 5 * 3.5)


def _padded(n: int) -> int:
    return -(-n // ROWS_TOGETHER) * ROWS_TOGETHER


def _rows(workload: Workload) -> Rows:
    # Tiles of whole vectors, the last padded: a tile of a few rows costs what one of a vector does, and one of 7 or 13 rows is
    # worse, for its lanes fall apart (AVX2, 3072x768, 4:16: tiles of M rows took 1.3x the time at M = 6, 1.7x at 7 and 7x at
    # 25). A symbolic M takes a vector of 8 whatever M will be. One row alone would be worse: LLVM turns it into gathers
    # (4096x4096, 2:16, M = 1: 4.5 ms, as a vector of 8 rows 1.9 ms).
    rows = Rows.of(workload.m, longest=16, symbolic=8)
    if workload.m is None:
        return rows
    if workload.m <= 4:
        return Rows(rows.m, 4)
    return Rows(rows.m, 8 if -(-workload.m // 8) % 2 else 16)


CPU_PORTABLE = CpuPortable()
