"""What the zeros of a layer look like to the eye: a corner of its weight, and how many blocks hold how many nonzeros."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_balanced.core.encoding import Array, parts

ROWS, COLUMNS = 32, 128  # of the corner
BLOCK = 16  # of the histogram where the zeros have no pattern


@dataclass(frozen=True)
class WeightMap:
    """A corner of one weight (N, K), and the histogram of its blocks.

    Parameters
    ----------
    layer : str
    block : int
        Length of a block.
    counts : tuple of int
        counts[i] is how many blocks of the whole weight hold i nonzeros; a last block that is shorter counts too.
    corner : tuple of str
        The first rows, each a string of "1" for a nonzero and "0" for a zero.
    """

    layer: str
    block: int
    counts: tuple[int, ...]
    corner: tuple[str, ...]

    @classmethod
    def of(cls, layer: str, weight: Array, block: int = BLOCK) -> "WeightMap":
        """Return the map of a weight (N, K) in blocks of so many elements of a row."""
        edges = np.arange(0, weight.shape[1], block)
        counts = np.zeros(block + 1, np.int64)
        for rows in parts(weight):
            held = np.add.reduceat(rows != 0, edges, axis=1, dtype=np.int64)
            counts += np.bincount(held.ravel(), minlength=block + 1)
        corner = ("".join("01"[bit] for bit in row) for row in (weight[:ROWS, :COLUMNS] != 0).astype(np.int8))
        return cls(layer, block, tuple(counts.tolist()), tuple(corner))

    @property
    def zeros(self) -> Array:
        """The corner as truth values (rows, columns): where a weight is zero."""
        return np.array([[bit == "0" for bit in row] for row in self.corner], bool).reshape(len(self.corner), -1)

    @property
    def held(self) -> str:
        """How many nonzeros a block holds, in words."""
        seen = [nnz for nnz, count in enumerate(self.counts) if count]
        return f"{seen[0]} nonzeros" if len(seen) == 1 else f"{seen[0]} to {seen[-1]} nonzeros" if seen else "nothing"

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "WeightMap":
        """Return what `dataclasses.asdict` wrote."""
        return cls(row["layer"], row["block"], tuple(row["counts"]), tuple(row["corner"]))


def heaviest(maps: Sequence[tuple[int, WeightMap | None]], most: int = 3) -> tuple[WeightMap, ...]:
    """Return the maps of the layers with the most multiply-adds, given each with its own; a name counts once."""
    ordered = {one.layer: one for _, one in sorted(maps, key=lambda pair: -pair[0]) if one is not None}
    return tuple(ordered.values())[:most]
