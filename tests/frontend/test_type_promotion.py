"""Types as torch has them: numbers beside tensors, divisions, comparisons, and what comes of them in whole models."""

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.type_promotion import promote_types


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def lowered(function, *args):
    return torch.export.export(Apply(function), args).run_decompositions()


def casts(program):
    return [node for node in program.graph.nodes if node.target == torch.ops.aten._to_copy.default]


def test_operands_are_cast_to_the_dtype_of_the_result_and_nothing_else():
    program = lowered(lambda x, n: (x * 2 + n / 2, n + 1, n == 0.5, torch.isnan(x)), torch.randn(3), torch.arange(3))
    expected = program.module()(torch.ones(3), torch.arange(3))
    promote_types(program)
    program.graph_module.graph.lint()
    assert [(cast.args[0].name, cast.kwargs["dtype"]) for cast in casts(program)] == [("args_1", torch.float32)] * 2
    for got, want in zip(program.module()(torch.ones(3), torch.arange(3)), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_a_condition_keeps_its_dtype():
    program = lowered(lambda m, x, n: torch.where(m, x, n), torch.tensor([True, False]), torch.randn(2), torch.arange(2))
    promote_types(program)
    assert [cast.args[0].name for cast in casts(program)] == ["args_2"]


def test_float16_beside_a_number_that_it_cannot_hold_is_computed_in_float32():
    x = torch.tensor([1000.0, 60000.0], dtype=torch.float16)
    y = tb.compile(Apply(lambda x: (x * 1e-8, x / 1e6, x * 0.5)), (x,), tolerance=1)(x)
    for got, want in zip(y, (x * 1e-8, x / 1e6, x * 0.5), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=6e-8)
    assert y[0].all()


NUMBERS = torch.tensor([1, 2, 3, 7])
INTEGERS = {  # an example on which TVM's importer is right by chance; other numbers are given afterwards
    "t / 2": (lambda t: t / 2, [2, 4, 0, 8]),
    "t / t": (lambda t: t / torch.tensor([2, 2, 2, 2]), [2, 4, 0, 8]),
    "t / 2.0": (lambda t: t / 2.0, [0, 0, 0, 0]),
    "t * 0.5": (lambda t: t * 0.5, [2, 4, 0, 8]),
    "t ** 0.5": (lambda t: t**0.5, [4, 4, 0, 9]),
    "2.0 / t": (lambda t: 2.0 / (t + 1), [0, 1, 0, 1]),
    "t > 0.5": (lambda t: t > 0.5, [2, 4, 0, 8]),
    "clamp": (lambda t: torch.clamp(t, min=1.5), [4, 4, 2, 9]),
    "t / max": (lambda t: t / t.max(), [4, 4, 4, 4]),
    "mask * -1e4": (lambda t: (t == 2) * -1e4, [1, 1, 1, 1]),
    "(1 - mask) * least": (lambda t: (1 - t) * torch.finfo(torch.float32).min, [1, 1, 1, 1]),
    "share": (lambda t: t / t.sum(0, keepdim=True), [1, 0, 0, 0]),
    "exp": (torch.exp, [0, 0, 0, 0]),
    "log": (torch.log, [1, 1, 1, 1]),
    "sin": (torch.sin, [0, 0, 0, 0]),
    "mean": (lambda t: (t * 1.0).mean() + t / 4, [4, 4, 0, 8]),
    "count": (lambda t: (t > 9).sum().clamp(min=1), [10, 10, 10, 10]),
    "t + 2 t'": (lambda t: torch.add(t, t, alpha=2), [0, 0, 0, 0]),
}


@pytest.mark.slow
def test_integers_are_promoted_as_torch_promotes_them():
    class All(nn.Module):
        def forward(self, *given):
            return [function(t) for (function, _), t in zip(INTEGERS.values(), given, strict=True)]

    module = tb.compile(All(), tuple(torch.tensor(example) for _, example in INTEGERS.values()))
    got = module(*[NUMBERS.clone() for _ in INTEGERS])
    for name, y, (function, _) in zip(INTEGERS, got, INTEGERS.values(), strict=True):
        torch.testing.assert_close(y, function(NUMBERS), msg=lambda text, name=name: f"{name}: {text}")


class Places(nn.Module):
    def forward(self, x):
        return x[-1], x[:, -1], x[:, [0, -1]], x[[-1, 0], [-2, 1]], x[..., -3:], x[1]


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, ({0: torch.export.Dim("rows", min=3)},)], ids=["static", "dynamic"])
def test_places_may_count_from_the_end(dynamic):
    module = tb.compile(Places(), (torch.randn(4, 6),), dynamic_shapes=dynamic)
    for rows in (4, 9) if dynamic else (4,):
        x = torch.randn(rows, 6)
        for got, want in zip(module(x), Places()(x), strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.slow
def test_the_last_state_of_an_lstm():
    torch.manual_seed(0)
    lstm = nn.LSTM(8, 8).eval()
    model = Apply(lambda x: lstm(x)[1][0][-1])
    model.lstm, x = lstm, torch.randn(3, 2, 8)
    torch.testing.assert_close(tb.compile(model, (x,))(x), model(x).detach(), rtol=1e-4, atol=1e-5)


def test_a_scaled_elu():
    x = torch.linspace(-3, 3, 31)
    torch.testing.assert_close(tb.compile(nn.SELU(), (x,))(x), nn.SELU()(x))


ROWS = torch.randint(0, 10, (6,), generator=torch.Generator().manual_seed(0))
MISSING = {
    "histc": (lambda x: torch.histc(x, 8, -2, 2), torch.linspace(-2.1, 2, 40)),
    "histc of all": (lambda x: torch.histc(x, 4), torch.linspace(-2.1, 2, 40)),
    "index_add": (lambda x, y: x.index_add(0, torch.tensor([1, 1, 3]), y), torch.randn(4, 8), torch.randn(3, 8)),
    "scatter_add": (lambda x, y: x.scatter_add(0, torch.zeros(2, 8, dtype=torch.long), y), torch.randn(4, 8), torch.randn(2, 8)),
    "grouped_mm": (
        # ends that are drawn would leave rows to nobody, which torch does not write
        lambda x, w: torch._grouped_mm(x, w, offs=torch.tensor([3, 3, 16], dtype=torch.int32)),
        torch.randn(16, 16).bfloat16(),
        torch.randn(3, 16, 16).bfloat16(),
    ),
    **{
        f"embedding_bag {mode}": (
            lambda w, i, at, mode=mode: nn.functional.embedding_bag(i, w, at, mode=mode),
            torch.randn(10, 8),
            ROWS,
            torch.tensor([0, 2, 2]),
        )
        for mode in ("sum", "mean", "max")
    },
}


@pytest.mark.grid
@pytest.mark.parametrize("name", MISSING)
def test_operators_that_tvm_does_not_take(name):
    function, *args = MISSING[name]
    got, want = tb.compile(Apply(function), args)(*args), function(*args)
    torch.testing.assert_close(got, want, rtol=2e-2 if want.dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def test_a_bilinear_layer():
    torch.manual_seed(0)
    layer, args = nn.Bilinear(8, 6, 5).eval(), (torch.randn(4, 8), torch.randn(4, 6))
    torch.testing.assert_close(tb.compile(layer, args)(*args), layer(*args).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_encoder_with_a_causal_mask():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1).eval()
    model = Apply(lambda x: encoder(x, mask=nn.Transformer.generate_square_subsequent_mask(6), is_causal=True))
    model.encoder, x = encoder, torch.randn(2, 6, 16)
    torch.testing.assert_close(tb.compile(model, (x,))(x), model(x).detach(), rtol=1e-4, atol=1e-4)


def test_a_refusal_names_the_operator_and_its_layer():
    class Sorted(nn.Module):
        def forward(self, x):
            return torch.cummax(x, 0).values

    for model, words in (
        (nn.Sequential(nn.ReLU(), Sorted()), ("aten.cummax.default", "in layer '1'", "write it in other operators")),
        (Apply(lambda x: x + torch.randn(3)), ("aten.randn.default", "in the model itself", "draws random numbers")),
        (nn.Sequential(nn.MaxPool1d(2, return_indices=True)), ("max_pool2d_with_indices", "where each largest value was")),
    ):
        with pytest.raises(ModelError) as error:
            import_model(model, (torch.randn(2, 4, 3),))
        assert all(word in str(error.value) for word in words), str(error.value)


SMALL = torch.cat([torch.logspace(-6, 1, 100), -torch.logspace(-6, -0.5, 50)])
ACTIVATIONS = [torch.tanh, torch.sigmoid, torch.exp, torch.log1p, torch.expm1, torch.erf, torch.sinh, nn.functional.gelu]
ACTIVATIONS += [nn.functional.silu, nn.functional.softplus, nn.functional.elu, nn.functional.selu, nn.functional.mish]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_activations_in_half_precision_are_within_one_unit_in_the_last_place(dtype):
    x = SMALL.to(dtype)
    got = tb.compile(Apply(lambda x: [f(x) for f in ACTIVATIONS]), (x,), tolerance=1)(x)
    limits = torch.finfo(dtype)
    for y, function in zip(got, ACTIVATIONS, strict=True):
        want = function(x.double())
        unit = (2 ** want.abs().clamp(min=limits.smallest_normal).log2().floor()) * limits.eps
        assert ((y.double() - want).abs() / unit).max() < 1, function


@pytest.mark.slow
def test_small_numbers_in_float32_are_kept():
    x, functions = torch.logspace(-8, -1, 50), (torch.log1p, torch.expm1, torch.sinh)
    for y, function in zip(tb.compile(Apply(lambda x: [f(x) for f in functions]), (x,))(x), functions, strict=True):
        torch.testing.assert_close(y, function(x), rtol=2e-6, atol=0)
