"""How a convolution is tiled: by the modelled time, of which aligned loads, copies and the first-level cache are parts."""

import pytest

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules import CONV_DENSE_KERNELS, CONV_SPARSE_KERNELS, KERNELS
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.image_layers import FIRST_LEVEL, ImageLayer, refusal
from tvm_balanced.schedules.tir.pixel_tiles import PixelTiles


def layer(conv, n=64, nnz=2, aligned=8, m=None):
    workload = Workload("cpu_conv_sparse_avx512", m, n, conv.depth * conv.taps, nnz, 16, conv=conv)
    return ImageLayer.of(workload, 16, 24, aligned)


def square(channels, size, kernel=3, stride=1):
    pad = (0, kernel // 2, kernel // 2)
    return Convolution(channels, (1, size, size), (1, kernel, kernel), (1, stride, stride), before=pad, after=pad).flattened()


@pytest.mark.parametrize("size", [7, 14, 28, 56, 112])
def test_sparse_layers_read_aligned_planes_that_stay_in_the_first_level_cache(size):
    made = layer(square(64, size))
    assert made.is_aligned
    assert made.patches is not None
    assert made.patches.shifted
    assert 4 * 16 * made.channel <= FIRST_LEVEL  # a tile of K has 16 channels of a 3x3 kernel


def test_pointwise_layers_read_x_itself_where_nothing_is_gained_by_copies():
    made = layer(square(256, 56, 1))
    assert made.patches is None
    assert made.is_aligned
    assert layer(square(256, 7, 1)).patches is not None  # 49 pixels are no whole vectors


def test_dense_layers_have_no_planes_for_shifts():
    made = layer(square(64, 28), nnz=16, aligned=0)
    assert made.patches is not None
    assert not made.patches.shifted


def test_wide_kernels_have_no_plane_for_each_shift():
    wave = Convolution(16, (1, 1, 4000), (1, 1, 10), (1, 1, 5))
    made = layer(wave)
    assert made.patches is not None
    assert not made.patches.shifted


def test_cost_grows_with_pixels_rows_and_nonzeros():
    small = layer(square(64, 28)).cost
    assert layer(square(64, 56)).cost > 3 * small
    assert layer(square(64, 28), n=256).cost > 2 * small
    assert 1.5 * small < layer(square(64, 28), nnz=4).cost < 2 * small


def test_refusal():
    assert refusal(parse_target("cpu/znver4"), 16, "float32") is None
    assert refusal(parse_target("cpu/znver4"), 8, "float32") == "the target is no CPU with vectors of 8 numbers"
    assert refusal(parse_target("cpu/znver3"), 8, "float16") == "it does not compute float16"
    assert "cpu_conv_sparse_avx512" not in KERNELS  # those are for rows of x


def test_a_layer_is_tiled_once_for_all_batches(monkeypatch):
    searches = []
    search = PixelTiles.candidates
    monkeypatch.setattr(PixelTiles, "candidates", lambda *args, **options: searches.append(args) or search(*args, **options))
    conv = Convolution(24, (1, 17, 19), (1, 3, 3))
    for kernel, nnz in ((CONV_DENSE_KERNELS[0], 16), (CONV_SPARSE_KERNELS[0], 2)):
        searches.clear()
        workloads = [
            Workload(kernel.name, m, 32, 216, nnz, 16, conv=conv) for m in (None, *(conv.pixels * b for b in (1, 3, 64)))
        ]
        layers = [ImageLayer.of(workload, 16, 6) for workload in workloads]
        assert len(searches) == 1
        assert [layer.workload for layer in layers] == workloads
        assert [layer.batch.value for layer in layers[1:]] == [1, 3, 64]
        assert len({(layer.pixels, layer.patches) for layer in layers}) == 1
        again = ImageLayer.of(workloads[0], 16, 6)
        assert not again.batch.same_as(layers[0].batch)  # a variable of each function's own
