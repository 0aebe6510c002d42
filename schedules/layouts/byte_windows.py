"""Windows of 64 columns for kernels of 8-bit dot products: how cpu_avx512_i8 and cpu_neon_i8 lay a weight out.

A window is four blocks of 16. A step takes one slot of each of its blocks for the 16 rows of a row panel: four bytes a row, which
are one lane of a dot product.

    values       (G, S, 64)      int8    four slots of each of 16 rows a step, S = windows * nnz steps
    indices      (G, S / 2, 64)  uint8   position inside the block for two steps, the first in the low half
    scales       (G, 16)         float32
    totals       (G, 16)         int32   the sum of a row's values

A wide window is one block of 64, of which a step takes four slots, whatever quarters they are in. Their indices need six bits:

    indices      (G, S, 64)      uint8   position inside the window, S = windows * nnz / 4 steps
"""

import numpy as np

from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.schedules.layouts.rounded_weight import round_weight
from tvm_balanced.schedules.layouts.row_panels import LANES, count_row_panels, pad_rows

BLOCK = 16
BLOCKS = 4  # blocks of a window
WINDOW = BLOCK * BLOCKS
NNZ_WIDE = (4, 8, 12, 16, 24, 32)  # slots of a wide window
PARTS = ("values", "indices", "scales", "totals")


def count_windows(k: int, nnz: int) -> int:
    """Return the windows of a row. If a window has an odd number of steps the number is even, since
    two steps share indices.
    """
    windows = -(-k // WINDOW)
    return windows + windows % 2 if nnz % 2 else windows


def steps_of_chunk(nnz: int) -> int:
    """Return the steps that share no index with another chunk's: those of one window, or of two if a window has an odd number."""
    return nnz if nnz % 2 == 0 else 2 * nnz


def pack_wide_windows(weight: EncodedWeight) -> tuple[Array, ...]:
    """Round a weight in blocks of 64 to 8 bits and lay it out; return the arrays PARTS."""
    n, nnz = weight.shape[0], weight.pattern.nnz
    rounded, scales, totals = round_weight(weight.values)

    def by_group(a: Array) -> Array:
        """Reorder slots (N, windows, nnz) to (panels, steps, 64)."""
        lanes = pad_rows(a, n).reshape(count_row_panels(n), LANES, -1, nnz // BLOCKS, BLOCKS).transpose(0, 2, 3, 1, 4)
        return np.ascontiguousarray(lanes).reshape(count_row_panels(n), -1, WINDOW)

    panels = (pad_rows(part, n).reshape(-1, LANES) for part in (scales, totals))
    return by_group(rounded), by_group(weight.indices.astype(np.uint8)), *panels


def pack_windows(weight: EncodedWeight, places: Array | None = None, groups: int = 1) -> tuple[Array, ...]:
    """Round a weight to 8 bits and lay it out; return the arrays PARTS.

    Parameters
    ----------
    weight : EncodedWeight
    places : array, optional
        The block of the windows that each block of the weight becomes, ascending; by default its own. Others are zero.
    groups : int
        Of rows, each of which gets row panels of its own.
    """
    n = weight.shape[0]
    nnz, places = weight.pattern.nnz, np.arange(weight.indices.shape[1]) if places is None else places
    windows = count_windows((int(places[-1]) + 1) * BLOCK, nnz)
    rounded, scales, totals = round_weight(weight.values)

    def by_group(a: Array) -> Array:
        """Reorder slots (N, blocks, nnz) to (panels, steps, 64)."""
        whole = np.zeros((n, windows * BLOCKS, nnz), a.dtype)
        whole[:, places] = a
        rows = pad_rows(whole.reshape(n, windows, BLOCKS, nnz), n, groups)
        lanes = rows.reshape(-1, LANES, windows, BLOCKS, nnz).transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(lanes).reshape(len(lanes), windows * nnz, WINDOW)

    positions = by_group(weight.indices.astype(np.uint8))
    return (
        by_group(rounded),
        positions[:, ::2] | positions[:, 1::2] << np.uint8(4),
        pad_rows(scales, n, groups).reshape(-1, LANES),
        pad_rows(totals, n, groups).reshape(-1, LANES),
    )
