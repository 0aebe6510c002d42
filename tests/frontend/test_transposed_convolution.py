"""Transposed convolutions with a stride are convolutions with a channel for each phase."""

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.frontend import transposed_convolution
from tvm_balanced.frontend.transposed_convolution import phased_convolution

CASES = [  # kernel, stride, padding, output padding
    ((4, 4), (2, 2), (1, 1), (0, 0)),
    ((2, 2), (2, 2), (0, 0), (0, 0)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((5, 3), (3, 2), (2, 0), (1, 0)),
    ((1, 4), (1, 2), (0, 1), (0, 0)),
    ((8,), (4,), (2,), (0,)),
    ((7,), (3,), (0,), (2,)),
]


def operands(case):
    kernel = case[0]
    x, weight = torch.randn(2, 3, *(5, 6)[: len(kernel)]).double(), torch.randn(3, 4, *kernel).double()
    return x, weight, torch.randn(4).double()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "bias"])
def test_every_phase_is_in_its_place(case, biased):
    x, weight, bias = operands(case)
    _, stride, padding, more = case
    one = [1] * len(stride)
    arguments = x, weight, bias if biased else None, stride, padding, one, True, more, 1
    torch.testing.assert_close(phased_convolution(*arguments), torch.ops.aten.convolution(*arguments))


@pytest.mark.parametrize(
    "options",
    [
        {"stride": [1, 1]},
        {"dilation": [2, 2]},
        {"groups": 3},
        {"transposed": False},
        {"output_padding": [1, 1], "padding": [0, 0]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_something_else_stays(options):
    given = {"stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "transposed": True, "output_padding": [0, 0], "groups": 1}
    x, weight, _ = operands(CASES[0])
    assert phased_convolution(x, weight, None, *(given | options).values()) is NotImplemented


@pytest.mark.slow
def test_dense_ones_are_split_a_pruned_one_is_not_and_all_agree(monkeypatch):
    torch.manual_seed(0)
    layers = nn.ConvTranspose2d(16, 24, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(24, 8, 3, 2, 1, 1), nn.ConvTranspose2d(8, 8, 2, 2)
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        model[3].weight[:, :, 0] = 0
    monkeypatch.setattr(transposed_convolution, "LEAST", 1000)
    x = torch.randn(2, 16, 12, 12)
    module = tb.compile(model, (x,), threads=1)
    assert [(row.layer, row.n, row.k) for row in module.report.layers] == [("0", 96, 64), ("2", 32, 96), ("3", 8, 32)]
    with torch.no_grad():
        torch.testing.assert_close(module(x), model.double()(x.double()).float(), rtol=1e-4, atol=1e-5)
