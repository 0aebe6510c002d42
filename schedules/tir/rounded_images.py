"""Images in 8 bits, channels last: what convolutions of 8-bit dot products begin with.

A whole image is rounded as a row of x is (`rounded_rows.py`), to 254 steps from its smallest value to its largest. It is laid out
so that a tap of a pixel of the result is a run of bytes, and neighbouring taps of a row of the kernel are one run:

    rounded[image][(depth, row, column) of the padded image][channel]      uint8

If the convolution has groups, what a group reads of an image is an image of its own, with a step of its own: (batch * groups,
channels of a group * pixels) is x as it lies.

Zeros around the image, and between its elements if it is spread, are the image's `zero`, so that they stay exact. Channels are
padded to a multiple of four or sixteen; what lies there meets values of 0.

8 bits have no NaN and no infinity: if an image has one anywhere, its step is NaN, and so are all of its results.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.weight_matrix import TAPS_FIRST
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import LANES
from tvm_balanced.schedules.tir.register_transpose import BARRIER_LANES, optimization_barrier, transpose_registers
from tvm_balanced.schedules.tir.rounded_rows import PARALLEL_ELEMENTS, SIGN, STEPS, step_between, whole

SLACK = 128  # bytes after the last pixel that a window may read
LINE = 64  # bytes that are stored at once: the channels of a pixel in a tile of sixteen pixels by as many fours of channels
PART = 4096  # elements of an image whose extremes are found together
MOST_BYTES = 1 << 31
CHAINS = 4  # vectors of extremes, so that none waits for the one before


def refuse_convolution(conv: Convolution) -> str | None:
    """Return why images of a convolution are not rounded, None if they are."""
    nbytes = ImageBytes.of(conv, LANES).nbytes
    return None if nbytes < MOST_BYTES else f"an image takes {nbytes} bytes, more than places of 32 bits count"


class RoundedImage(NamedTuple):
    """Images, rounded.

    Parameters
    ----------
    values : buffer (images, bytes) uint8
        Images are those of the groups, where there are several.
    step : buffer (images,) float32
    zero : buffer (images,) int32
    """

    values: tirx.Buffer
    step: tirx.Buffer
    zero: tirx.Buffer


@dataclass(frozen=True)
class ImageBytes:
    """Where the bytes of an image lie.

    Parameters
    ----------
    conv : Convolution
        Of one group.
    pitch : int
        Bytes of a pixel.
    groups : int
        Images in what the convolution calls an image.
    """

    conv: Convolution
    pitch: int
    groups: int = 1

    @classmethod
    def of(cls, conv: Convolution, multiple: int) -> "ImageBytes":
        """Pad the channels that a group of a convolution reads to a multiple."""
        return cls(replace(conv, channels=conv.depth, groups=1), -(-conv.depth // multiple) * multiple, conv.groups)

    @property
    def extents(self) -> tuple[int, int, int]:
        """Depth, height and width of the padded image."""
        axes = zip(self.conv.spread_size, self.conv.before, self.conv.after, strict=True)
        d, h, w = (size + low + high for size, low, high in axes)
        return d, h, w

    @property
    def nbytes(self) -> int:
        """Bytes of an image, with those that a window may read after its last pixel."""
        used = math.prod(self.extents) * self.pitch
        return -(-(used + SLACK) // LINE) * LINE

    @property
    def is_padded(self) -> bool:
        """Whether the padded image has pixels that the image has not."""
        return math.prod(self.extents) != math.prod(self.conv.size)

    @property
    def joins(self) -> int:
        """Taps of a row of the kernel that are one run."""
        return self.conv.kernel[2] if self.conv.dilation[2] == 1 else 1

    @property
    def run(self) -> int:
        """Bytes of a run."""
        return self.joins * self.pitch

    @property
    def runs(self) -> int:
        """Runs of a pixel of the result."""
        return self.conv.taps // self.joins

    def start_of(self, run: Any) -> Any:
        """Return the byte where a run begins, counted from the first one's; `run` is a number or an expression."""
        conv, (_, height, width) = self.conv, self.extents
        across = conv.kernel[2] // self.joins
        d, h, w = run // (conv.kernel[1] * across), run // across % conv.kernel[1], run % across
        return ((d * conv.dilation[0] * height + h * conv.dilation[1]) * width + w * conv.dilation[2]) * self.pitch

    def columns(self) -> Array:
        """Return (run, byte in the run) of each column of the weight's matrix: (2, K)."""
        conv = self.conv
        tap, channel = np.divmod(np.arange(conv.taps * conv.depth), conv.depth)
        if conv.order != TAPS_FIRST:
            channel, tap = np.divmod(np.arange(conv.taps * conv.depth), conv.taps)
        run, place = np.divmod(tap, self.joins)
        return np.stack([run, place * self.pitch + channel])

    def pixel(self, number: Any) -> Any:
        """Return the byte of a pixel of the image, counted along its rows."""
        return self._place(number, self.conv.size, self.conv.spread, self.conv.before)

    def window(self, number: Any) -> Any:
        """Return the byte of the first tap of a pixel of the result, counted along its rows."""
        return self._place(number, self.conv.outputs, self.conv.stride, (0, 0, 0))

    def of_x(self, image: Any, place: Any) -> tuple[Any, Any]:
        """Return where an element of an image lies in x (batch, channels * pixels), counted along the image's planes."""
        return image // self.groups, image % self.groups * self.conv.elements + place

    def _region(self, x: tirx.Buffer, image: Any) -> Any:
        """Return what of x an image is."""
        row, first = self.of_x(image, int64(0))
        return x[row, first : first + self.conv.elements]

    def _place(self, number: Any, size: tuple[int, ...], step: tuple[int, ...], first: tuple[int, ...]) -> Any:
        _, height, width = self.extents
        h, w = number // size[2], number % size[2]
        d, h = (h // size[1], h % size[1]) if size[0] > 1 else (0, h)
        places = [at * s + low for at, s, low in zip((d, h, w), step, first, strict=True)]
        return ((places[0] * height + places[1]) * width + places[2]) * self.pitch

    def round_images(self, x: tirx.Buffer, lanes: int, moved_by: Any = 0) -> RoundedImage:
        """Emit the blocks that round x (batch, channels * pixels) float32 to bytes less `moved_by`, for a CPU with vectors of
        `lanes` numbers. With sixteen the schedule imports `BARRIER`. Call it inside TVMScript.
        """
        batch, size = x.shape[0] * self.groups, math.prod(self.conv.size)
        step, inverse = (T.sblock_alloc_buffer((batch,), "float32") for _ in range(2))
        zero = T.sblock_alloc_buffer((batch,), "int32")
        self._steps(x, step, inverse, zero, moved_by)
        values = T.sblock_alloc_buffer((batch, int64(self.nbytes)), "uint8")
        homes = T.sblock_alloc_buffer((int64(-(-size // LANES) * LANES),), "int32")
        if self.is_padded:
            with T.grid(int64(-(-size // LANES)), int64(LANES)) as (t, i), T.sblock("homes"):
                vt, vi = T.axis.remap("SS", [t, i])
                home = self.pixel(T.cast(vt * LANES + vi, "int32"))
                T.buffer_store(homes, T.cast(home, "int32"), [vt * LANES + vi])
            with T.grid(batch, int64(self.nbytes // LINE)) as (b, p), T.sblock("fill"):
                vb, vp = T.axis.remap("SS", [b, p])
                T.reads(zero[vb])
                T.writes(values[vb, vp * LINE : vp * LINE + LINE])
                T.buffer_store(values, T.broadcast(T.cast(zero[vb], "uint8"), LINE), [vb, T.ramp(vp * LINE, 1, LINE)])
        with T.grid(batch, int64(-(-self.pitch // LINE)), int64(-(-size // LANES))) as (b, c, t), T.sblock("lay_out"):
            vb, vc, vt = T.axis.remap("SSS", [b, c, t])
            T.reads(self._region(x, vb), inverse[vb], zero[vb], homes[0 : homes.shape[0]])
            T.writes(values[vb, 0 : self.nbytes])
            self._lay_out((x, inverse, zero, homes, values), (vb, vc, vt), lanes, moved_by)
        return RoundedImage(values, step, zero)

    def _steps(self, x: tirx.Buffer, step: tirx.Buffer, inverse: tirx.Buffer, zero: tirx.Buffer, moved_by: Any) -> None:
        """Emit the blocks that choose the step of each image."""
        batch, count = x.shape[0] * self.groups, self.conv.elements
        parts = -(-count // PART)
        highs = T.sblock_alloc_buffer((batch, int64(parts), int64(LANES)), "int32")
        lows = T.sblock_alloc_buffer((batch, int64(parts), int64(LANES)), "uint32")
        with T.grid(batch, int64(parts)) as (b, p), T.sblock("image_extremes"):
            vb, vp = T.axis.remap("SS", [b, p])
            T.reads(self._region(x, vb))
            T.writes(highs[vb, vp, 0:LANES], lows[vb, vp, 0:LANES])
            _find_extremes(self, x, (highs, lows), (vb, vp))
        with T.serial(batch) as b, T.sblock("image_step"):
            vb = T.axis.spatial(batch, b)
            T.reads(highs[vb, 0:parts, 0:LANES], lows[vb, 0:parts, 0:LANES])
            T.writes(step[vb], inverse[vb], zero[vb])
            high = T.sblock_alloc_buffer((1,), "int32", scope="local")
            low = T.sblock_alloc_buffer((1,), "uint32", scope="local")
            T.buffer_store(high, T.int32(0), [0])
            T.buffer_store(low, T.uint32(SIGN), [0])
            with T.serial(int64(parts)) as p, T.serial(int64(LANES)) as i:
                T.buffer_store(high, T.max(high[0], highs[vb, p, i]), [0])
                T.buffer_store(low, T.max(low[0], lows[vb, p, i]), [0])
            T.buffer_store(step, step_between(high[0], low[0]), [vb])
            T.buffer_store(inverse, T.float32(1) / step[vb], [vb])
            T.buffer_store(zero, whole(T.float32(0.5) - T.reinterpret("float32", low[0]) * inverse[vb]) - moved_by, [vb])

    def _lay_out(self, buffers: tuple[tirx.Buffer, ...], at: tuple[Any, ...], lanes: int, moved_by: Any) -> None:
        """Store up to 64 channels of a tile of sixteen pixels. The last tiles begin earlier where they would go past the end."""
        (x, inverse, zero, homes, values), (b, c, t) = buffers, at
        size, channels, width = math.prod(self.conv.size), self.conv.channels, min(LINE, self.pitch)
        first = T.min(t * LANES, int64(size - LANES)) if size >= LANES else int64(0)
        byte = T.min(c * LINE, int64(self.pitch - LINE)) if self.pitch > LINE else int64(0)
        moves = not isinstance(moved_by, int)  # else by 0
        shift = T.broadcast(T.cast(zero[b] + moved_by, "float32") + T.float32(0.5), LANES)

        def rounded(channel: Any) -> Any:
            plane = T.min(byte + channel, int64(channels - 1)) * size if channels != self.pitch else (byte + channel) * size
            row, place = self.of_x(b, plane + first)
            along = T.ramp(place, 1, LANES)
            if size >= LANES:
                read = x[row, along]
            else:
                read = T.masked_load(f"float32x{LANES}", x, row, along, T.ramp(0, 1, LANES) < T.broadcast(size, LANES))
            moved = T.max(read * T.broadcast(inverse[b], LANES) + shift, T.broadcast(T.float32(0), LANES))
            steps = T.min(T.cast(moved, f"int32x{LANES}"), T.broadcast(STEPS, LANES))
            return T.bitwise_and(steps - T.broadcast(moved_by, LANES), T.broadcast(255, LANES)) if moves else steps

        def four(quad: int) -> Any:
            parts = [rounded(4 * quad + byte_) for byte_ in range(4)]
            joined = parts[0]
            for place, part in enumerate(parts[1:], 1):
                joined = T.bitwise_or(joined, T.shift_left(part, T.broadcast(8 * place, LANES)))
            return joined

        # through a local buffer, which becomes registers: an expression is a tree, in which each byte would stand many times
        quads = T.sblock_alloc_buffer((width // 4 * LANES,), "int32", scope="local")
        places = [T.ramp(quad * LANES, 1, LANES) for quad in range(width // 4)]
        for quad, place in enumerate(places):
            T.buffer_store(quads, four(quad), [place])
        for p, line in enumerate(_pixels([quads[place] for place in places], lanes)[: min(size, LANES)]):
            place = T.cast(homes[first + p], "int64") if self.is_padded else (first + p) * self.pitch
            T.buffer_store(values, T.reinterpret(f"uint8x{width}", line), [b, T.ramp(place + byte, 1, width)])


def _pixels(quads: list[Any], lanes: int) -> list[Any]:
    """Return for each of sixteen pixels the bytes of all its channels, from four channels of all pixels a vector."""
    if len(quads) == 1:
        return [T.Shuffle([quads[0]], [p]) for p in range(LANES)]
    nothing = T.broadcast(T.float32(0), LANES)
    rows = [T.reinterpret(f"float32x{LANES}", quad) for quad in quads] + [nothing] * (LANES - len(quads))
    barrier = optimization_barrier if lanes == BARRIER_LANES else lambda vector: vector
    lines = [T.reinterpret(f"int32x{LANES}", line) for line in transpose_registers(rows, barrier)]
    return lines if len(quads) == LANES else [T.Shuffle([line], list(range(len(quads)))) for line in lines]


def _find_extremes(image: ImageBytes, x: tirx.Buffer, found: tuple[tirx.Buffer, tirx.Buffer], at: tuple[Any, Any]) -> None:
    """Store in `found` the largest and the smallest numbers of a part of an image, by their bits, in sixteen lanes."""
    (b, part), count = at, image.conv.elements
    length = min(PART, count)
    start = T.min(part * PART, int64(count - PART)) if count > PART else int64(0)
    high = T.sblock_alloc_buffer((CHAINS * LANES,), "int32", scope="local")
    low = T.sblock_alloc_buffer((CHAINS * LANES,), "uint32", scope="local")

    def lane(chain: int) -> Any:
        return T.ramp(chain * LANES, 1, LANES)

    def meet(chain: int, numbers: Any) -> None:
        T.buffer_store(high, T.max(high[lane(chain)], T.reinterpret(f"int32x{LANES}", numbers)), [lane(chain)])
        T.buffer_store(low, T.max(low[lane(chain)], T.reinterpret(f"uint32x{LANES}", numbers)), [lane(chain)])

    def read(place: Any) -> Any:
        row, first = image.of_x(b, place)
        return x[row, T.ramp(first, 1, LANES)]

    for chain in range(CHAINS):
        T.buffer_store(high, T.broadcast(T.int32(0), LANES), [lane(chain)])
        T.buffer_store(low, T.broadcast(T.uint32(SIGN), LANES), [lane(chain)])
    step = CHAINS * LANES
    if length >= step:
        with T.serial(int64(length // step)) as v:
            for chain in range(CHAINS):
                meet(chain, read(start + v * step + chain * LANES))
    rest = range(length // step * step, length, LANES) if length >= LANES else []
    for chain, first in enumerate(rest):
        meet(chain, read(start + min(first, length - LANES)))
    if length < LANES:
        with T.serial(int64(length)) as i:
            T.buffer_store(high, T.max(high[0], T.reinterpret("int32", x[image.of_x(b, i)])), [0])
            T.buffer_store(low, T.max(low[0], T.reinterpret("uint32", x[image.of_x(b, i)])), [0])
    for ends, chains in zip(found, (high, low), strict=True):
        pairs = [T.max(chains[lane(first)], chains[lane(first + 1)]) for first in range(0, CHAINS, 2)]
        T.buffer_store(ends, T.max(*pairs), [b, part, T.ramp(0, 1, LANES)])


def schedule_image_rounding(sch: Schedule, workload: Workload) -> None:
    """Schedule the blocks of `round_images`: on all threads if a layer's images are worth waking them."""
    conv = workload.conv
    assert conv is not None
    names = [sch.get(child).name_hint for child in sch.get_child_blocks(sch.get_sblock("root"))]
    if "homes" in names:
        sch.vectorize(sch.get_loops(sch.get_sblock("homes"))[-1])
    if workload.m is not None and workload.m // conv.pixels * conv.elements < PARALLEL_ELEMENTS:
        return
    for name in ("image_extremes", "fill", "lay_out"):
        if name in names:
            sch.parallel(sch.fuse(*sch.get_loops(sch.get_sblock(name))))
