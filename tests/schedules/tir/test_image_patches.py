"""Patches of random convolutions: where a tap reads for a pixel, the image's element lies, or the zero around it."""

import itertools

import numpy as np
import pytest
import tvm
from tvm.script import tirx as T

from tvm_balanced.compiler.build import build
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir.image_patches import ImagePatches, row_pitch
from tvm_balanced.schedules.tir.pixel_tiles import WHOLE, PixelTiles

CONVOLUTIONS = {
    "padded": Convolution(2, (1, 9, 21), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1)),
    "stride 2": Convolution(2, (1, 11, 20), (1, 3, 3), (1, 2, 2), before=(0, 1, 1), after=(0, 1, 1)),
    "stride 3, dilated": Convolution(1, (1, 12, 31), (1, 2, 3), (1, 1, 3), (1, 2, 4), before=(0, 0, 5), after=(0, 1, 2)),
    "three dimensions": Convolution(2, (4, 5, 18), (2, 3, 3), before=(1, 0, 1), after=(0, 1, 1)),
    "transposed": Convolution(2, (1, 4, 9), (1, 3, 4), before=(0, 2, 3), after=(0, 2, 3), spread=(1, 2, 2)),
    "pointwise, stride 2": Convolution(3, (1, 9, 19), (1, 1, 1), (1, 2, 2)),
    "many planes": Convolution(1, (1, 31, 60), (1, 14, 14), (1, 14, 14)),
    "many planes, padded": Convolution(1, (1, 31, 60), (1, 14, 15), (1, 13, 16), (1, 1, 2), (0, 5, 6), (0, 2, 3)),
    "many planes, not all": Convolution(1, (1, 12, 64), (1, 9, 9), (1, 12, 13), before=(0, 3, 4), after=(0, 4, 3)),
    "long, dilated": Convolution(2, (1, 1, 60), (1, 1, 19), (1, 1, 2), (1, 1, 3), (0, 0, 7), (0, 0, 8)),
    "wider than the image": Convolution(1, (1, 1, 6), (1, 1, 9), before=(0, 0, 8), after=(0, 0, 8)),
}


def tiles_of(conv):
    """Some of the tilings that a kernel chooses from, each with whether shifts have planes of their own."""
    found = []
    for shifted, tilings in enumerate((PixelTiles.candidates(conv, row_pitch(conv), 8, 4), PixelTiles.aligned(conv, 8, 4))):
        found += [(tilings[len(tilings) // 3], bool(shifted)), (tilings[-1], bool(shifted))]
    return found


def laid_out(patches, x):
    """(The patches of all tiles of two images, (tiles, elements); where each tap reads the first channel)."""
    conv, count, size = patches.conv, patches.tiles.count, int(np.prod(patches.conv.size))
    elements = conv.channels * patches.channel

    def lay_out(images, patch, tile, channel):
        patches.lay_out(images, patch, (tile, tile % count), tile // count, channel)

    @T.prim_func(private=True, s_tir=True)
    def lay_out_all(x_: T.handle, patch_: T.handle, table_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        images = T.match_buffer(x_, (int64(2), int64(conv.channels * size)), "float32")
        patch = T.match_buffer(patch_, (int64(2 * count), int64(elements)), "float32")
        table = T.match_buffer(table_, (int64(conv.taps),), "int32")
        for i in T.grid(int64(1)):
            with T.sblock("table"):
                vi = T.axis.spatial(int64(1), i)
                T.reads()
                T.writes(table[vi * conv.taps : vi * conv.taps + conv.taps])
                patches.fill_table(table, vi)
        for o, c in T.grid(int64(2 * count), int64(conv.channels)):
            with T.sblock("lay_out"):
                vo, vc = T.axis.remap("SS", [o, c])
                T.reads(images[vo // count, vc * size : vc * size + size])
                T.writes(patch[vo, vc * patches.channel : vc * patches.channel + patches.channel])
                lay_out(images, patch, vo, vc)

    y = tvm.runtime.tensor(np.full((2 * count, elements), np.nan, np.float32))
    table = tvm.runtime.tensor(np.full(conv.taps, -1, np.int32))
    build(lay_out_all.with_attr("global_symbol", "main"), host_target())["main"](tvm.runtime.tensor(x.reshape(2, -1)), y, table)
    return y.numpy(), table.numpy()


def spread_and_padded(conv, x):
    """The images with zeros between their elements and around them."""
    spread = np.zeros((*x.shape[:2], *conv.spread_size), np.float32)
    spread[(..., *(slice(None, None, step) for step in conv.spread))] = x
    return np.pad(spread, [(0, 0), (0, 0), *zip(conv.before, conv.after, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_taps_find_their_elements(name, rng):
    conv = CONVOLUTIONS[name]
    x = rng.standard_normal((2, conv.channels, *conv.size)).astype(np.float32)
    padded, taps = spread_and_padded(conv, x), list(itertools.product(*(range(n) for n in conv.kernel)))
    for tiles, shifted in tiles_of(conv):
        patches = ImagePatches(conv, tiles, shifted)
        got, offsets = laid_out(patches, x)
        got = got.reshape(2 * tiles.count, conv.channels, -1)
        assert not np.isnan(got).any()
        assert not shifted or all(offset % WHOLE == 0 for offset in offsets)
        lanes = np.add.outer(np.arange(tiles.rows) * tiles.pitch, np.arange(tiles.columns))
        for tile, (tap, offset) in itertools.product(range(2 * tiles.count), zip(taps, offsets, strict=True)):
            first = (int(part) for part in tiles.place(int64(tile % tiles.count)))
            d, h, w = (p * s + t * d for p, s, t, d in zip(first, conv.stride, tap, conv.dilation, strict=True))
            rows, columns = (
                slice(h, h + tiles.rows * conv.stride[1], conv.stride[1]),
                slice(w, w + tiles.columns * conv.stride[2], conv.stride[2]),
            )
            expected = padded[tile // tiles.count, :, d, rows, columns]
            np.testing.assert_array_equal(got[tile][:, offset + lanes], expected)
