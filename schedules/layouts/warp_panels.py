"""Warp panels, rows of a weight as CUDA warps read them: 32 rows, one lane per row, all lanes in
the same block of their rows.

For S slots per row, padded so that whole blocks, whole index words and whole chunks end together:

    values     (N / 32, S / V, 32, V)  a lane's next V nonzeros, 16 bytes; if they have 8 bits, eight
    positions  (N / 32, S / 8, 32)     uint32; bits 4s to 4s + 3: position inside the block of the s-th of eight slots
           or  (N / 32, S / 8, 32)     uint16; where eight of 16 are kept, a mask of them: half the bytes
           or  (N / 32, S / 8, 32)     uint64; for blocks of 32 and 64, a byte for each of the eight slots

A byte of a mask is looked up in a table of 256 words: the positions of the lower byte's bits from the lowest bits of a word up,
those of the upper byte's up to its highest. As a mask has eight bits, the two words fill each other up.

A warp reads 512 consecutive bytes of values at a time. Its lanes then read x at columns of the same
block, 16 floats or 8 words of halves. These lie in different banks of shared memory, or are the
same word. So do 32 floats, and 32 or 64 halves.
"""

from typing import Any

import numpy as np
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules.layouts.row_panels import NNZ, SLOTS_PER_WORD, chunk, fit_block, pack_indices

BLOCK = 16
LONG = (32, 64)  # blocks whose indices take a byte
WARP = 32
INDEX_BITS = 4  # of an index in a block of 16
LOAD_BYTES = 16  # the widest load of a lane
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


def slots_per_load(dtype: str) -> int:
    """Return how many values of `dtype` a lane loads at once, no more than a word of positions is for."""
    return min(LOAD_BYTES // BYTES[dtype], SLOTS_PER_WORD)


def count_warp_panels(n: int) -> int:
    """Return the number of warp panels (32 rows) of N rows."""
    return -(-n // WARP)


def count_chunks(k: int, nnz: int, block: int = BLOCK) -> int:
    """Return the chunks of a row, padded so that they divide among warps."""
    columns = chunk(nnz)[1] * block
    return round_up(-(-k // columns))


def round_up(count: int) -> int:
    """Round up to a multiple of a power of two, the highest that adds at most a sixteenth."""
    multiples = (-(-count // power) * power for power in (16, 8, 4, 2, 1))
    return next(multiple for multiple in multiples if 16 * (multiple - count) <= count)


def fit(found: Detection) -> BalancedPattern | None:
    """Return the pattern of blocks of 16 that stores the nonzeros; None if it saves nothing."""
    return fit_block(found, BLOCK, NNZ)


def fit_any_block(found: Detection) -> BalancedPattern | None:
    """Return the pattern of blocks of 16, 32 or 64 that stores the nonzeros in the fewest bytes in half precision; None
    if none saves anything.
    """
    patterns = [fit(found), *(fit_block(found, block, NNZ) for block in LONG if found.covering(block).nnz <= NNZ[-1])]
    return min((p for p in patterns if p is not None), key=lambda p: p.nnz / p.block * (2 + position_bytes(p)), default=None)


def position_bytes(pattern: BalancedPattern) -> float:
    """Return the bytes of a slot's position."""
    return 1.0 if pattern.block > BLOCK else 0.25 if masked(pattern.nnz, pattern.block) else 0.5


def masked(nnz: int, block: int = BLOCK) -> bool:
    """Whether positions are stored as masks, not as indices."""
    return nnz == SLOTS_PER_WORD and block == BLOCK


def words_of(block: int) -> str:
    """Return the dtype of a word with the indices of eight slots."""
    return "uint32" if block <= BLOCK else "uint64"


def pack_warps(weight: EncodedWeight, dtype: str) -> tuple[Array, Array]:
    """Pack a weight as this file's docstring says; unused slots hold the value 0."""
    n, k = weight.shape
    nnz, block, per_load = weight.pattern.nnz, weight.pattern.block, slots_per_load(dtype)
    positions: Array
    slots = count_chunks(k, nnz, block) * chunk(nnz)[0]

    def by_lane(a: Array, together: int) -> Array:
        whole = np.zeros((count_warp_panels(n) * WARP, slots), a.dtype)
        whole[:n, : a.shape[1] * nnz] = a.reshape(n, -1)
        return np.ascontiguousarray(whole.reshape(-1, WARP, slots // together, together).transpose(0, 2, 1, 3))

    if masked(nnz, block):
        kept, masks = with_masks(weight)
        none = (1 << nnz) - 1  # for a missing block, as many bits as others have
        bits = np.full((count_warp_panels(n) * WARP, slots // nnz), none, np.uint16)
        bits[:n, : masks.shape[1]] = masks
        positions = np.ascontiguousarray(bits.reshape(-1, WARP, slots // nnz).transpose(0, 2, 1))
    else:
        kept, slotted = weight.values, by_lane(weight.indices.astype(words_of(block)), SLOTS_PER_WORD)  # (G, S / 8, 32, 8)
        by_slot = slotted.reshape(-1, WARP, SLOTS_PER_WORD).swapaxes(1, 2)
        positions = pack_indices(by_slot, SLOTS_PER_WORD, index_bits(block))[:, 0].reshape(slotted.shape[:3])
    return by_lane(kept.astype(numpy_dtype(dtype)), per_load), positions


def with_columns(weight: EncodedWeight) -> tuple[Array, Array]:
    """Return the values of each block by ascending column, and their columns, which differ inside a block.

    Unused slots get unused columns, so that the i-th slot of `nnz` lies in columns i to 16 - nnz +
    i.

    Parameters
    ----------
    weight : EncodedWeight
        In blocks of 16.

    Returns
    -------
    values (N, blocks, nnz), columns (N, blocks, nnz) uint8
    """
    values, columns = weight.values, weight.indices
    row, block = np.nonzero((values == 0).any(axis=2))
    if not row.size:  # no unused slots, as in most weights: sorting their blocks took half of the time to compile a model
        return values, columns
    values, columns, few = values.copy(), columns.copy(), values[row, block]
    dense = np.zeros((row.size, BLOCK), values.dtype)
    rest, slot = np.nonzero(few)
    dense[rest, columns[row, block][rest, slot]] = few[rest, slot]
    columns[row, block] = np.sort(np.argsort(dense == 0, axis=1, kind="stable")[:, : values.shape[2]], axis=1)
    values[row, block] = np.take_along_axis(dense, columns[row, block].astype(np.int64), axis=1)
    return values, columns


def with_masks(weight: EncodedWeight) -> tuple[Array, Array]:
    """Return what `with_columns` returns, with a 16-bit mask for the columns of each block: (N, blocks) uint16."""
    values, columns = with_columns(weight)
    return values, np.bitwise_or.reduce(np.uint16(1) << columns.astype(np.uint16), axis=2)


def pack_warp_bias(bias: Array) -> Array:
    """Pack a bias (N,) into warp panels: (N / 32, 32), float32."""
    padded = np.zeros(count_warp_panels(len(bias)) * WARP, np.float32)
    padded[: len(bias)] = bias
    return padded.reshape(-1, WARP)


def columns_inside(column: Any, k: int, together: int) -> Any:
    """Whether a row of x has such a column. If K allows, this is the same for all `together`
    columns that are copied at once.
    """
    return column // together < k // together if k % together == 0 else column < k


def index_bits(block: int) -> int:
    """Return the bits of an index."""
    return INDEX_BITS if block <= BLOCK else 8


def index_of(word: Any, slot: Any, block: int = BLOCK) -> Any:
    """Return the position inside the block that the `slot`-th of a word's eight slots holds, an int64."""
    bits, dtype = index_bits(block), words_of(block)
    shifted = T.shift_right(word, T.cast(slot * bits, dtype))
    return T.cast(T.bitwise_and(shifted, tirx.const((1 << bits) - 1, dtype)), "int64")


def before(word: Any, byte: Any, bit: Any) -> Any:
    """Return a word of positions with that of a bit of a mask's lower byte put before them, if it is set."""
    more = T.bitwise_or(T.shift_left(word, T.uint32(INDEX_BITS)), T.cast(bit, "uint32"))
    return tirx.Select(_is_set(byte, bit), more, word)


def behind(word: Any, byte: Any, bit: Any) -> Any:
    """Return a word of positions with that of a bit of a mask's upper byte put behind them, if it is set: they end with the word.
    Of a mask of eight bits, those of the lower byte end where they begin.
    """
    position = T.shift_left(T.cast(bit + SLOTS_PER_WORD, "uint32"), T.uint32(32 - INDEX_BITS))
    return tirx.Select(_is_set(byte, bit), T.bitwise_or(T.shift_right(word, T.uint32(INDEX_BITS)), position), word)


def _is_set(byte: Any, bit: Any) -> Any:
    return T.bitwise_and(T.cast(byte, "uint32"), T.shift_left(T.uint32(1), T.cast(bit, "uint32"))) != T.uint32(0)
