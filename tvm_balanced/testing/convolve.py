"""A convolution in float64, without any kernel."""

import itertools

import numpy as np

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.weight_matrix import from_weight_matrix


def convolve(x: Array, weight: Array, conv: Convolution) -> Array:
    """Return the convolution of images.

    Parameters
    ----------
    x : array (batch, channels * pixels)
    weight : array (N, K), its columns in the convolution's order
    conv : Convolution

    Returns
    -------
    array (batch, N * pixels of the result), float64
    """
    images = x.reshape(len(x), conv.channels, *conv.size).astype(np.float64)
    spread = np.zeros((*images.shape[:2], *conv.spread_size))
    spread[:, :, :: conv.spread[0], :: conv.spread[1], :: conv.spread[2]] = images
    padded = np.pad(spread, ((0, 0), (0, 0), *zip(conv.before, conv.after, strict=True)))
    taps = from_weight_matrix(weight.astype(np.float64), (len(weight), conv.depth, conv.taps), conv.order)
    taps = taps.reshape(conv.groups, -1, conv.depth, conv.taps)
    y = np.zeros((len(x), conv.groups, taps.shape[1], *conv.outputs))
    for tap, place in enumerate(itertools.product(*map(range, conv.kernel))):
        axes = zip(place, conv.dilation, conv.stride, conv.outputs, strict=True)
        ranges = [slice(at * d, at * d + (out - 1) * s + 1, s) for at, d, s, out in axes]
        part = padded[(slice(None), slice(None), *ranges)].reshape(len(x), conv.groups, conv.depth, *conv.outputs)
        y += np.einsum("gnc,bgc...->bgn...", taps[..., tap], part, optimize=True)
    return y.reshape(len(x), -1)
