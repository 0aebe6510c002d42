import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model

BATCH, LENGTH = torch.export.Dim("batch"), torch.export.Dim("length", max=20)


class Positions(nn.Module):
    """Adds the embedding of each position, a slice of a table as in BERT."""

    def __init__(self, cut):
        super().__init__()
        self.cut = cut
        self.register_buffer("positions", torch.arange(20)[None])
        self.table, self.out = nn.Embedding(20, 32), nn.Linear(32, 16)

    def forward(self, x):
        return self.out((x + self.table(self.cut(self.positions, x.shape[1]))).reshape(x.shape[0], -1, 32))


@pytest.mark.slow
@pytest.mark.grid
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


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize(
    "cut", [lambda x: x[:, :5], lambda x: x[:, 2:], lambda x: x[:, : x.shape[1] : 2]], ids=["a constant", "no end", "a step"]
)
def test_other_slices_are_as_they_were(cut):
    for dynamic, shapes in ((None, [(3, 8, 4)]), (({0: BATCH, 1: torch.export.Dim("length", min=6)},), [(3, 8, 4), (9, 7, 4)])):
        module = tb.compile(Cut(cut), (torch.randn(3, 8, 4),), dynamic_shapes=dynamic)
        for shape in shapes:
            x = torch.randn(shape)
            torch.testing.assert_close(module(x), cut(x) * 2)


def test_a_slice_without_the_last_keeps_its_shape():
    """As behind the convolution of positions in Wav2Vec2, whose even kernel makes one step too many."""

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.positions = nn.Conv1d(4, 4, 3, stride=2), nn.Conv1d(4, 4, 4, padding=2)

        def forward(self, x):
            x = self.down(x)
            return self.positions(x)[:, :, :-1] + x

    shifted = Shifted().eval()
    length = torch.export.Dim("length", min=8, max=64)
    module = tb.compile(shifted, (torch.randn(3, 4, 21),), dynamic_shapes=({2: length},), threads=1, race=False)
    for size in (8, 31):
        x = torch.randn(3, 4, size)
        torch.testing.assert_close(module(x), shifted(x), rtol=1e-4, atol=1e-5)


def test_a_slice_to_an_end_that_a_call_may_put_past_the_tensor_reads_nothing_there():
    """torch exports it under the condition that batch <= length, which a compiled module does not know."""
    module = tb.compile(
        Cut(lambda x: x[:, : x.shape[0]]),
        (torch.randn(3, 8, 4),),
        dynamic_shapes=({0: BATCH, 1: torch.export.Dim("length", min=6)},),
    )
    assert module(torch.randn(9, 7, 4)).shape == (9, 7, 4)


@pytest.mark.grid
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
    """Whether a compiled model agrees with the model in float64, within the precision of its dtype."""
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


@pytest.mark.slow
@pytest.mark.grid
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


@pytest.mark.grid
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_keep_their_dtype(dtype, name):
    torch.manual_seed(0)
    make, shape = CONVOLUTIONS[name]
    agrees(nn.Sequential(make(), nn.ReLU()).to(dtype).eval(), torch.randn(*shape, dtype=dtype))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


@pytest.mark.grid
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.int64, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("dim", [0, -1])
def test_a_running_sum_has_the_dtype_that_torch_gives_it(dtype, dim):
    x = (torch.arange(48).reshape(3, 16) % 5 > 1).to(dtype)
    y = tb.compile(Apply(lambda x: torch.cumsum(x, dim)), (x,))(x)
    assert y.dtype == torch.cumsum(x, dim).dtype
    torch.testing.assert_close(y, torch.cumsum(x, dim))


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32], ids=str)
@pytest.mark.parametrize("function", [torch.eq, torch.ne])
def test_comparison(function, dtype):
    x, y = ((torch.arange(64).reshape(2, 32) % n > 1).to(dtype) for n in (3, 5))
    args = x, y, x[:, None, :], y[:, :, None]
    module = tb.compile(Apply(lambda *pairs: [torch.where(function(*pair), 1.0, 0.0) for pair in (pairs[:2], pairs[2:])]), args)
    for got, pair in zip(module(*args), (args[:2], args[2:]), strict=True):
        torch.testing.assert_close(got, torch.where(function(*pair), 1.0, 0.0))


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("function", [torch.amax, torch.amin])
@pytest.mark.parametrize("options", [{"dim": 1}, {"dim": (0, 1), "keepdim": True}, {"dim": ()}], ids=str)
def test_largest_and_least_values(function, options):
    x = torch.arange(2 * 8 * 48.0).reshape(2, 8, 48).sin()
    given = x, (100 * x).to(torch.int64), x > -0.9
    module = tb.compile(Apply(lambda *tensors: [function(tensor, **options) for tensor in tensors]), given)
    for got, tensor in zip(module(*given), given, strict=True):
        torch.testing.assert_close(got, function(tensor, **options))


@pytest.mark.grid
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32], ids=str)
def test_whether_any_is_not_zero(dtype):
    module = tb.compile(Apply(lambda x: torch.where(torch.any(x), 1.0, -1.0)), (torch.zeros(4, 5, dtype=dtype),))
    assert module(torch.zeros(4, 5, dtype=dtype)) == -1
    for place in (0, 7, 19):
        x = torch.zeros(20, dtype=dtype)
        x[place] = 1
        assert module(x.reshape(4, 5)) == 1


def test_comparison_with_a_number():
    x = torch.arange(6)
    torch.testing.assert_close(tb.compile(Apply(lambda x: (x == 3) | (x != 5)), (x,))(x), (x == 3) | (x != 5))


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "Qwen2ForCausalLM"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_causal_language_models(name, dtype):
    """As transformers writes them: masks by cumsum of booleans, RMSNorm, rotary embeddings, addmm."""
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, name)
    common = {"vocab_size": 128, "bos_token_id": 0, "eos_token_id": 0}
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    small = {"n_embd": 64, "n_layer": 1, "n_head": 4} if name.startswith("GPT2") else sizes | heads
    torch.manual_seed(0)
    language_model = model_class(model_class.config_class(**common, **small)).to(dtype).eval()
    tb.prune(language_model, "4:16")
    model, tokens = Apply(lambda ids: language_model(input_ids=ids, use_cache=False).logits), torch.randint(0, 128, (1, 12))
    model.language_model = language_model
    y, expected = tb.compile(model, (tokens,))(tokens), model(tokens).detach()
    assert (y - expected).abs().max() / expected.abs().max() < (1e-5 if dtype == torch.float32 else 3e-2)


@pytest.mark.slow
def test_numbers_counted_downwards_and_numbers_that_are_shifted():
    def function(x, y):
        return torch.arange(5, 0, -2) + y[:3], torch.arange(1, 0, -0.25) + y[:4], 2 << x, torch.bitwise_right_shift(64, x)

    x, y = torch.tensor([0, 1, 2, 3], dtype=torch.uint8), torch.arange(5)
    for got, want in zip(tb.compile(Apply(function), (x, y), threads=1)(x, y), function(x, y), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


class Ranked(nn.Module):
    """Sorts, the largest values and their places, and the median, of each tensor."""

    def forward(self, *tensors):
        return [(*x.sort(1), *x.topk(3, 1), x.argsort(1, descending=True), *x.median(1)) for x in tensors]


NARROW = (torch.bfloat16, torch.float16, torch.uint8, torch.int8, torch.int16)


@pytest.fixture(scope="module")
def ranked():
    """Dtype to what a module and torch give for numbers of it; one module for all."""
    numbers = torch.arange(44).reshape(4, 11) * 37 % 101
    given = [(numbers - (0 if dtype == torch.uint8 else 50)).to(dtype) for dtype in NARROW]
    return dict(zip(NARROW, zip(tb.compile(Ranked(), given, threads=1)(*given), Ranked()(*given), strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_narrow_numbers_are_ranked_by_their_values(dtype, ranked):
    for got, want in zip(*ranked[dtype], strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


class Marked(nn.Module):
    def forward(self, x, places, marks):
        return x.scatter_add(0, places, marks), x.index_put([places], marks, accumulate=True)


def test_true_added_to_true_any_number_of_times_is_true():
    x, places, marks = torch.zeros(3, dtype=torch.bool), torch.zeros(512, dtype=torch.int64), torch.ones(512, dtype=torch.bool)
    for got in tb.compile(Marked(), (x, places, marks), threads=1)(x, places, marks):
        assert got.tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_dense_layer_with_a_bias_stays_in_half_precision(dtype):
    """In float32 its weight would take twice the memory, and miss the kernels of half precision. Its bias is added in float32
    anyway.
    """
    layer = torch.nn.Linear(64, 32).to(dtype).eval()
    assert "float32" not in import_model(layer, (torch.zeros(2, 64, dtype=dtype),)).mod.script()


class Pools(nn.Module):
    """Windows that are larger than the image in one axis or both, as the pooling of EfficientNet, and that are not."""

    def __init__(self):
        super().__init__()
        windows = ((1280, None), ((9, 2), (9, 2)), ((3, 1280), (2, 1280)))
        kinds = (nn.AvgPool2d, nn.MaxPool2d)
        self.pools = nn.ModuleList(kind(size, stride, ceil_mode=True) for kind in kinds for size, stride in windows)
        self.padded = nn.AvgPool2d(7, 4, padding=3, ceil_mode=True)

    def forward(self, x):
        return [pool(x) for pool in (*self.pools, self.padded)]


def test_a_window_larger_than_the_image_is_the_image():
    x = torch.randn(2, 3, 7, 6)
    mod = import_model(Pools(), (x,)).mod
    assert "1280" not in mod.script()
    for got, want in zip(tb.compile(Pools(), (x,))(x), Pools()(x.double()), strict=True):
        torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=1e-6)


def test_a_part_of_a_split_is_read_where_it_is_used():
    class Halves(nn.Module):
        def forward(self, x):
            a, b, rest = x.split([16, 16, 8], -1)
            return a.sigmoid() * b, rest.chunk(2, -2)[1]

    x = torch.randn(3, 6, 40)
    module = tb.compile(Halves(), (x,))
    for got, want in zip(module(x), Halves()(x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    assert not [row.name for row in module.report.functions if not row.scheduled]
