"""Four slots of one block in a lane, for kernels that permute the 16 bytes of a block: how cpu_avx2_i8 lays a weight out.

A step takes four slots of each of the 16 rows of a row panel, in the order of blocks: four bytes a row, which are one lane of a
dot product. The slots of blocks with 4, 8 or 12 of them fill steps by themselves; of others, steps are of two blocks, or of four.

    values       (G, S, 64)      int8    four slots of each of 16 rows a step
    indices      (G, S / 2, 64)  uint8   position inside the block for two steps, the first in the low half
    scales       (G, 16)         float32
    totals       (G, 16)         int32   the sum of a row's values

A chunk is as many blocks as fill an even number of steps, so that its indices are whole bytes.
"""

import math

import numpy as np

from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.schedules.layouts.rounded_weight import round_weight
from tvm_balanced.schedules.layouts.row_panels import LANES, pad_rows

BLOCK = 16
SLOTS = 4  # of a row in a step
PARTS = ("values", "indices", "scales", "totals")


def steps_of_chunk(nnz: int) -> int:
    """Return the steps after which whole blocks and whole bytes of indices end together."""
    return math.lcm(nnz, 2 * SLOTS) // SLOTS


def blocks_of_chunk(nnz: int) -> int:
    """Return the blocks of a chunk."""
    return steps_of_chunk(nnz) * SLOTS // nnz


def count_chunks(k: int, nnz: int) -> int:
    """Return the chunks of a row, padding included."""
    return -(-k // (BLOCK * blocks_of_chunk(nnz)))


def blocks_of_step(nnz: int) -> int:
    """Return of how many blocks the slots of a step may be."""
    return -(-SLOTS // nnz) if nnz < SLOTS and SLOTS % nnz == 0 else 1 if nnz % SLOTS == 0 else 2


def pack_blocks(weight: EncodedWeight, places: Array | None = None, groups: int = 1) -> tuple[Array, ...]:
    """Round a weight to 8 bits and lay it out; return the arrays PARTS.

    Parameters
    ----------
    weight : EncodedWeight
    places : array, optional
        The block of the layout that each block of the weight becomes, ascending; by default its own. Others are zero.
    groups : int
        Of rows, each of which gets row panels of its own.
    """
    n = weight.shape[0]
    nnz, places = weight.pattern.nnz, np.arange(weight.indices.shape[1]) if places is None else places
    chunks = count_chunks((int(places[-1]) + 1) * BLOCK, nnz)
    rounded, scales, totals = round_weight(weight.values)

    def by_group(a: Array) -> Array:
        """Reorder slots (N, blocks, nnz) to (panels, steps, 64)."""
        whole = np.zeros((n, chunks * blocks_of_chunk(nnz), nnz), a.dtype)
        whole[:, places] = a
        rows = pad_rows(whole.reshape(n, chunks * steps_of_chunk(nnz), SLOTS), n, groups)
        panels = rows.reshape(-1, LANES, chunks * steps_of_chunk(nnz), SLOTS).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(panels).reshape(len(panels), -1, LANES * SLOTS)

    positions = by_group(weight.indices.astype(np.uint8))
    return (
        by_group(rounded),
        positions[:, ::2] | positions[:, 1::2] << np.uint8(4),
        pad_rows(scales, n, groups).reshape(-1, LANES),
        pad_rows(totals, n, groups).reshape(-1, LANES),
    )
