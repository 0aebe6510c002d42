"""Tiles of a convolution's result: rows of pixels whose sums are computed together, in vectors of pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.workload import Workload

LONGEST = 256  # lanes of a tile: with its taps and the channels of a tile of K it stays in the first-level cache
STEP = 1.5  # vectors whose time a step of a register tile takes besides that of its vectors
WHOLE = 8  # elements at a multiple of which neither half of a vector of sixteen, nor one of eight, lies across two cache lines


@dataclass(frozen=True)
class PixelTiles:
    """How the pixels of a result are tiled: `rows` whole rows, or `columns` of one row, in chunks of vectors.

    Where a tile would go past the last row or column it begins earlier, and computes some pixels again.

    Parameters
    ----------
    conv : Convolution
    pitch : int
        Lanes from a row to the next.
    rows, columns : int
        Rows of a tile, and pixels of each.
    vectors, lanes : int
        Vectors of a chunk, whose sums are in registers at once, and pixels of a vector.
    """

    conv: Convolution
    pitch: int
    rows: int
    columns: int
    vectors: int
    lanes: int

    @classmethod
    def candidates(cls, conv: Convolution, pitch: int, lanes: int, most: int, exact: bool = False) -> "list[PixelTiles]":
        """Return the tiles to choose from, with up to `most` vectors in a chunk.

        `exact` allows no vector that goes past the last column.
        """
        _, height, width = conv.outputs
        return [
            cls(conv, pitch, rows, columns, vectors, lanes)
            for vectors in range(1, most + 1)
            for rows, columns in _shapes(height, width, pitch, vectors * lanes, exact)
        ]

    @classmethod
    def aligned(cls, conv: Convolution, lanes: int, most: int) -> "list[PixelTiles]":
        """Return the tiles to choose from, of one chunk of up to `most` vectors, whose rows begin at multiples of `WHOLE`."""
        _, height, width = conv.outputs
        step, found = min(WHOLE, lanes), []
        for pitch in range(step, min(most * lanes, width + step - 1) + 1, step):
            columns = min(pitch, width)
            for rows in range(1, height + 1):
                vectors = -(-((rows - 1) * pitch + columns) // lanes)
                if vectors <= most:
                    found.append(cls(conv, pitch, rows, columns, vectors, lanes))
        return found

    @property
    def lanes_used(self) -> int:
        """Lanes from the first pixel of a tile to its last."""
        return (self.rows - 1) * self.pitch + self.columns

    @property
    def chunks(self) -> int:
        """Chunks of a tile."""
        return -(-self.lanes_used // (self.vectors * self.lanes))

    @property
    def lanes_padded(self) -> int:
        """Lanes of a tile's sums."""
        return self.chunks * self.vectors * self.lanes

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tiles of an image along depth, height and width."""
        depth, height, width = self.conv.outputs
        return depth, -(-height // self.rows), -(-width // self.columns)

    @property
    def count(self) -> int:
        """Tiles of an image."""
        return math.prod(self.grid)

    @property
    def cost(self) -> float:
        """Vectors that an image takes for each nonzero of the weight, with what a step takes besides."""
        return self.count * self.chunks * (self.vectors + STEP)

    @property
    def width(self) -> int:
        """Pixels that are stored at once: the widest vector that a row of a tile fills."""
        return next(w for w in (self.lanes, self.lanes // 2, self.lanes // 4, self.lanes // 8, 1) if 1 <= w <= self.columns)

    @property
    def stores(self) -> int:
        """Vectors that a tile stores for each row of the weight."""
        return self.rows * -(-self.columns // self.width)

    def place(self, tile: Any) -> tuple[Any, Any, Any]:
        """Return depth, row and column of the first pixel of a tile."""
        _, height, width = self.conv.outputs
        _, down, across = self.grid
        row, column = tile // across % down * self.rows, tile % across * self.columns
        if down * self.rows > height:
            row = T.min(row, int64(height - self.rows))
        if across * self.columns > width:
            column = T.min(column, int64(width - self.columns))
        return tile // (down * across), row, column

    def store(
        self,
        buffers: tuple[tirx.Buffer, tirx.Buffer],
        workload: Workload,
        at: tuple[Any, Any, Any],
        read: Callable[[Any, int], Any],
        activation: Callable[[Any], Any],
    ) -> None:
        """Store a row of the weight's results of a tile. Call it inside TVMScript.

        Parameters
        ----------
        buffers : (residual, y), each (batch, N * pixels)
        workload : Workload
        at : (image, tile, row of the weight)
        read : callable
            From a lane of the tile and a number of lanes to their sums.
        activation : callable
        """
        residual, y = buffers
        image, tile, n = at
        outputs, (depth, row, column) = self.conv.outputs, self.place(tile)
        width = self.width
        with T.serial(int64(self.rows)) as h, T.serial(int64(-(-self.columns // width))) as v:
            first = v * width if self.columns % width == 0 else T.min(v * width, int64(self.columns - width))
            pixel = ((n * outputs[0] + depth) * outputs[1] + row + h) * outputs[2] + column + first
            where = [image, T.ramp(pixel, 1, width) if width > 1 else pixel]
            total = read(h * self.pitch + first, width)
            total = total + residual[tuple(where)] if workload.residual else total
            bound = tirx.Var("total", f"float32x{width}" if width > 1 else "float32")
            T.buffer_store(y, tirx.Let(bound, total, activation(bound)), where)


def _shapes(height: int, width: int, pitch: int, chunk: int, exact: bool) -> list[tuple[int, int]]:
    """Return the (rows, columns) that tiles in chunks of so many lanes may have."""
    split = [(1, columns) for columns in range(chunk, min(width, max(LONGEST, chunk)) + 1, chunk)]
    if exact:
        return split
    most = height if width <= 2 * LONGEST else 0
    whole = [(rows, width) for rows in range(1, most + 1) if (rows - 1) * pitch + width <= max(LONGEST, width)]
    return whole + split or [(1, width)]
