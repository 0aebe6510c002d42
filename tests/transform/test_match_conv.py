"""Convolutions of every geometry, from PyTorch to a compiled module; one compilation for all, as each takes a second."""

import numpy as np
import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST, from_weight_matrix, weight_matrix
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import CONV_SPARSE_KERNELS

SPARSE = next(kernel.name for kernel in CONV_SPARSE_KERNELS if kernel.refuses(host_target(), 16, 16, "float32") is None)
LAYERS = {
    "3x3": (nn.Conv2d(16, 24, 3, padding=1), (11, 13)),
    "1x1": (nn.Conv2d(16, 20, 1), (9, 9)),
    "1x1 without bias, wide": (nn.Conv2d(32, 8, 1, bias=False), (20, 31)),
    "1x1 stride": (nn.Conv2d(16, 20, 1, stride=2), (9, 10)),
    "7x7 stride 2, 3 channels": (nn.Conv2d(3, 16, 7, 2, 3), (23, 30)),
    "patches": (nn.Conv2d(3, 10, 4, 4), (16, 12)),
    "stride over a gap": (nn.Conv2d(4, 6, 2, 3), (11, 13)),
    "dilation": (nn.Conv2d(4, 6, 3, dilation=2, padding=2), (11, 13)),
    "dilation and stride": (nn.Conv2d(4, 6, 3, stride=2, dilation=3, padding=4), (15, 14)),
    "uneven": (nn.Conv2d(5, 7, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(1, 2)), (8, 21)),
    "padding past the kernel": (nn.Conv2d(4, 6, 2, padding=3), (5, 5)),
    "one pixel padded": (nn.Conv2d(4, 6, 1, padding=1), (4, 9)),
    "same": (nn.Conv2d(4, 6, 4, padding="same"), (9, 7)),
    "groups": (nn.Conv2d(12, 18, 3, groups=3, padding=1), (9, 9)),
    "depthwise": (nn.Conv2d(24, 24, 3, groups=24, padding=1), (14, 14)),
    "depthwise, several": (nn.Conv2d(6, 18, 5, groups=6, stride=2), (14, 17)),
    "one pixel of result": (nn.Conv2d(8, 12, 5), (5, 5)),
    "wide image": (nn.Conv2d(2, 3, 3, padding=1), (3, 700)),
    "one dimension": (nn.Conv1d(8, 12, 3, padding=1), (100,)),
    "one dimension, stride": (nn.Conv1d(8, 12, 3, stride=2, padding=1), (3001,)),
    "one dimension, depthwise": (nn.Conv1d(8, 8, 4, groups=8, padding=3), (50,)),
    "three dimensions": (nn.Conv3d(4, 6, 3, padding=1), (5, 6, 7)),
    "three dimensions, stride": (nn.Conv3d(4, 6, (1, 3, 2), stride=(2, 1, 2), padding=(0, 1, 1)), (5, 6, 9)),
    "transposed": (nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, output_padding=1), (7, 9)),
    "transposed groups": (nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1, groups=2), (5, 5)),
    "transposed, one dimension": (nn.ConvTranspose1d(6, 8, 5, stride=3, dilation=2), (11,)),
    "pruned taps first": (nn.Conv2d(32, 24, 3, padding=1), (9, 10)),
    "pruned channels first": (nn.Conv2d(32, 24, 3, padding=1), (9, 10)),
    "pruned across taps": (nn.Conv2d(24, 24, 2, padding=1), (9, 10)),
    "pruned groups": (nn.Conv2d(64, 32, 3, groups=2, stride=2), (9, 10)),
    "pruned 1x1": (nn.Conv2d(64, 32, 1), (15, 15)),
    "pruned, one dimension": (nn.Conv1d(160, 32, 5, padding=2), (40,)),
    "pruned, transposed": (nn.ConvTranspose2d(32, 32, 2, stride=2), (6, 6)),
}


class Branches(nn.Module):
    """Each layer on an input of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(layer for layer, _ in LAYERS.values())

    def forward(self, *inputs):
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


def prune(weight, order, nnz=2, block=16):
    """Keep the largest elements of each block of the weight's matrix."""
    matrix = weight_matrix(weight.detach(), order)
    blocks = matrix.reshape(matrix.shape[0], -1, block)
    kept = torch.zeros_like(blocks).scatter_(-1, blocks.abs().topk(nnz, -1).indices, 1)
    return from_weight_matrix((blocks * kept).reshape(matrix.shape), tuple(weight.shape), order)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    for name, (layer, _) in LAYERS.items():
        if "pruned, transposed" in name:
            layer.weight.data = prune(layer.weight.detach().transpose(0, 1).flip(2, 3), TAPS_FIRST).flip(2, 3).transpose(0, 1)
        elif "pruned" in name:
            layer.weight.data = prune(layer.weight, CHANNELS_FIRST if "channels first" in name else TAPS_FIRST)
    return Branches().eval()


def inputs(batch):
    rng = np.random.default_rng(1)
    channels = [getattr(layer, "in_channels") for layer, _ in LAYERS.values()]  # noqa: B009 - ruff and mypy differ
    return [
        torch.from_numpy(rng.standard_normal((batch, c, *size)).astype(np.float32))
        for c, (_, size) in zip(channels, LAYERS.values(), strict=True)
    ]


def check(got, given, model):
    want = [layer.double()(x.double()) for layer, x in zip(model.layers, given, strict=True)]
    model.float()
    for name, y, expected in zip(LAYERS, got, want, strict=True):
        assert y.shape == expected.shape, name
        assert (y - expected).abs().max() < 3e-6 * max(1, expected.abs().max()), name


@pytest.mark.slow
@pytest.mark.xdist_group("convolutions")
@torch.no_grad()
def test_every_geometry_agrees_with_torch(model):
    given = inputs(2)
    module = tb.compile(model, given, logs=False)
    kernels = [row.kernel for row in module.report.layers]
    assert len(kernels) == len(LAYERS)
    assert all(kernel.startswith("cpu_conv") for kernel in kernels)
    check(module(*given), given, model)
    for row, name in zip(module.report.layers, LAYERS, strict=True):
        assert row.pattern == ("2:16" if "pruned" in name else "-"), name


@pytest.mark.slow
@pytest.mark.xdist_group("convolutions")
@torch.no_grad()
def test_every_geometry_agrees_for_any_batch(model):
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {"inputs": tuple({0: batch} for _ in LAYERS)}
    module = tb.compile(model, inputs(2), dynamic_shapes=shapes, logs=False, kernels={"*": SPARSE})
    assert [row.stored for row in module.report.layers].count("2:16") == sum("pruned" in name for name in LAYERS)
    for count in (1, 3):
        given = inputs(count)
        check(module(*given), given, model)
