"""What kernels of convolutions share: where a tile's pixels are read, and how its results are stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.padded_image import PaddedImage
from tvm_balanced.schedules.tir.pixel_tiles import STEP, PixelTiles
from tvm_balanced.schedules.tir.tiling import divide

# A pointwise convolution reads x as it is, unless that takes so many times the vectors that a copy with whole vectors does.
DIRECT = 1.1
SET_PANELS = 16  # panels of the weight that a task computes for a tile of pixels


def pack_image_bias(bias: Array) -> Array:
    """Pack a bias (N,) as float32."""
    return bias.astype(np.float32)


@dataclass(frozen=True)
class ImageLayer:
    """A convolution whose lanes are pixels.

    Parameters
    ----------
    workload : Workload
    batch : TIR expression
        Images, a constant or a fresh symbolic variable.
    planes : PaddedImage
    padded : PaddedImage or None
        The copy of x that is read; None if x is read as it is.
    pixels : PixelTiles
    """

    workload: Workload
    batch: Any
    planes: PaddedImage
    padded: PaddedImage | None
    pixels: PixelTiles

    @classmethod
    def of(cls, workload: Workload, lanes: int, vectors: int) -> "ImageLayer":
        """Choose how a convolution is tiled, in vectors of `lanes` pixels, of which up to `vectors` are summed at once."""
        conv = workload.conv
        assert conv is not None
        batch = tirx.Var("batch", "int64") if workload.m is None else int64(workload.m // conv.pixels)
        planes = PaddedImage(conv)
        copied = PixelTiles.of(conv, planes.extents[2], lanes, vectors)
        if not conv.is_pointwise or conv.pixels < lanes or conv.pixels % 512 == 0:
            return cls(workload, batch, planes, planes, copied)
        direct = PixelTiles.of(conv, conv.size[2], lanes, vectors, exact=True)
        return cls(workload, batch, planes, *((planes, copied) if direct.cost > DIRECT * copied.cost else (None, direct)))

    @property
    def channel(self) -> int:
        """Elements from a channel of what is read to the next."""
        return self.padded.channel if self.padded else self.workload.conv.size[2]

    @property
    def elements(self) -> int:
        """Elements of an image of what is read."""
        return self.padded.elements if self.padded else self.workload.conv.channels * self.channel

    @property
    def tiles(self) -> Any:
        """Tiles of all images."""
        return self.batch * self.pixels.count

    @property
    def x_shape(self) -> tuple[Any, Any]:
        conv = self.workload.conv
        return self.batch, int64(conv.channels * int(np.prod(conv.size)))

    @property
    def y_shape(self) -> tuple[Any, Any]:
        return self.batch, int64(self.workload.n * self.workload.conv.pixels)

    @property
    def padded_shape(self) -> tuple[Any, Any]:
        return (self.batch, int64(self.elements)) if self.padded else (int64(1), int64(1))

    def source(self, x: tirx.Buffer, padded: tirx.Buffer) -> tirx.Buffer:
        """What is read: x or its padded copy."""
        return padded if self.padded else x

    def image(self, tile: Any) -> Any:
        """The image that a tile of the result belongs to."""
        return tile // self.pixels.count

    def first(self, tile: Any, n: Any, channel: Any) -> Any:
        """Where row `n` of the weight reads `channel` of its group, for tap 0 and pixel 0 of a tile."""
        conv, per_group = self.workload.conv, self.workload.n // self.workload.conv.groups
        group = T.min(n // per_group, int64(conv.groups - 1)) * conv.depth if conv.groups > 1 else int64(0)
        return self.pixels.lane(tile % self.pixels.count, self.planes) + (group + channel) * self.channel

    def fill_table(self, table: tirx.Buffer, channel: Any) -> None:
        """Store where each tap of a channel of a tile of K reads. Call it inside TVMScript."""
        offsets = self.padded.tap_offsets() if self.padded else [0]
        for tap, offset in enumerate(offsets):
            T.buffer_store(table, T.cast(channel * self.channel + offset, "int32"), [channel * len(offsets) + tap])

    def reads_of_channel(self, x: tirx.Buffer, image: Any, channel: Any) -> Any:
        size = int(np.prod(self.workload.conv.size))
        return x[image, channel * size : channel * size + size]

    def writes_of_channel(self, padded: tirx.Buffer, image: Any, channel: Any) -> Any:
        return padded[image, channel * self.channel : channel * self.channel + self.channel]

    def finish(
        self, buffers: tuple[tirx.Buffer, ...], place: tuple[Any, ...], n: Any, activation: Callable[[Any], Any]
    ) -> None:
        """Store the results of a row of the weight of a tile. Call it inside TVMScript; `buffers` are acc, bias, residual, y."""
        acc, bias, *others = buffers

        def read(lane: Any, width: int) -> Any:
            if width == 1:
                return acc[(*place, lane)] + bias[n]
            return acc[(*place, T.ramp(lane, 1, width))] + T.broadcast(bias[n], width)

        at = self.image(place[0]), place[0] % self.pixels.count, n
        self.pixels.store(tuple(others), self.workload, at, read, activation)


    def seconds(self, m: int, slots: int, nbytes: int, roofline: Roofline, share: float) -> float:
        """Model the time for `m` pixels of results and a weight of so many slots and bytes.

        A copy of an element of x takes as long as four multiply-adds, a result as long as eight.
        """
        conv, n = self.workload.conv, self.workload.n
        images = max(1, m // conv.pixels)
        macs = slots * self.pixels.count * self.pixels.chunks * (self.pixels.vectors + STEP) * self.pixels.lanes
        copied = 4 * conv.channels * self.padded.channel if self.padded else 0
        return roofline.seconds(images * (macs + copied + 8 * n * conv.pixels), share, nbytes)


def schedule_image_layer(sch: Schedule) -> None:
    """Schedule a kernel's blocks "table", "lay_out" if there is one, "dense" and "epilogue".

    The sums of a set of panels of the weight are computed for a tile of pixels, one tile of K after another. How many panels a
    set has is sampled from `sch`.
    """
    names = [sch.get(child).name_hint for child in sch.get_child_blocks(sch.get_sblock("root"))]
    if "lay_out" in names:
        image, channel = sch.get_loops(sch.get_sblock("lay_out"))
        sch.parallel(sch.fuse(image, channel))
    dense, epilogue = sch.get_sblock("dense"), sch.get_sblock("epilogue")
    o, g, t = sch.get_loops(dense)
    go, gi = sch.split(g, divide(sch, g, SET_PANELS))
    sch.reorder(o, go, t, gi)
    sch.reverse_compute_at(epilogue, go, preserve_unit_loops=True)
    sch.parallel(sch.fuse(o, go))
