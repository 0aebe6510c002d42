"""What kernels share whose lanes are sixteen rows of the weight: padding, tiles of accumulators, storing the result.

Such a kernel has a block "dense" over (row group, reduction..., tile of rows of x, row of x) that adds into `acc` and a
block "epilogue" over (row group, tile, row) that stores it.
"""

import math
from typing import Any

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.encoding import Array, EncodedWeight
from tvm_balanced.schedules.kernel import int64

LANES = 16
SLOTS_PER_WORD = 8
GROUPS_TOGETHER = 4  # groups are padded to a multiple of this, so that tiles of 2 and 4 groups always divide


def count_groups(n: int) -> int:
    """Row groups that N rows take, padding included."""
    groups = -(-n // LANES)
    return groups if groups <= 2 else -(-groups // GROUPS_TOGETHER) * GROUPS_TOGETHER


def pad_rows(a: Array, n: int) -> Array:
    """Return `a` (N, ...) with zeros appended up to whole row groups: (groups * 16, ...)."""
    padded = np.zeros((count_groups(n) * LANES, *a.shape[1:]), a.dtype)
    padded[:n] = a
    return padded


def chunk(nnz: int) -> tuple[int, int, int]:
    """(steps, blocks, index words) after which whole blocks and whole index words end together."""
    steps = math.lcm(SLOTS_PER_WORD, nnz)
    return steps, steps // nnz, steps // SLOTS_PER_WORD


def pack_steps(weight: EncodedWeight) -> tuple[Array, Array]:
    """Lay a weight out in steps, a step being one slot of one block for a row group; blocks are at most 16 long.

    Returns values (G, S, 16) and indices (G, S / 8, 16) int32, eight 4-bit indices a word. Where the last block would end
    past K, its indices count from the column `block` before K, which is where a kernel must read.
    """
    n, k = weight.shape
    nnz, block = weight.pattern.nnz, weight.pattern.block
    steps, chunk_blocks, _ = chunk(nnz)
    blocks = weight.pattern.blocks(k)
    groups, chunks = count_groups(n), -(-blocks // chunk_blocks)
    indices = weight.indices.astype(np.uint32)
    indices[:, -1] += np.uint32(-k % block)

    def by_group(a: Array) -> Array:
        whole = np.zeros((n, chunks * chunk_blocks, nnz), a.dtype)
        whole[:, :blocks] = a
        return pad_rows(whole, n).reshape(groups, LANES, chunks * steps).transpose(0, 2, 1)

    nibbles = by_group(indices).reshape(groups, -1, SLOTS_PER_WORD, LANES)
    words = np.zeros((groups, nibbles.shape[1], LANES), np.uint32)
    for slot in range(SLOTS_PER_WORD):
        words |= nibbles[:, :, slot] << np.uint32(4 * slot)
    return np.ascontiguousarray(by_group(weight.values)), words.view(np.int32)


def store_lanes(y: tirx.Buffer, row: Any, group: Any, value: Any, lanes: int = LANES) -> None:
    """Store the results of a row group, or of a part of one of `lanes` rows, in y (M, N) from inside TVMScript.

    Those past N are left out.
    """
    n = y.shape[1]
    columns = T.ramp(group * lanes, 1, lanes)
    if n.value == count_groups(n.value) * LANES:
        T.buffer_store(y, value, [row, columns])
    else:
        T.evaluate(T.masked_store(y, value, row, columns, columns < T.broadcast(int64(n.value), lanes)))


def default_tile(size: int, groups: int, accumulators: int = 16) -> tuple[int, int]:
    """Choose (rows of x, row groups) that one set of accumulators covers, without tuning.

    A multiply-add costs 1/groups loads of x and about 1.75/rows loads of values and indices with their shifts. Sixteen
    accumulators of 32 registers leave room for those. More than 4 groups walk so many streams that hardware prefetch loses
    them: 4096x4096, 2:16, M = 1, cold, against 4 groups: 8 groups 0.88x, 16 groups 0.63x.
    """
    candidates = [
        (r, g) for r in range(1, size + 1) for g in range(1, 5) if size % r == 0 and groups % g == 0 and r * g <= accumulators
    ]
    return min(candidates, key=lambda tile: 1.75 / tile[0] + 1 / tile[1])


def schedule_tile(sch: Schedule, rows: Any, groups: Any, unroll: int) -> None:
    """Keep `groups` row groups by `rows` rows of x in registers, spread the rest over the threads.

    `rows` and `groups` may be numbers or decisions sampled from `sch`; the innermost `unroll` reduction loops are unrolled.
    """
    dense, epilogue = sch.get_sblock("dense"), sch.get_sblock("epilogue")
    g, *reduction, o, i = sch.get_loops(dense)
    go, gi = sch.split(g, [None, groups])
    io, ii = sch.split(i, [None, rows])
    sch.reorder(go, o, io, *reduction, gi, ii)
    # A fixed number of loops whatever the tile is: a recorded trace replays only then.
    sch.reverse_compute_at(epilogue, io, preserve_unit_loops=True)
    for loop in (ii, gi, *reduction[len(reduction) - unroll :], *sch.get_loops(epilogue)[-3:]):
        sch.unroll(loop)
    sch.parallel(sch.fuse(go, o))  # before decompose_reduction, which splits the loops' bodies
    init = sch.decompose_reduction(dense, reduction[0])
    for loop in sch.get_loops(init)[-2:]:
        sch.unroll(loop)
