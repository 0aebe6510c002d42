"""What kernels of convolutions share: where a tile's pixels are read, and how its results are stored."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.channel_tiles import ChannelTiles
from tvm_balanced.schedules.tir.image_patches import SLACK, ImagePatches, row_pitch
from tvm_balanced.schedules.tir.pixel_tiles import STEP, WHOLE, PixelTiles
from tvm_balanced.schedules.tir.tiling import divide

# In multiply-adds of a vector of pixels: copying one, and storing one of results.
COPY, STORE = 4.0, 4.0
SHIFTS = 7  # columns of a kernel up to which each shift may have planes of its own
FIRST_LEVEL = 32 << 10  # bytes of a first-level cache
UNALIGNED = 1.35  # time of a step of the sparse kernel whose vectors lie anyhow, on Zen 4
TASKS = 8  # tiles of an image from which on threads share tiles alone
SET_PANELS = 16  # panels of the weight that a task computes for a tile of pixels


def refusal(target: tvm.target.Target, width: int, dtype: str) -> str | None:
    """Say why kernels with vectors of `width` pixels cannot compute a layer, as `Kernel.refuses` does; None if they can."""
    if target.kind.name != "llvm" or lanes(target) != width:
        return f"the target is no CPU with vectors of {width} numbers"
    return None if dtype == "float32" else f"it does not compute {dtype}"


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
    pixels : PixelTiles
    patches : ImagePatches or None
        The copies of parts of x that are read; None if x is read as it is.
    """

    workload: Workload
    batch: Any
    pixels: PixelTiles
    patches: ImagePatches | None

    @property
    def conv(self) -> Convolution:
        """How the layer reads its images."""
        assert self.workload.conv is not None
        return self.workload.conv

    @staticmethod
    def of(workload: Workload, lanes: int, vectors: int, aligned: int = 0) -> "ImageLayer":
        """Choose how a convolution is tiled, in vectors of `lanes` pixels, of which up to `vectors` are summed at once.

        A kernel that loads a vector for each multiply-add gains from `aligned` vectors, of which up to so many are summed.
        """
        conv = workload.conv
        assert conv is not None
        batch = tirx.Var("batch", "int64") if workload.m is None else int64(workload.m // conv.pixels)
        return replace(_chosen(replace(workload, m=None), lanes, vectors, aligned), workload=workload, batch=batch)

    @property
    def cost(self) -> float:
        """The time that one image takes, in multiply-adds of a vector."""
        conv, pixels = self.conv, self.pixels
        slots: float = self.workload.n * self.workload.pattern.blocks(self.workload.k) * self.workload.nnz
        if self.workload.nnz == self.workload.block:
            slots = self.workload.n * self.workload.k
        else:
            slots *= (1 if self.is_aligned else UNALIGNED) * self.missing
        copied = COPY * conv.channels * self.patches.channel * pixels.count / pixels.lanes if self.patches else 0
        summed = slots * pixels.chunks * pixels.count * (pixels.vectors + STEP)
        return summed + copied + STORE * self.workload.n * pixels.count * pixels.stores

    @property
    def is_aligned(self) -> bool:
        """Whether vectors of pixels are read at multiples of `WHOLE` elements."""
        if self.patches:
            return self.patches.shifted or self.conv.taps == 1
        return self.conv.size[2] % WHOLE == 0 and self.conv.size[2] % self.pixels.columns == 0

    @property
    def missing(self) -> float:
        """The time of a step over that with a tile of K in the first-level cache."""
        channels = ChannelTiles.of(self.conv, self.workload.block).channels
        over = 4 * channels * (self.channel if self.patches else self.pixels.lanes_padded) / FIRST_LEVEL - 1
        return 1 + min(max(0.4 * over, 0.0), 0.4)

    @property
    def channel(self) -> int:
        """Elements from a channel of what is read to the next."""
        return self.patches.channel if self.patches else self.conv.size[2]

    @property
    def tiles(self) -> Any:
        """Tiles of all images."""
        return self.batch * self.pixels.count

    @property
    def x_shape(self) -> tuple[Any, Any]:
        return self.batch, int64(self.conv.elements)

    @property
    def y_shape(self) -> tuple[Any, Any]:
        return self.batch, int64(self.workload.n * self.conv.pixels)

    @property
    def patch_shape(self) -> tuple[Any, Any]:
        elements = self.conv.channels * self.channel + SLACK
        return (self.tiles, int64(elements)) if self.patches else (int64(1), int64(1))

    def source(self, x: tirx.Buffer, patch: tirx.Buffer) -> tirx.Buffer:
        """What is read: x or the copies of its parts."""
        return patch if self.patches else x

    def row(self, tile: Any) -> Any:
        """The row of what is read that a tile reads: an image of x, or the tile's copy."""
        return tile if self.patches else self.image(tile)

    def image(self, tile: Any) -> Any:
        """The image that a tile of the result belongs to."""
        return tile // self.pixels.count

    def first(self, tile: Any, n: Any, channel: Any) -> Any:
        """Where row `n` of the weight reads `channel` of its group, for the first tap and pixel of a tile."""
        conv, per_group = self.conv, self.workload.n // self.conv.groups
        group = T.min(n // per_group, int64(conv.groups - 1)) * conv.depth if conv.groups > 1 else int64(0)
        own = (group + channel) * self.channel
        return own if self.patches else own + self.pixels.place(tile % self.pixels.count)[2]

    def fill_table(self, table: tirx.Buffer, channel: Any) -> None:
        """Store where each tap of a channel of a tile of K reads. Call it inside TVMScript."""
        if self.patches:
            self.patches.fill_table(table, channel)
        else:
            T.buffer_store(table, T.cast(channel * self.channel, "int32"), [channel])

    def reads_of_channel(self, x: tirx.Buffer, image: Any, channel: Any) -> Any:
        size = int(np.prod(self.conv.size))
        return x[image, channel * size : channel * size + size]

    def writes_of_channel(self, patch: tirx.Buffer, tile: Any, channel: Any) -> Any:
        return patch[tile, channel * self.channel : channel * self.channel + self.channel]

    def lay_out(self, x: tirx.Buffer, patch: tirx.Buffer, tile: Any, channel: Any) -> None:
        """Store the planes of a channel of a tile. Call it inside TVMScript."""
        assert self.patches is not None
        self.patches.lay_out(x, patch, (tile, tile % self.pixels.count), self.image(tile), channel)

    def finish(self, buffers: tuple[tirx.Buffer, ...], place: tuple[Any, ...], n: Any, activation: Callable[[Any], Any]) -> None:
        """Store the results of a row of the weight of a tile. Call it inside TVMScript; `buffers` are acc, bias, residual, y."""
        acc, bias, residual, y = buffers

        def read(lane: Any, width: int) -> Any:
            if width == 1:
                return acc[(*place, lane)] + bias[n]
            return acc[(*place, T.ramp(lane, 1, width))] + T.broadcast(bias[n], width)

        at = self.image(place[0]), place[0] % self.pixels.count, n
        self.pixels.store((residual, y), self.workload, at, read, activation)

    def seconds(self, m: int, nbytes: int, roofline: Roofline, share: float) -> float:
        """Model the time for `m` pixels of results, at a share of the peak, and a weight of so many bytes."""
        images = max(1, m // self.conv.pixels)
        return roofline.seconds(images * self.cost * self.pixels.lanes, share, nbytes)


@lru_cache(maxsize=1024)
def _chosen(workload: Workload, lanes: int, vectors: int, aligned: int) -> ImageLayer:
    """Return the best tiling of a layer, without a batch: it is the same for every M, of which break-even points ask for many."""
    conv = workload.conv
    assert conv is not None
    pitch = row_pitch(conv)
    tilings = PixelTiles.candidates(conv, pitch, lanes, vectors)
    choices = [ImageLayer(workload, None, pixels, ImagePatches(conv, pixels)) for pixels in tilings]
    if conv.is_pointwise:
        exact = PixelTiles.candidates(conv, pitch, lanes, vectors, exact=True)
        choices += [ImageLayer(workload, None, pixels, None) for pixels in exact]
    shifted = PixelTiles.aligned(conv, lanes, aligned) if conv.kernel[2] <= SHIFTS else []
    choices += [ImageLayer(workload, None, pixels, ImagePatches(conv, pixels, shifted=True)) for pixels in shifted]
    return min(choices, key=lambda choice: (choice.cost, choice.pixels.lanes_padded))


def schedule_image_layer(sch: Schedule, workload: Workload, tiles: int) -> None:
    """Schedule a kernel's blocks "table", "lay_out" if there is one, "dense" and "epilogue".

    The sums of a set of panels of the weight are computed for a tile of pixels, one tile of K after another. How many panels a
    set has is sampled from `sch`. An image of so many `tiles` that threads can share them copies each part when it is used.
    """
    dense, epilogue = sch.get_sblock("dense"), sch.get_sblock("epilogue")
    o, g, t = sch.get_loops(dense)
    go, gi = sch.split(g, divide(sch, g, SET_PANELS))
    sch.reorder(o, go, t, gi)
    sch.reverse_compute_at(epilogue, go, preserve_unit_loops=True)
    names = [sch.get(child).name_hint for child in sch.get_child_blocks(sch.get_sblock("root"))]
    if "lay_out" in names and tiles >= TASKS:
        sch.compute_at(sch.get_sblock("lay_out"), o, preserve_unit_loops=True)
        sch.parallel(o)
        return
    if "lay_out" in names:
        sch.parallel(sch.fuse(*sch.get_loops(sch.get_sblock("lay_out"))))
    sch.parallel(sch.fuse(o, go))
