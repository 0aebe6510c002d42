import json

import pytest

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST


def test_sizes():
    conv = Convolution(64, (1, 56, 57), (1, 3, 3), (1, 2, 2), before=(0, 1, 1), after=(0, 1, 1), groups=4)
    assert (conv.outputs, conv.pixels, conv.taps, conv.depth) == ((1, 28, 29), 28 * 29, 9, 16)
    assert conv.title == "64x56x57 3x3 /2x2 groups 4"


def test_a_transposed_one_is_of_an_image_with_zeros_between():
    conv = Convolution(8, (1, 1, 5), (1, 1, 3), before=(0, 0, 2), after=(0, 0, 2), spread=(1, 1, 2))
    assert conv.spread_size == (1, 1, 9)
    assert conv.outputs == (1, 1, 11)  # as torch's ConvTranspose1d(8, ..., 3, stride=2) of five


def test_only_a_pointwise_one_is_flattened():
    conv = Convolution(8, (1, 7, 9), (1, 1, 1))
    assert conv.flattened().size == (1, 1, 63)
    strided = Convolution(8, (1, 7, 9), (1, 1, 1), (1, 2, 2))
    assert strided.flattened() == strided


def test_it_survives_json_and_says_what_is_wrong():
    conv = Convolution(8, (2, 7, 9), (1, 3, 1), order=CHANNELS_FIRST)
    assert Convolution.from_attr(json.loads(json.dumps(conv.to_attr()))) == conv
    with pytest.raises(TypeError, match="order is sideways"):
        Convolution.from_attr(conv.to_attr() | {"order": "sideways"})
