"""Where a tap of a pixel of the result reads: the element of the image, or the zero around it, by NumPy alone."""

import numpy as np
import pytest

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST
from tvm_balanced.schedules.tir.rounded_images import LINE, SLACK, ImageBytes, refuse_convolution
from tvm_balanced.testing.convolve import convolve

CONVOLUTIONS = {
    "padded": Convolution(3, (1, 5, 7), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 2)),
    "stride 2": Convolution(6, (1, 7, 8), (1, 3, 3), (1, 2, 2), before=(0, 1, 1), after=(0, 1, 1)),
    "dilated": Convolution(2, (1, 6, 9), (1, 2, 3), (1, 1, 3), (1, 2, 2), (0, 0, 3), (0, 1, 2)),
    "three dimensions": Convolution(2, (4, 3, 5), (2, 2, 3), before=(1, 0, 1), after=(0, 1, 1)),
    "transposed": Convolution(2, (1, 3, 4), (1, 3, 4), before=(0, 2, 3), after=(0, 2, 3), spread=(1, 2, 2)),
    "channels first": Convolution(5, (1, 4, 4), (1, 2, 3), order=CHANNELS_FIRST),
    "pointwise": Convolution(20, (1, 1, 9), (1, 1, 1)),
}


def laid_out(image, x):
    """The bytes of an image (channels, pixels) of small whole numbers."""
    found = np.zeros(image.nbytes, np.int64)
    for pixel in range(x.shape[1]):
        place = image.pixel(pixel)
        found[place : place + len(x)] = x[:, pixel]
    return found


@pytest.mark.parametrize("multiple", [4, 16])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_taps_read_what_the_convolution_reads(name, multiple, rng):
    conv = CONVOLUTIONS[name]
    image, columns = ImageBytes.of(conv, multiple), conv.taps * conv.channels
    x, weight = rng.integers(-9, 9, (conv.channels, int(np.prod(conv.size)))), rng.integers(-9, 9, (4, columns))
    bytes_, (run, place) = laid_out(image, x), image.columns()
    starts = np.array([image.start_of(number) for number in range(image.runs)])
    reads = np.array([image.window(pixel) for pixel in range(conv.pixels)])[:, None] + starts[run] + place
    want = convolve(x.reshape(1, -1).astype(np.float64), weight.astype(np.float64), conv).reshape(4, -1)
    np.testing.assert_array_equal(weight @ bytes_[reads].T, want)
    assert reads.max() < image.nbytes - SLACK + LINE
    assert place.max() < image.run


def test_taps_of_a_row_of_the_kernel_are_one_run():
    padded, dilated = (ImageBytes.of(CONVOLUTIONS[name], 4) for name in ("padded", "dilated"))
    assert (padded.runs, padded.run) == (3, 12)
    assert (dilated.runs, dilated.run) == (6, 4)
    assert padded.is_padded
    assert not ImageBytes.of(CONVOLUTIONS["pointwise"], 4).is_padded


def test_images_of_two_gigabytes_are_refused():
    large = Convolution(64, (1, 8192, 4096), (1, 1, 1))
    assert refuse_convolution(large) == f"an image takes {(1 << 31) + SLACK} bytes, more than places of 32 bits count"
    assert refuse_convolution(Convolution(4, (1, 4, 4), (1, 1, 1))) is None


def test_what_a_group_reads_is_an_image_of_its_own():
    image = ImageBytes.of(Convolution(18, (1, 4, 5), (1, 3, 3), groups=3), 4)
    assert (image.groups, image.conv.channels, image.conv.groups, image.pitch) == (3, 6, 1, 8)
    x = np.arange(2 * 18 * 20).reshape(2, -1)
    for number in range(6):
        found = [x[image.of_x(number, place)] for place in range(6 * 20)]
        np.testing.assert_array_equal(found, x.reshape(6, -1)[number])
