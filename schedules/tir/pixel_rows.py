"""Pixels of a convolution's result as rows of x: where each reads the rounded image, and how sums are stored as an image.

Sums have rows of the weight in their lanes, images have pixels in a row. So sixteen pixels times sixteen rows of the weight are
transposed in registers before residual and activation.

Where a convolution has groups, each group of an image is an image of its own here (`rounded_images.py`), that meets its group of
the weight's rows. Row panels have rows of one group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules.base.expressions import divisor, int64
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.row_panels import LANES, count_row_panels
from tvm_balanced.schedules.tir.prefetch import prefetch_line, prefetch_line_for_write
from tvm_balanced.schedules.tir.register_transpose import BARRIER_LANES, optimization_barrier, transpose_registers
from tvm_balanced.schedules.tir.rounded_images import ImageBytes, RoundedImage
from tvm_balanced.schedules.tir.rounded_rows import dequantized
from tvm_balanced.schedules.tir.tiling import Tiles, divide

PIXELS = 16  # of a tile
TOGETHER = 8  # tiles of pixels
LINE = 16  # float32 of a cache line


@dataclass(frozen=True)
class PixelRows:
    """The pixels of the results of all images, in tiles of sixteen of one image. The last tile of an image begins earlier where
    it would go past the end, and computes some pixels again.

    Parameters
    ----------
    workload : Workload
        A convolution.
    batch : TIR expression
        Images of the convolution, a constant or a fresh symbolic variable.
    side : int
        Of the squares that are transposed.
    """

    workload: Workload
    batch: Any
    side: int

    @classmethod
    def of(cls, workload: Workload, side: int) -> "PixelRows":
        """Tile the pixels of a workload's images."""
        assert workload.conv is not None
        batch = tirx.Var("batch", "int64") if workload.m is None else int64(workload.m // workload.conv.pixels)
        return cls(workload, batch, side)

    @property
    def conv(self) -> Convolution:
        """How the layer reads its images."""
        assert self.workload.conv is not None
        return self.workload.conv

    @property
    def images(self) -> Any:
        """Images that are rounded: those of all groups."""
        return self.batch * self.conv.groups

    @property
    def rows(self) -> int:
        """Rows of the weight that an image meets."""
        return self.workload.n // self.conv.groups

    @property
    def panels(self) -> int:
        """Row panels of them."""
        return count_row_panels(self.rows)

    def panel(self, image: Any, panel: Any) -> Any:
        """Return which row panel of the whole weight is one of those that an image meets."""
        return image % self.conv.groups * self.panels + panel

    @property
    def of_image(self) -> int:
        """Tiles of an image."""
        return -(-self.conv.pixels // PIXELS)

    @property
    def known_tiles(self) -> int | None:
        """Tiles of all images, None if their number is symbolic."""
        return None if self.workload.m is None else self.workload.m // self.conv.pixels * self.conv.groups * self.of_image

    @property
    def x_shape(self) -> tuple[Any, Any]:
        return self.batch, int64(self.conv.elements)

    @property
    def bias_shape(self) -> tuple[Any, Any]:
        return int64(count_row_panels(self.workload.n)), int64(LANES)

    @property
    def y_shape(self) -> tuple[Any, Any]:
        return self.batch, int64(self.workload.n * self.conv.pixels)

    def first(self, tile: Any) -> Any:
        """The first pixel of a tile of an image."""
        return T.min(tile * PIXELS, int64(self.conv.pixels - PIXELS)) if self.conv.pixels >= PIXELS else int64(0)

    def windows(self, image: ImageBytes) -> tirx.Buffer:
        """Emit the block that stores where the first tap of each pixel of a tile reads, (tiles of an image, 16) int32. Call it
        inside TVMScript.
        """
        found = T.sblock_alloc_buffer((int64(self.of_image), int64(PIXELS)), "int32")
        with T.grid(int64(self.of_image), int64(PIXELS)) as (t, i), T.sblock("windows"):
            vt, vi = T.axis.remap("SS", [t, i])
            number = self.first(vt) + T.min(vi, int64(self.conv.pixels - 1))
            T.buffer_store(found, T.cast(image.window(T.cast(number, "int32")), "int32"), [vt, vi])
        return found

    def store(
        self, buffers: tuple[Any, ...], rounded: RoundedImage, at: tuple[Any, Any, Any], activation: Callable[..., Any]
    ) -> None:
        """Store the results of a row panel of a tile, and declare what that reads. Call it in a block of TVMScript.

        Parameters
        ----------
        buffers : (acc (images, tiles, 16, rows) int32, scales, totals, bias (panels, 16), residual, y (batch, N * pixels))
            The panels of the bias are those of all rows of the weight, whatever their groups.
        rounded : RoundedImage
        at : (image, tile, row panel of those that it meets)
        activation : callable
        """
        acc, scales, totals, bias, residual, y = buffers
        image, tile, group = at
        panel, side = self.panel(image, group), self.side
        T.reads(
            acc[image, tile, 0:PIXELS, group * LANES : group * LANES + LANES],
            *(of_row[panel, 0:LANES] for of_row in (scales, totals)),
            bias[0 : bias.shape[0], 0:LANES],
            rounded.step[image],
            rounded.zero[image],
        )
        T.writes(y[image // self.conv.groups, 0 : y.shape[1]])
        # Through local buffers, which become registers: an expression is a tree, in which each sum would stand many times.
        square, turned = (T.sblock_alloc_buffer((side * side,), "float32", scope="local") for _ in range(2))
        barrier = optimization_barrier if side == BARRIER_LANES else lambda vector: vector
        lines = [T.ramp(line * side, 1, side) for line in range(side)]
        for q in range(0, LANES, side):
            rows = T.ramp(q, 1, side)
            for i in range(0, min(PIXELS, -(-self.conv.pixels // side) * side), side):
                for p, line in enumerate(lines):
                    sums = acc[image, tile, i + p, T.ramp(group * LANES + q, 1, side)]
                    scaled = dequantized(sums, totals[panel, rows], scales[panel, rows], rounded.step[image], rounded.zero[image])
                    T.buffer_store(square, scaled + self._bias(bias, (image, group), q), [line])
                for line, sums in zip(lines, transpose_registers([square[line] for line in lines], barrier), strict=True):
                    T.buffer_store(turned, sums, [line])
                for r, line in enumerate(lines):
                    self._store_row((residual, y), (image, tile), group * LANES + q + r, i, turned[line], activation)

    def _bias(self, bias: tirx.Buffer, at: tuple[Any, Any], q: int) -> Any:
        """Return the bias of `side` rows of a panel, the first of them q."""
        image, group = at
        if self.conv.groups == 1 or self.rows == self.panels * LANES:
            return bias[self.panel(image, group), T.ramp(q, 1, self.side)]
        # a group begins anywhere in a panel of the bias; past its last row there may be nothing
        row = image % self.conv.groups * self.rows + group * LANES + q
        there = T.ramp(group * LANES + q, 1, self.side) < T.broadcast(int64(self.rows), self.side)
        return T.masked_load(f"float32x{self.side}", bias, row // LANES, T.ramp(row % LANES, 1, self.side), there)

    def _store_row(
        self, buffers: tuple[Any, Any], at: tuple[Any, Any], n: Any, i: int, sums: Any, activation: Callable[..., Any]
    ) -> None:
        """Store pixels i to i + side of a tile for row n of those that the image meets."""
        (residual, y), (image, tile), pixels, side = buffers, at, self.conv.pixels, self.side
        row_of_all, batch = image % self.conv.groups * self.rows + n, image // self.conv.groups
        along = T.ramp(row_of_all * pixels + self.first(tile) + i, 1, side)
        partly = i + side > pixels
        mask = T.ramp(i, 1, side) < T.broadcast(pixels, side)

        def emit() -> None:
            total = sums
            if not partly and i % LINE == 0:
                self._prefetch(buffers, batch, (row_of_all + LANES) * pixels + self.first(tile) + i)
            if self.workload.residual:
                more = T.masked_load(f"float32x{side}", residual, batch, along, mask) if partly else residual[batch, along]
                total = total + more
            bound = tirx.Var("total", f"float32x{side}")
            result = tirx.Let(bound, total, activation(bound))
            if partly:
                T.evaluate(T.masked_store(y, result, batch, along, mask))
            else:
                T.buffer_store(y, result, [batch, along])

        if self.rows == self.panels * LANES:
            emit()
        else:
            with T.If(n < self.rows), T.Then():
                emit()

    def _prefetch(self, buffers: tuple[Any, Any], batch: Any, place: Any) -> None:
        """Prefetch what the same pixels of the next row panel read and store.

        A row of the result is a plane of the image, so hardware prefetch would have to follow as many streams as there are rows:
        256 rows of 56x56 pixels with a residual take 0.71 of the time.
        """
        residual, y = buffers
        if self.workload.residual:
            T.evaluate(prefetch_line(residual[batch, place]))
        T.evaluate(prefetch_line_for_write(y[batch, place]))


def padded_rows(workload: Workload) -> int:
    """Return the rows of a convolution's weight with those that fill up the row panels of each group."""
    rows = PixelRows.of(workload, LANES)
    return rows.conv.groups * rows.panels * LANES


def starts_of(image: ImageBytes, width: int, count: int) -> tirx.Buffer:
    """Emit the block that stores where pieces of `width` bytes begin, (count,) int32: those of each run, one run after the other.
    Call it inside TVMScript.
    """
    found, of_run = T.sblock_alloc_buffer((int64(count),), "int32"), -(-image.run // width)
    with T.serial(int64(count)) as c, T.sblock("starts"):
        vc = T.axis.spatial(int64(count), c)
        run = T.min(vc // of_run, int64(image.runs - 1))  # pieces past the last one read anything
        T.buffer_store(found, T.cast(image.start_of(run) + vc % of_run * width, "int32"), [vc])
    return found


def schedule_pixel_rows(sch: Schedule, tiles: Tiles) -> None:
    """Schedule the blocks "dense" over (row panel, chunk, step, image, tile, pixel) and "epilogue" over (row panel, image, tile).

    A few tiles of pixels together meet one set of row panels after the other, so that a row of the result is stored in longer
    pieces, and weights stay in the first-level cache. Sizes are sampled from `sch` and are `tiles`, and up to `TOGETHER` tiles of
    pixels, unless a search changes them.
    """
    dense, epilogue = sch.get_sblock("dense"), sch.get_sblock("epilogue")
    sch.vectorize(sch.get_loops(sch.get_sblock("windows"))[-1])
    g, b, t = sch.get_loops(epilogue)
    go, gm, gi = sch.split(g, divide(sch, g, tiles.together, tiles.groups))
    to, ti = sch.split(t, divide(sch, t, divisor(int(sch.get(t).extent), TOGETHER)))
    sch.reorder(go, b, to, gm, ti, gi)
    # Sums of a register tile by themselves: LLVM keeps some of a larger buffer's in memory where a step is long.
    copy = sch.cache_write(dense, 0, "local")
    sch.compute_at(copy, ti, preserve_unit_loops=True)
    *_, i, lane = sch.get_loops(copy)
    io, ii = sch.split(i, divide(sch, i, tiles.rows))
    inner, lane = sch.split(lane, [None, LANES])
    sch.vectorize(lane)
    for loop in (ii, inner, gi):
        sch.unroll(loop)
    sch.compute_at(dense, io, preserve_unit_loops=True)
    inner, chunk, step, *ones, ii = sch.get_loops(dense)[-6:]
    sch.reorder(*ones, chunk, step, inner, ii)
    for loop in (step, inner, ii):
        sch.unroll(loop)
    sch.parallel(sch.fuse(go, b, to))  # before decompose_reduction, which splits the loops' bodies
    init = sch.decompose_reduction(dense, chunk)
    for loop in sch.get_loops(init)[-2:]:
        sch.unroll(loop)
