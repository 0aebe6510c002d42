"""The image of a convolution laid out so that neighbouring pixels of the result read neighbouring elements, at every tap.

Each channel of the image becomes one plane for each phase of the stride, with zeros around it:

    plane[phase][row][column] = image[row * stride + phase - zeros before]

A tap then reads a plane at one distance from the pixel of the result, whatever stride, padding and dilation are, so that a
vector of pixels is one load, and no tap is copied (im2col would copy each pixel once for every tap). The zeros right of a row
are those left of the next one. Pixels of the result are counted with the pitch of a plane; those right of the result's last
column are computed and not stored.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.weight_matrix import TAPS_FIRST
from tvm_balanced.schedules.base.expressions import int64

SLACK = 512  # elements after the last plane that a vector of pixels right of the result may read
LINE = 16  # elements of a cache line
ALIASED = 1024  # elements: planes so far apart share their sets of the first-level cache


@dataclass(frozen=True)
class PaddedImage:
    """How the planes of a convolution's image lie.

    Parameters
    ----------
    conv : Convolution
    """

    conv: Convolution

    @property
    def shifts(self) -> list[list[tuple[int, int]]]:
        """For each axis and tap (phase, rows or columns that it reads after the pixel's own; negative if before)."""
        conv = self.conv
        axes = zip(conv.kernel, conv.stride, conv.dilation, conv.before, strict=True)
        return [[divmod(tap * dilation - low, s)[::-1] for tap in range(taps)] for taps, s, dilation, low in axes]

    @property
    def phases(self) -> list[tuple[int, int, int]]:
        """The phases that a tap reads, each a plane."""
        return [(d, h, w) for d, h, w in itertools.product(*(sorted({phase for phase, _ in axis}) for axis in self.shifts))]

    @property
    def lead(self) -> list[int]:
        """Zeros before the first element of each axis of a plane."""
        return [max(0, -min(shift for _, shift in axis)) for axis in self.shifts]

    @property
    def counts(self) -> list[int]:
        """Elements of the image along each axis of the plane that has most."""
        return [-(-size // s) for size, s in zip(self.conv.spread_size, self.conv.stride, strict=True)]

    @property
    def extents(self) -> list[int]:
        """Depth, rows and pitch of a plane."""
        found = []
        for axis, (lead, count, out) in enumerate(zip(self.lead, self.counts, self.conv.outputs, strict=True)):
            rest = max(0, out + max(shift for _, shift in self.shifts[axis]) - count)
            found.append(max(count + (max(lead, rest) if axis == 2 else lead + rest), out))
        return found

    @property
    def plane(self) -> int:
        """Elements from one plane to the next: whole cache lines, and not so many that planes share their sets of the cache."""
        tail = max(0, self.lead[2] + max(shift for _, shift in self.shifts[2]))
        lines = -(-(math.prod(self.extents) + tail) // LINE) * LINE
        return lines + (LINE if lines % (ALIASED // 2) == 0 else 0)

    @property
    def channel(self) -> int:
        """Elements from one channel to the next."""
        return len(self.phases) * self.plane

    @property
    def elements(self) -> int:
        """Elements of one image."""
        return self.conv.channels * self.channel + SLACK

    def tap_offsets(self) -> list[int]:
        """Return where each tap of the kernel, in the order of memory, reads the planes of a channel for pixel 0 of the result."""
        _, rows, pitch = self.extents
        lead, places = self.lead, {phase: place for place, phase in enumerate(self.phases)}
        offsets = []
        for d, h, w in itertools.product(*self.shifts):
            at = ((d[1] + lead[0]) * rows + h[1] + lead[1]) * pitch + w[1] + lead[2]
            offsets.append(places[d[0], h[0], w[0]] * self.plane + at)
        return offsets

    def lay_out(self, x: tirx.Buffer, padded: tirx.Buffer, image: Any, channel: Any) -> None:
        """Store the planes of a channel of an image of x (batch, channels * pixels). Call it inside TVMScript."""
        for place, phase in enumerate(self.phases):
            self._lay_out_plane(x, padded, (image, channel), channel * self.channel + place * self.plane, phase)

    def _lay_out_plane(
        self, x: tirx.Buffer, padded: tirx.Buffer, at: tuple[Any, Any], start: Any, phase: tuple[int, int, int]
    ) -> None:
        conv, (depth, rows, pitch) = self.conv, self.extents
        image, channel = at
        filled = [-(-(size - f) // s) for size, f, s in zip(conv.spread_size, phase, conv.stride, strict=True)]
        lead = self.lead

        def zeros(first: Any, count: int) -> None:
            if count > 0:
                with T.serial(int64(count)) as i:
                    T.buffer_store(padded, T.float32(0), [image, first + i])

        def row(d: Any, h: Any) -> None:
            first = start + (d * rows + h) * pitch
            zeros(first, lead[2])
            source = [(d - lead[0]) * conv.stride[0] + phase[0], (h - lead[1]) * conv.stride[1] + phase[1]]
            with T.serial(int64(filled[2])) as i:
                column = i * conv.stride[2] + phase[2]
                value = self._element(x, (image, channel), [*source, column])
                T.buffer_store(padded, value, [image, first + lead[2] + i])
            zeros(first + lead[2] + filled[2], pitch - lead[2] - filled[2])

        def slab(d: Any) -> None:
            first = start + d * rows * pitch
            zeros(first, lead[1] * pitch)
            with T.serial(int64(filled[1])) as h:
                row(d, h + lead[1])
            zeros(first + (lead[1] + filled[1]) * pitch, (rows - lead[1] - filled[1]) * pitch)

        zeros(start, lead[0] * rows * pitch)
        with T.serial(int64(filled[0])) as d:
            slab(d + lead[0])
        done = (lead[0] + filled[0]) * rows * pitch
        zeros(start + done, self.plane - done)

    def _element(self, x: tirx.Buffer, at: tuple[Any, Any], place: Sequence[Any]) -> Any:
        """Return the element of the spread image at a place; zero between the elements of the image."""
        image, channel = at
        spread, (depth, height, width) = self.conv.spread, self.conv.size
        d, h, w = (part // s if s > 1 else part for part, s in zip(place, spread, strict=True))
        element = x[image, ((channel * depth + d) * height + h) * width + w]
        between = [part % s == 0 for part, s in zip(place, spread, strict=True) if s > 1]
        return T.if_then_else(tirx.all(*between), element, T.float32(0)) if between else element


def column_taps(conv: Convolution) -> list[tuple[int, int]]:
    """Return (channel of the group, tap) of each column of the weight's matrix."""
    pairs = itertools.product(range(conv.taps), range(conv.depth))
    if conv.order == TAPS_FIRST:
        return [(channel, tap) for tap, channel in pairs]
    return [(channel, tap) for channel in range(conv.depth) for tap in range(conv.taps)]
