"""The part of an image that a tile of a convolution's result reads, laid out so that neighbouring pixels read neighbours.

Each channel becomes one plane for each phase of the stride, with zeros where it goes past the image:

    plane[phase][row][column] = image[(row + first row) * stride + phase]

A tap then reads a plane at one distance from the pixel of the result, whatever stride, padding and dilation are, so that a
vector of pixels is one load, and no tap is copied (im2col would copy each pixel once for every tap). Rows that are whole have
zeros on one side only: those right of a row are those left of the next one. Pixels of the result are counted with the pitch of a
plane; those right of the result's last column are computed and not stored.

Planes of a patch are neighbours in memory, where planes of a whole padded image would each be in another page.

A load that lies across two cache lines counts as two, and with vectors of 16 that is every load beside an aligned one. So
patches may instead have planes of their own for each column shift of a tap, three of a 3x3 kernel. Their rows begin at a
multiple of eight elements and have the tile's pixels alone:

    plane[phase, shift][row][column] = image[(row + first row) * stride + phase, (column + shift) * stride + phase]
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir.image_rows import copy_elements, store_zeros
from tvm_balanced.schedules.tir.pixel_tiles import PixelTiles

SLACK = 512  # elements after the last plane that a vector of pixels right of the result may read
LINE = 16  # elements of a cache line

WIDTH = 2  # the axis of columns
UNROLLED = 7  # taps or planes along an axis up to which none is in a loop: 32x32 taps one by one took ten minutes to compile

Column = tuple[int, int]  # a phase, and the first column of its planes, counted from the first pixel; 0 for depth and height


def tap_shifts(conv: Convolution) -> list[list[tuple[int, int]]]:
    """Return for each axis and tap (phase, rows or columns of its plane that it reads after the pixel's own)."""
    axes = zip(conv.kernel, conv.stride, conv.dilation, conv.before, strict=True)
    return [[divmod(tap * dilation - low, s)[::-1] for tap in range(taps)] for taps, s, dilation, low in axes]


def reach(conv: Convolution) -> list[tuple[int, int]]:
    """Return the least and the largest shift of a tap along each axis: those of the first tap and of the last."""
    axes = zip(conv.kernel, conv.stride, conv.dilation, conv.before, strict=True)
    return [(-low // s, ((taps - 1) * dilation - low) // s) for taps, s, dilation, low in axes]


def divmod_of(number: Any, divisor: int) -> tuple[Any, Any]:
    """Return quotient and remainder, rounded down, of a number or an expression."""
    if isinstance(number, int):
        return divmod(number, divisor)
    return tirx.floordiv(number, divisor), tirx.floormod(number, divisor)


def place_of(phase: Any, phases: list[int]) -> Any:
    """Return the place of a phase, a number or an expression, among ascending ones."""
    if isinstance(phase, int):
        return phases.index(phase)
    step = phases[1] - phases[0] if len(phases) > 1 else 1
    if phases == list(range(phases[0], phases[-1] + 1, step)):
        return tirx.floordiv(phase - phases[0], step)
    return sum((T.cast(phase > known, "int64") for known in phases[1:]), T.cast(phase > phases[0], "int64"))


def in_pieces(count: int, looped: bool) -> list[range]:
    """Return the numbers below `count`: all together if they are many and may be `looped` over, else each by itself."""
    return [range(count)] if looped and count > UNROLLED else [range(number, number + 1) for number in range(count)]


def in_loops(ranges: Sequence[range], emit: Callable[..., None], *at: Any) -> None:
    """Call `emit` with a number of each range: in a loop, or as it is where it is the only one. Call it inside TVMScript."""
    if not ranges:
        emit(*at)
    elif len(ranges[0]) == 1:
        in_loops(ranges[1:], emit, *at, ranges[0][0])
    else:
        with T.serial(int64(len(ranges[0]))) as i:
            in_loops(ranges[1:], emit, *at, ranges[0].start + i * ranges[0].step)


def counts(conv: Convolution) -> list[int]:
    """Return the elements of the image along each axis of the plane that has most."""
    return [-(-size // s) for size, s in zip(conv.spread_size, conv.stride, strict=True)]


def row_pitch(conv: Convolution) -> int:
    """Return the columns of a plane whose rows are whole."""
    (low, high), count, width = reach(conv)[2], counts(conv)[2], conv.outputs[2]
    return max(count + max(0, -low, width + high - count), width)


@dataclass(frozen=True)
class Run:
    """Neighbouring planes along an axis that are laid out alike.

    Parameters
    ----------
    place : int
        Of the first one among the planes along the axis.
    phases : range
    first : int
        First column, counted from the tile's first pixel; 0 for depth and height.
    filled : int
        Elements of the image along the axis that each of them holds.
    """

    place: int
    phases: range
    first: int
    filled: int

    def place_of(self, phase: Any) -> Any:
        """Return the place of a plane, a number or an expression, among the planes along the axis."""
        return self.place + divmod_of(phase - self.phases.start, self.phases.step)[0]

    def joined(self, following: "Run") -> "Run | None":
        """Return this and the one plane that follows; None if they are laid out otherwise."""
        step = following.phases.start - self.phases[-1]
        if (self.first, self.filled) != (following.first, following.filled) or (
            len(self.phases) > 1 and step != self.phases.step
        ):
            return None
        return replace(self, phases=range(self.phases.start, following.phases.stop, step))


@dataclass(frozen=True)
class ImagePatches:
    """How the planes of a tile lie.

    Parameters
    ----------
    conv : Convolution
    tiles : PixelTiles
    shifted : bool
        Whether each column shift of a tap has planes of its own.
    """

    conv: Convolution
    tiles: PixelTiles
    shifted: bool = False

    @cached_property
    def axes(self) -> tuple[list[Column], list[Column], list[Column]]:
        """What taps read along depth, height and width, in the order of memory; planes are the combinations."""
        depth, height, width = tap_shifts(self.conv)
        depths, heights = (sorted({(phase, 0) for phase, _ in axis}) for axis in (depth, height))
        return depths, heights, sorted({(phase, shift if self.shifted else self.first_column) for phase, shift in width})

    @property
    def whole_rows(self) -> bool:
        """Whether rows of a plane are those of the image, with zeros before."""
        return self.tiles.columns == self.conv.outputs[2] and not self.shifted

    @property
    def first_column(self) -> int:
        """The column of a plane's first element, counted from the tile's first pixel, if shifts share planes."""
        low = reach(self.conv)[2][0]
        return min(0, low) if self.whole_rows else low

    @property
    def extents(self) -> tuple[int, int, int]:
        """Depth, rows and columns of a plane."""
        (first, last), (above, below), (left, right) = reach(self.conv)
        columns = row_pitch(self.conv) if self.whole_rows else self.tiles.columns + right - left
        return 1 + last - first, self.tiles.rows + below - above, self.tiles.pitch if self.shifted else columns

    @property
    def plane(self) -> int:
        """Elements from one plane to the next: whole cache lines."""
        tail = 0 if self.shifted else max(0, reach(self.conv)[2][1] - self.first_column)
        return -(-(math.prod(self.extents) + tail) // LINE) * LINE

    @property
    def channel(self) -> int:
        """Elements from one channel to the next."""
        return math.prod(map(len, self.axes)) * self.plane

    def fill_table(self, table: tirx.Buffer, channel: Any) -> None:
        """Store where each tap of a channel of a tile of K, in the order of memory, reads for a tile's first pixel.

        Call it inside TVMScript.
        """
        _, height, width = self.conv.kernel

        def store(d: Any, h: Any, w: Any) -> None:
            offset = sum(self._tap_offset(axis, tap) for axis, tap in enumerate((d, h, w)))
            place = ((channel * self.conv.kernel[0] + d) * height + h) * width + w
            T.buffer_store(table, T.cast(channel * self.channel + offset, "int32"), [place])

        pieces = [in_pieces(taps, looped=not (self.shifted and axis == WIDTH)) for axis, taps in enumerate(self.conv.kernel)]
        for taps in itertools.product(*pieces):
            in_loops(taps, store)

    def _tap_offset(self, axis: int, tap: Any) -> Any:
        """Return what a tap along an axis adds to where a pixel's planes are read; `tap` is a number or an expression."""
        conv, columns = self.conv, self.axes[axis]
        shift, phase = divmod_of(tap * conv.dilation[axis] - conv.before[axis], conv.stride[axis])
        planes = self.plane * math.prod(map(len, self.axes[axis + 1 :]))
        if self.shifted and axis == WIDTH:
            return columns.index((phase, shift)) * planes
        step = math.prod(self.extents[axis + 1 :])
        low = self.first_column if axis == WIDTH else reach(conv)[axis][0]
        return place_of(phase, [known for known, _ in columns]) * planes + (shift - low) * step

    def lay_out(self, x: tirx.Buffer, patch: tirx.Buffer, at: tuple[Any, Any], image: Any, channel: Any) -> None:
        """Store the planes of a channel of a tile. Call it inside TVMScript.

        Parameters
        ----------
        x : buffer (batch, channels * pixels)
        patch : buffer (tiles, elements)
        at : (tile of all images, tile of its image)
        image, channel : expressions
        """
        for runs in itertools.product(*(self._runs(axis) for axis in range(3))):
            in_loops([run.phases for run in runs], partial(self._lay_out_plane, x, patch, (*at, image, channel), runs))

    def _runs(self, axis: int) -> list[Run]:
        """Return the planes along an axis, those together that a loop lays out."""
        size, s = self.conv.spread_size[axis], self.conv.stride[axis]
        found: list[Run] = []
        for place, (phase, first) in enumerate(self.axes[axis]):
            alone = Run(place, range(phase, phase + 1), first, -(-(size - phase) // s))
            joined = found[-1].joined(alone) if found and len(self.axes[axis]) > UNROLLED else None
            found[-1:] = [joined] if joined else [*found[-1:], alone]
        return found

    def _lay_out_plane(self, x: tirx.Buffer, patch: tirx.Buffer, at: tuple[Any, ...], runs: Sequence[Run], *phase: Any) -> None:
        conv, (depth, rows, columns) = self.conv, self.extents
        place, tile, image, channel = at
        number: Any = 0
        for run, own, axis in zip(runs, phase, self.axes, strict=True):
            number = number * len(axis) + run.place_of(own)
        start = channel * self.channel + number * self.plane
        origin = self.tiles.place(tile)
        (low, _), (above, _), _ = reach(conv)
        filled, first_column = [run.filled for run in runs], runs[WIDTH].first

        def cut(first: Any, d: Any, h: Any, edges: tuple[int, int]) -> None:
            before, ending = edges
            store_zeros((patch, place, first), before)
            begin = origin[2] + first_column + before
            self._copy((x, image, channel), (patch, place, first + before), (d, h, begin), phase, ending - before)
            store_zeros((patch, place, first + ending), columns - ending)

        def row(first: Any, d: Any, h: Any, cuts: list[tuple[tuple[int, int], list[int]]]) -> None:
            (edges, tiles), *others = cuts
            if not others:
                cut(first, d, h, edges)
                return
            across = tile % self.tiles.grid[2]
            with T.If(tirx.any(*(across == t for t in tiles))):
                with T.Then():
                    cut(first, d, h, edges)
                with T.Else():
                    row(first, d, h, others)

        with T.serial(int64(depth)) as i, T.serial(int64(rows)) as j:
            d, h, first = origin[0] + low + i, origin[1] + above + j, start + (i * rows + j) * columns
            with T.If(tirx.all(d >= 0, d < filled[0], h >= 0, h < filled[1])):
                with T.Then():
                    row(first, d, h, self._cuts(first_column, filled[2]))
                with T.Else():
                    store_zeros((patch, place, first), columns)
        done = depth * rows * columns
        store_zeros((patch, place, start + done), self.plane - done)

    def _cuts(self, first: int, filled: int) -> list[tuple[tuple[int, int], list[int]]]:
        """Return which elements of a plane's rows are in the image, and of which tiles across; most tiles come last."""
        columns, width, found = self.extents[2], self.conv.outputs[2], dict[tuple[int, int], list[int]]()
        for t in range(self.tiles.grid[2]):
            left = min(t * self.tiles.columns, width - self.tiles.columns) + first
            before = min(max(0, -left), columns)
            found.setdefault((before, max(before, min(filled - left, columns))), []).append(t)
        return sorted(found.items(), key=lambda item: len(item[1]))

    def _copy(
        self, x: tuple[tirx.Buffer, Any, Any], row: tuple[tirx.Buffer, Any, Any], at: tuple[Any, ...], phase: Any, count: int
    ) -> None:
        """Copy elements of a row of an image's channel, from a place of its phase on."""
        (images, image, channel), (patch, place, first), stride = x, row, self.conv.stride
        if max(self.conv.spread) == 1:
            d, h, w = (part * s + f for part, s, f in zip(at, stride, phase, strict=True))
            _, height, width = self.conv.size
            copy_elements((images, image, ((channel * self.conv.size[0] + d) * height + h) * width + w), row, count, stride[2])
            return
        with T.serial(int64(count)) as i:
            d, h, w = (part * s + f for part, s, f in zip((*at[:2], at[2] + i), stride, phase, strict=True))
            T.buffer_store(patch, self._element(images, (image, channel), (d, h, w)), [place, first + i])

    def _element(self, x: tirx.Buffer, at: tuple[Any, Any], place: tuple[Any, ...]) -> Any:
        """Return the element of the spread image at a place; zero between the elements of the image."""
        image, channel = at
        spread, (depth, height, width) = self.conv.spread, self.conv.size
        d, h, w = (part // s if s > 1 else part for part, s in zip(place, spread, strict=True))
        element = x[image, ((channel * depth + d) * height + h) * width + w]
        between = [part % s == 0 for part, s in zip(place, spread, strict=True) if s > 1]
        return T.if_then_else(tirx.all(*between), element, T.float32(0)) if between else element
