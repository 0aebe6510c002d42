"""Row panels: helpers for kernels whose lanes are sixteen consecutive rows of the weight, for
padding, slots and packing.

Such a kernel has a block "dense" over (row panel, reduction..., row tile of x, row of x) that adds
into `acc`. Its block "epilogue" over (row panel, tile, row) stores the result.
"""

import math

import numpy as np

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern

LANES = 16
SLOTS_PER_WORD = 8  # in 32 bits, for blocks of up to 16, whose indices have 4 bits
SLOTS_PER_WORD_LONG = 6  # for blocks of 32, whose indices have 5
# The slots that a block of 16 may keep. Chunks of steps stay short (see `chunk`): 5, 7, 9, ...
# would unroll 40 to 120.
NNZ = (1, 2, 3, 4, 6, 8, 12, 16)
GROUPS_TOGETHER = 4  # panels are padded to a multiple of this, so that tiles of 2 and 4 panels always divide them


def count_row_panels(n: int) -> int:
    """Return the number of row panels for N rows, padding included."""
    groups = -(-n // LANES)
    return groups if groups <= 2 else -(-groups // GROUPS_TOGETHER) * GROUPS_TOGETHER


def pad_rows(a: Array, n: int, groups: int = 1) -> Array:
    """Return `a` (N, ...) with zeros appended up to whole row panels: (panels * 16, ...). If N are the rows of several groups,
    zeros are appended to each.
    """
    rows = n // groups
    padded = np.zeros((groups, count_row_panels(rows) * LANES, *a.shape[1:]), a.dtype)
    padded[:, :rows] = a.reshape(groups, rows, *a.shape[1:])
    return padded.reshape(-1, *a.shape[1:])


def pack_panel_bias(bias: Array) -> Array:
    """Pack a bias (N,) into row panels: (G, 16) float32."""
    return pad_rows(bias.astype(np.float32), len(bias)).reshape(-1, LANES)


def fit_block(found: Detection, block: int, counts: tuple[int, ...]) -> BalancedPattern | None:
    """Return the pattern of `block` that covers the nonzeros with the fewest slots in `counts`;
    None if that saves nothing.
    """
    needed = found.covering(block).nnz
    nnz = min((n for n in counts if n >= needed), default=block)
    return BalancedPattern(nnz, block) if nnz < block else None


def chunk(nnz: int, slots_per_word: int = SLOTS_PER_WORD) -> tuple[int, int, int]:
    """Return (steps, blocks, index words) after which whole blocks and whole index words end together."""
    steps = math.lcm(slots_per_word, nnz)
    return steps, steps // nnz, steps // slots_per_word


def slots_per_word(block: int) -> int:
    """Return how many slots have their indices in one 32-bit word."""
    return SLOTS_PER_WORD if block <= 16 else SLOTS_PER_WORD_LONG


def pack_indices(indices: Array, slots_per_word: int, bits: int = 4) -> Array:
    """Pack indices (G, S, lanes) of an unsigned dtype into words of that dtype, (G, S / slots,
    lanes), the first lowest.
    """
    slots = indices.reshape(len(indices), -1, slots_per_word, indices.shape[-1])
    words = np.zeros(slots[:, :, 0].shape, indices.dtype)
    for slot in range(slots_per_word):
        words |= slots[:, :, slot] << indices.dtype.type(bits * slot)
    return words


def pack_steps(weight: EncodedWeight) -> tuple[Array, Array]:
    """Pack a weight in steps. A step is one slot of one block for a row panel; blocks have at most 32 columns.

    Returns values (G, S, 16) and indices (G, S / slots, 16) int32, eight 4-bit indices per word, or
    six of 5 bits if blocks are longer than 16. If the last block would end past K, its indices
    count from the column `block` before K, where a kernel must read.
    """
    n, k = weight.shape
    nnz, block = weight.pattern.nnz, weight.pattern.block
    slots = slots_per_word(block)
    steps, chunk_blocks, _ = chunk(nnz, slots)
    blocks = weight.pattern.blocks(k)
    groups, chunks = count_row_panels(n), -(-blocks // chunk_blocks)
    indices = weight.indices.astype(np.uint32)
    indices[:, -1] += np.uint32(-k % block)

    def by_group(a: Array) -> Array:
        whole = np.zeros((n, chunks * chunk_blocks, nnz), a.dtype)
        whole[:, :blocks] = a
        return pad_rows(whole, n).reshape(groups, LANES, chunks * steps).transpose(0, 2, 1)

    return np.ascontiguousarray(by_group(weight.values)), pack_indices(by_group(indices), slots, 32 // slots).view(np.int32)
