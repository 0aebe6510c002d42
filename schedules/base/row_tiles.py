"""Row tiles of x: how M is split, even if it is symbolic."""

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.schedules.base.expressions import int64


@dataclass(frozen=True)
class RowTiles:
    """How the M rows of x are split into tiles of `size`; the last one may be partly empty.

    Parameters
    ----------
    m : TIR expression
        M, a constant or a fresh symbolic variable.
    size : int
        Rows of a tile, a constant even if M is symbolic.
    """

    m: Any
    size: int

    @classmethod
    def of(cls, m: int | None, longest: int, symbolic: int) -> "RowTiles":
        """Split M into tiles of at most `longest` rows, with as few empty rows as possible. If M is
        symbolic, tiles have `symbolic` rows.
        """
        if m is None:
            return cls(tirx.Var("m", "int64"), symbolic)
        if m <= longest:
            return cls(int64(m), max(m, 1))
        return cls(int64(m), min(range(longest, longest // 2 - 1, -1), key=lambda size: -m % size))

    @property
    def exact(self) -> bool:
        """Whether every tile is known to be full."""
        return isinstance(self.m, tirx.IntImm) and self.m.value % self.size == 0

    @property
    def tiles(self) -> Any:
        """Number of tiles, a constant or an expression of M."""
        return (self.m + (self.size - 1)) // self.size

    @property
    def known_tiles(self) -> int | None:
        """Number of tiles, None if M is symbolic."""
        return -(-self.m.value // self.size) if isinstance(self.m, tirx.IntImm) else None

    def at(self, tile: Any, row: Any) -> Any:
        """Return the row of x at a place in a tile; it is past the last row if the tile is partly empty."""
        return tile * self.size + row

    def read(self, tile: Any, row: Any) -> Any:
        """Return the row of x to read for a place in a tile: the last row again if the tile is partly empty."""
        return self.at(tile, row) if self.exact else T.min(self.at(tile, row), self.m - 1)
