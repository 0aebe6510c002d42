"""The part of an image that a tile of a convolution's result reads, laid out so that neighbouring pixels read neighbours.

Each channel becomes one plane for each phase of the stride, with zeros where it goes past the image:

    plane[phase][row][column] = image[(row + first row) * stride + phase]

A tap then reads a plane at one distance from the pixel of the result, whatever stride, padding and dilation are, so that a
vector of pixels is one load, and no tap is copied (im2col would copy each pixel once for every tap). Rows that are whole have
zeros on one side only: those right of a row are those left of the next one. Pixels of the result are counted with the pitch of a
plane; those right of the result's last column are computed and not stored.

Planes of a patch are neighbours in memory, where planes of a whole padded image would each be in another page.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir.pixel_tiles import PixelTiles

SLACK = 512  # elements after the last plane that a vector of pixels right of the result may read
LINE = 16  # elements of a cache line


def tap_shifts(conv: Convolution) -> list[list[tuple[int, int]]]:
    """Return for each axis and tap (phase, rows or columns of its plane that it reads after the pixel's own)."""
    axes = zip(conv.kernel, conv.stride, conv.dilation, conv.before, strict=True)
    return [[divmod(tap * dilation - low, s)[::-1] for tap in range(taps)] for taps, s, dilation, low in axes]


def reach(conv: Convolution) -> list[tuple[int, int]]:
    """Return the least and the largest shift of a tap along each axis."""
    return [(min(shift for _, shift in axis), max(shift for _, shift in axis)) for axis in tap_shifts(conv)]


def counts(conv: Convolution) -> list[int]:
    """Return the elements of the image along each axis of the plane that has most."""
    return [-(-size // s) for size, s in zip(conv.spread_size, conv.stride, strict=True)]


def row_pitch(conv: Convolution) -> int:
    """Return the columns of a plane whose rows are whole."""
    (low, high), count, width = reach(conv)[2], counts(conv)[2], conv.outputs[2]
    return max(count + max(0, -low, width + high - count), width)


@dataclass(frozen=True)
class ImagePatches:
    """How the planes of a tile lie.

    Parameters
    ----------
    conv : Convolution
    tiles : PixelTiles
    """

    conv: Convolution
    tiles: PixelTiles

    @property
    def phases(self) -> list[tuple[int, int, int]]:
        """The phases that a tap reads, each a plane."""
        depth, height, width = (sorted({phase for phase, _ in axis}) for axis in tap_shifts(self.conv))
        return list(itertools.product(depth, height, width))

    @property
    def whole_rows(self) -> bool:
        """Whether rows of a plane are those of the image, with zeros before."""
        return self.tiles.columns == self.conv.outputs[2]

    @property
    def first_column(self) -> int:
        """The column of a plane's first element, counted from the tile's first pixel."""
        low = reach(self.conv)[2][0]
        return min(0, low) if self.whole_rows else low

    @property
    def extents(self) -> tuple[int, int, int]:
        """Depth, rows and columns of a plane."""
        (first, last), (above, below), (left, right) = reach(self.conv)
        columns = row_pitch(self.conv) if self.whole_rows else self.tiles.columns + right - left
        return 1 + last - first, self.tiles.rows + below - above, columns

    @property
    def plane(self) -> int:
        """Elements from one plane to the next: whole cache lines."""
        tail = max(0, reach(self.conv)[2][1] - self.first_column)
        return -(-(math.prod(self.extents) + tail) // LINE) * LINE

    @property
    def channel(self) -> int:
        """Elements from one channel to the next."""
        return len(self.phases) * self.plane

    def tap_offsets(self) -> list[int]:
        """Return where each tap, in the order of memory, reads the planes of a channel for the tile's first pixel."""
        (first, _), (above, _), _ = reach(self.conv)
        _, rows, columns = self.extents
        places = {phase: place for place, phase in enumerate(self.phases)}
        return [
            places[d[0], h[0], w[0]] * self.plane + ((d[1] - first) * rows + h[1] - above) * columns + w[1] - self.first_column
            for d, h, w in itertools.product(*tap_shifts(self.conv))
        ]

    def lay_out(self, x: tirx.Buffer, patch: tirx.Buffer, at: tuple[Any, Any], image: Any, channel: Any) -> None:
        """Store the planes of a channel of a tile. Call it inside TVMScript.

        Parameters
        ----------
        x : buffer (batch, channels * pixels)
        patch : buffer (tiles, elements)
        at : (tile of all images, tile of its image)
        image, channel : expressions
        """
        for place, phase in enumerate(self.phases):
            start = channel * self.channel + place * self.plane
            self._lay_out_plane(x, patch, (*at, image, channel), start, phase)

    def _lay_out_plane(
        self, x: tirx.Buffer, patch: tirx.Buffer, at: tuple[Any, ...], start: Any, phase: tuple[int, int, int]
    ) -> None:
        conv, (depth, rows, columns) = self.conv, self.extents
        place, tile, image, channel = at
        origin = self.tiles.place(tile)
        (low, _), (above, _), _ = reach(conv)
        filled = [-(-(size - f) // s) for size, f, s in zip(conv.spread_size, phase, conv.stride, strict=True)]
        left = int64(self.first_column) if self.whole_rows else origin[2] + self.first_column

        def zeros(first: Any, count: Any) -> None:
            with T.serial(count) as i:
                T.buffer_store(patch, T.float32(0), [place, first + i])

        def copied(first: Any, d: Any, h: Any) -> None:
            before = T.min(T.max(int64(0) - left, int64(0)), int64(columns))
            ending = T.max(T.min(int64(filled[2]) - left, int64(columns)), before)
            zeros(first, before)
            with T.serial(ending - before) as i:
                source = (part * s + f for part, s, f in zip((d, h, before + left + i), conv.stride, phase, strict=True))
                T.buffer_store(patch, self._element(x, (image, channel), tuple(source)), [place, first + before + i])
            zeros(first + ending, int64(columns) - ending)

        with T.serial(int64(depth)) as i, T.serial(int64(rows)) as j:
            d, h, first = origin[0] + low + i, origin[1] + above + j, start + (i * rows + j) * columns
            with T.If(tirx.all(d >= 0, d < filled[0], h >= 0, h < filled[1])):
                with T.Then():
                    copied(first, d, h)
                with T.Else():
                    zeros(first, int64(columns))
        done = depth * rows * columns
        zeros(start + done, int64(self.plane - done))

    def _element(self, x: tirx.Buffer, at: tuple[Any, Any], place: tuple[Any, ...]) -> Any:
        """Return the element of the spread image at a place; zero between the elements of the image."""
        image, channel = at
        spread, (depth, height, width) = self.conv.spread, self.conv.size
        d, h, w = (part // s if s > 1 else part for part, s in zip(place, spread, strict=True))
        element = x[image, ((channel * depth + d) * height + h) * width + w]
        between = [part % s == 0 for part, s in zip(place, spread, strict=True) if s > 1]
        return T.if_then_else(tirx.all(*between), element, T.float32(0)) if between else element
