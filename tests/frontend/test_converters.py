import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model

BATCH, LENGTH = torch.export.Dim("batch"), torch.export.Dim("length", max=20)


class Positions(nn.Module):
    """Adds the embedding of each position, which it cuts out of a table as BERT does."""

    def __init__(self, cut):
        super().__init__()
        self.cut = cut
        self.register_buffer("positions", torch.arange(20)[None])
        self.table, self.out = nn.Embedding(20, 32), nn.Linear(32, 16)

    def forward(self, x):
        return self.out((x + self.table(self.cut(self.positions, x.shape[1]))).reshape(x.shape[0], -1, 32))


@pytest.mark.parametrize(
    "cut",
    [lambda p, n: p[:, :n], lambda p, n: p[:, 0:n:1], lambda p, n: p[:, 3 : n + 3], lambda p, n: p[:, -20:].narrow(1, 0, n)],
    ids=["to the length", "with a step of one", "from another start", "of all of it"],
)
def test_a_slice_to_a_symbolic_length_keeps_its_shape(cut):
    torch.manual_seed(0)
    model, length = Positions(cut).eval(), torch.export.Dim("length", max=17)
    module = tb.compile(model, (torch.randn(2, 6, 32),), dynamic_shapes=({0: BATCH, 1: length},))
    for shape in ((1, 1, 32), (3, 17, 32)):
        x = torch.randn(shape)
        torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)


class Cut(nn.Module):
    def __init__(self, cut):
        super().__init__()
        self.cut = cut

    def forward(self, x):
        return self.cut(x) * 2


@pytest.mark.parametrize(
    "cut", [lambda x: x[:, :5], lambda x: x[:, 2:], lambda x: x[:, : x.shape[1] : 2]], ids=["a constant", "no end", "a step"]
)
def test_other_slices_are_as_they_were(cut):
    for dynamic, shapes in ((None, [(3, 8, 4)]), (({0: BATCH, 1: torch.export.Dim("length", min=6)},), [(3, 8, 4), (9, 7, 4)])):
        module = tb.compile(Cut(cut), (torch.randn(3, 8, 4),), dynamic_shapes=dynamic)
        for shape in shapes:
            x = torch.randn(shape)
            torch.testing.assert_close(module(x), cut(x) * 2)


def test_a_slice_to_an_end_that_a_call_may_put_past_the_tensor_reads_nothing_there():
    """torch exports it under the condition that batch <= length, which a compiled module does not know."""
    module = tb.compile(
        Cut(lambda x: x[:, : x.shape[0]]),
        (torch.randn(3, 8, 4),),
        dynamic_shapes=({0: BATCH, 1: torch.export.Dim("length", min=6)},),
    )
    assert module(torch.randn(9, 7, 4)).shape == (9, 7, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_keep_their_dtype(dtype):
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8, dtype=dtype)

        def forward(self, x):
            return torch.bmm(self.layer(x), x.mT) @ torch.mm(x[0], x[0].mT)

    mod = import_model(Products(), (torch.randn(2, 4, 8, dtype=dtype),)).mod
    assert str(mod["main"].ret_ty.dtype) == str(dtype).removeprefix("torch.")


DTYPES = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


def agrees(model, x):
    """Whether a compiled model agrees with the model in float64, as its dtype can."""
    y = tb.compile(model, (x,))(x).detach()
    expected = model.double()(x.double()).detach()
    assert y.dtype == x.dtype
    assert (y.double() - expected).abs().max() / expected.abs().max() < DTYPES[x.dtype]


class Addmm(nn.Module):
    def __init__(self, dtype, **factors):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.randn(*size, dtype=dtype)) for size in ((64, 32), (32,)))
        self.factors = factors

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight, **self.factors)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5, "beta": 2}, {"beta": 0}], ids=str)
def test_addmm_keeps_its_dtype(dtype, factors):
    """GPT-2's dense layers are addmm."""
    torch.manual_seed(0)
    agrees(Addmm(dtype, **factors), torch.randn(4, 64, dtype=dtype))


CONVOLUTIONS = {
    "2d": (lambda: nn.Conv2d(4, 8, 3, 2, 1), (2, 4, 9, 9)),
    "2d, no bias": (lambda: nn.Conv2d(4, 8, (3, 1), bias=False), (2, 4, 9, 9)),
    "2d, groups and dilation": (lambda: nn.Conv2d(4, 8, 3, dilation=2, groups=2), (1, 4, 9, 9)),
    "1d": (lambda: nn.Conv1d(4, 8, 3, 2, 1), (2, 4, 17)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_keep_their_dtype(dtype, name):
    torch.manual_seed(0)
    make, shape = CONVOLUTIONS[name]
    agrees(nn.Sequential(make(), nn.ReLU()).to(dtype).eval(), torch.randn(*shape, dtype=dtype))
