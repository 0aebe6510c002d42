"""The report accounts for all weights and multiply-adds, beside a count that torch makes."""

import pytest
import torch
from support import reference
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import tvm_balanced as tb
from tvm_balanced.core.pattern import BalancedPattern


class Cross(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, q, m):
        return self.attention(q, m, m, need_weights=False)[0]


class Experts(nn.Module):
    """Three-dimensional weights, by bmm and by einsum."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(4, 32, 64)), nn.Parameter(torch.randn(4, 64, 32))
        self.gate = nn.Linear(32, 4)

    def forward(self, x):
        h = torch.einsum("bi,eio->ebo", x, self.up).relu()
        return torch.einsum("ebo,be->bo", torch.bmm(h, self.down), self.gate(x).softmax(-1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(100, 48), nn.Linear(48, 48)

    def forward(self, ids):
        return self.mix(self.embed(ids)) @ self.embed.weight.T


class Left(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.fc = nn.Parameter(torch.randn(40, 24)), nn.Linear(16, 16)

    def forward(self, x):
        return self.w @ self.fc(x)


class Bag(nn.Module):
    """Looks rows up, and sums those of each bag."""

    def __init__(self):
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(300, 32, mode="mean"), nn.Linear(32, 64)

    def forward(self, ids, offsets):
        return self.fc(self.bag(ids, offsets))


class Codebook(nn.Module):
    """Distances to rows of a table, which is read as it is, too."""

    def __init__(self):
        super().__init__()
        self.project, self.rows = nn.Linear(48, 32), nn.Parameter(torch.randn(40, 32))

    def forward(self, x):
        return self.rows[torch.cdist(self.project(x), self.rows).argmin(-1)]


class Positions(nn.Module):
    """A table of positions, of which a call of six tokens reads six rows."""

    def __init__(self):
        super().__init__()
        self.words, self.places, self.fc = nn.Embedding(100, 48), nn.Embedding(64, 48), nn.Linear(48, 48)

    def forward(self, ids):
        return self.fc(self.words(ids) + self.places(torch.arange(ids.shape[1])))


class Relative(nn.Module):
    """A small table that is spread over all pairs of places, as in Swin."""

    def __init__(self):
        super().__init__()
        self.fc, self.table = nn.Linear(32, 32), nn.Parameter(torch.randn(25, 4))
        self.register_buffer("places", torch.arange(81).reshape(9, 9) % 25)

    def forward(self, x):
        heads = self.fc(x).unflatten(-1, (4, 8)).transpose(1, 2)
        return heads @ heads.transpose(2, 3) + self.table[self.places].permute(2, 0, 1)


class Headless(nn.Module):
    """A layer whose result is not returned, as the pooler of an encoder of which only the states are asked."""

    def __init__(self):
        super().__init__()
        self.fc, self.pooler = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        states = self.fc(x)
        self.pooler(states)
        return states


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.b = nn.Bilinear(24, 16, 20)

    def forward(self, x, y):
        return self.b(x, y)


class Products(nn.Module):
    """A matmul written as a product and a sum."""

    def __init__(self):
        super().__init__()
        self.w, self.fc = nn.Parameter(torch.randn(20, 32)), nn.Linear(20, 20)

    def forward(self, x):
        return self.fc((x[:, None] * self.w).sum(-1))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(32, 24, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


class MadeState(nn.Module):
    """A product of a state that the model makes itself."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(32, 96)

    def forward(self, x):
        return self.fc(x) + nn.functional.linear(torch.zeros(3, 32), self.fc.weight)


class Routed(nn.Module):
    """A mixture of experts as transformers has it: rows are sorted by the expert that a router chose for them."""

    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(32, 4), *(nn.Parameter(torch.randn(4, *size)) for size in ((32, 48), (48, 32)))

    def forward(self, x):
        expert = self.gate(x).argmax(-1)
        order = expert.argsort()
        ends = (expert[None] == torch.arange(4)[:, None]).sum(1).cumsum(0).int()
        h = torch._grouped_mm(x[order].bfloat16(), self.up.bfloat16(), offs=ends).relu()
        return torch._grouped_mm(h, self.down.bfloat16(), offs=ends)[order.argsort()]


def conv_net():
    convolutions = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, groups=4), nn.ConvTranspose2d(16, 8, 2, 2)
    return nn.Sequential(convolutions[0], nn.BatchNorm2d(16), nn.ReLU(), *convolutions[1:], nn.Flatten(), nn.Linear(8 * 144, 10))


def ids(*shape):
    return torch.randint(0, 100, shape)


# model, arguments, multiply-adds that torch does not count
MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32)), lambda: (torch.randn(5, 64),), 0),
    "convolutions": (conv_net, lambda: (torch.randn(2, 3, 8, 8),), 0),
    "convolution 1d": (lambda: nn.Conv1d(4, 8, 3, dilation=2), lambda: (torch.randn(2, 4, 9),), 0),
    "convolution 3d": (lambda: nn.Conv3d(2, 4, 3), lambda: (torch.randn(1, 2, 5, 6, 7),), 0),
    "transposed convolution 1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), lambda: (torch.randn(2, 4, 9),), 0),
    "padded transposed convolution": (
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, padding=2),
        lambda: (torch.randn(2, 4, 9, 9),),
        0,
    ),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, activation="gelu"),
        lambda: (torch.randn(2, 12, 64),),
        0,
    ),
    "cross-attention": (Cross, lambda: (torch.randn(2, 6, 64), torch.randn(2, 9, 64)), 0),
    "lstm": (Lstm, lambda: (torch.randn(3, 5, 32),), 0),
    "made state": (MadeState, lambda: (torch.randn(3, 32),), 0),
    "embedding": (lambda: nn.Sequential(nn.Embedding(100, 48), nn.Linear(48, 64)), lambda: (ids(3, 7),), 0),
    "embedding bag": (Bag, lambda: (ids(12), torch.tensor([0, 5, 9])), 0),
    "codebook": (Codebook, lambda: (torch.randn(6, 48),), 6 * 40 * (32 + 2)),  # torch's counter passes over distances
    "positions": (Positions, lambda: (ids(2, 6),), 0),
    "relative positions": (Relative, lambda: (torch.randn(2, 9, 32),), 0),
    "a head that is not asked": (Headless, lambda: (torch.randn(4, 32),), -4 * 32 * 32),
    "experts": (Experts, lambda: (torch.randn(6, 32),), 0),
    "routed experts": (Routed, lambda: (torch.randn(24, 32),), 24 * 2 * 32 * 48),
    "tied embedding": (Tied, lambda: (ids(2, 5),), 0),
    "constant on the left": (Left, lambda: (torch.randn(24, 16),), 0),
    "bilinear": (Bilinear, lambda: (torch.randn(6, 24), torch.randn(6, 16)), 6 * 20 * 24 * 16),
    "a product and a sum": (Products, lambda: (torch.randn(6, 32),), 6 * 20 * 32),
}


def count(model, args):
    """Weights and multiply-adds, as torch counts them."""
    tensors = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    weights = sum({tensor.data_ptr(): tensor.numel() for tensor in tensors}.values())
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:  # the counter sees neither what oneDNN computes nor fused attention
        counter = FlopCounterMode(display=False)
        with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH), torch.no_grad(), counter:
            model(*args)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return weights, counter.get_total_flops() // 2


@pytest.mark.grid
@pytest.mark.parametrize("name", MODELS)
def test_weights_and_multiply_adds_are_those_that_torch_counts(name):
    torch.manual_seed(0)
    make, arguments, more = MODELS[name]
    model, args = make().eval(), arguments()
    weights, macs = count(model, args)
    report = tb.inspect(model, args, threads=1, logs=False)
    assert report.weights == pytest.approx(weights, rel=0.02)
    assert report.macs == pytest.approx(macs + more, rel=0.02)
    shares = [sum(getattr(row, what) for row in (*report.layers, *report.operators)) for what in ("weights", "macs")]
    assert shares == [report.weights, report.macs]


KINDS = {
    "convolutions": set(),
    "convolution 3d": set(),
    "transposed convolution 1d": set(),
    "padded transposed convolution": {"transposed convolution 2d"},
    "embedding": {"lookup"},
    "experts": {"batched product", "products of activations"},
    "constant on the left": {"constant on the left"},
    "lstm": set(),
    "made state": {"product"},
    "a product and a sum": {"summed product"},
    "bilinear": set(),
}


@pytest.mark.grid
@pytest.mark.parametrize("name", KINDS)
def test_operators_have_a_row_with_kind_and_reason(name):
    make, arguments, _ = MODELS[name]
    report = tb.inspect(make().eval(), arguments(), threads=1, logs=False)
    rows = [row for row in report.operators if row.kind != "elementwise"]
    assert {row.kind for row in rows} == KINDS[name]
    assert all(row.reason and row.verdict in ("dense", "folded") for row in rows)


def test_a_tied_weight_counts_once_where_it_is_multiplied():
    report = tb.inspect(Tied().eval(), (ids(2, 5),), threads=1, logs=False)
    lookup = next(row for row in report.operators if row.kind == "lookup")
    tied = next(row for row in report.layers if row.n == 100)
    assert (lookup.weights, tied.weights) == (0, 100 * 48)
    assert "counted there" in lookup.reason


def test_a_weight_that_is_looked_up_first_counts_where_it_is_multiplied():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(40, 24))

        def forward(self, ids):
            return self.w @ nn.functional.embedding(ids, self.w).T

    report = tb.inspect(Model().eval(), (ids(40) % 40,), threads=1, logs=False)
    assert {row.kind: row.weights for row in report.operators} == {"lookup": 0, "constant on the left": 40 * 24}


@pytest.mark.parametrize(("make", "arguments", "name", "left"), [
    (Headless, lambda: (torch.randn(4, 32),), "pooler", 33 * 32),
    (Positions, lambda: (ids(2, 6),), "places", 58 * 48),
])  # fmt: skip
def test_what_no_output_depends_on_has_a_row_with_its_name(make, arguments, name, left):
    model = make().eval()
    with torch.no_grad():
        getattr(model, name).weight[:, ::2] = 0
    (row,) = (row for row in tb.inspect(model, arguments(), threads=1, logs=False).operators if row.kind == "unread")
    assert (row.weights, row.macs, row.verdict) == (left, 0, "left out")
    assert row.sparsity == pytest.approx(0.5, abs=0.02)
    assert f"no output depends on them: {name}" in row.reason


def test_a_weight_that_is_read_as_it_is_and_folded_counts_once():
    report = tb.inspect(Codebook().eval(), (torch.randn(6, 48),), threads=1, logs=False)
    rows = {row.layer: row.weights for row in report.layers} | {row.kind: row.weights for row in report.operators}
    assert (rows["rows"], rows["lookup"]) == (40 * 32, 0)


def test_a_product_of_a_state_that_the_model_makes_is_folded():
    report = tb.inspect(MadeState().eval(), (torch.randn(3, 32),), threads=1, logs=False)
    (folded,) = (row for row in report.operators if row.verdict == "folded")
    assert (folded.name, folded.calls, folded.macs) == ("fc", 1, 3 * 96 * 32)


def test_an_expert_that_computes_all_rows_says_so_and_counts_its_share():
    report = tb.inspect(Routed().eval(), (torch.randn(24, 32),), threads=1, logs=False)
    experts = [row for row in report.layers if row.layer.startswith("up.")]
    assert [(row.m, row.macs) for row in experts] == [(24, 6 * 32 * 48)] * 4
    assert all("each of 4 experts computes all rows, which are counted once" in row.reason for row in experts)


def test_a_recurrent_layer_counts_every_step():
    report = tb.inspect(Lstm().eval(), (torch.randn(3, 5, 32),), threads=1, logs=False)
    hidden = next(row for row in report.layers if row.k == 24)
    assert (hidden.calls, hidden.macs, hidden.weights) == (5, 5 * 3 * 96 * 24, 96 * 24)


def test_an_image_of_any_size_has_a_row_with_a_reason():
    side = torch.export.Dim("side", min=4, max=64)
    report = tb.inspect(nn.Conv2d(4, 8, 3).eval(), (torch.randn(1, 4, 9, 9),), dynamic_shapes=({2: side, 3: side},), threads=1)
    (row,) = (row for row in report.operators if row.kind == "convolution 2d")
    assert "whose size is known" in row.reason


def test_a_pruned_convolution_shows_its_zeros():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten()).eval()
    with torch.no_grad():
        model[0].weight[:, 1:] = 0
    (row,) = tb.inspect(model, (torch.randn(1, 4, 6, 6),), threads=1).layers
    assert (row.layer, row.n, row.k, row.sparsity) == ("0", 8, 36, 0.75)


def sparse_net(rng):
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 192, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.from_numpy(reference.balanced(192, 64, BalancedPattern(2, 16), rng)))
    return model


def test_the_headline_says_what_runs_in_sparse_kernels(rng):
    model = sparse_net(rng)
    report = tb.inspect(model, (torch.randn(4, 64),), threads=1, logs=False, kernels={"1": "cpu_portable", "0": "cpu_dense"})
    assert (report.sparse_weights, report.sparse_macs) == (0.75, 0.75)
    dense, sparse = report.layers
    assert report.time_elsewhere == pytest.approx(1 - sparse.seconds / report.seconds)
    assert sparse.seconds > 0
    assert dense.seconds > 0
    assert str(report).startswith("75.0% of the weights and 75.0% of the multiply-adds run in sparse kernels, ")


@pytest.mark.slow
def test_work_counts_at_the_sizes_of_the_examples(rng):
    model, batch = sparse_net(rng), torch.export.Dim("batch", min=2, max=512)
    for rows in (3, 48):
        report = tb.inspect(model, (torch.randn(rows, 64),), dynamic_shapes=({0: batch},), threads=1, logs=False)
        assert report.macs == rows * 64 * (64 + 192)
        assert report.weights == 64 * (64 + 192)
        counted = [row for row in report.layers if row.macs]
        assert len(counted) == 2
        assert all(rows in row.rows for row in counted)


@pytest.mark.slow
def test_a_naive_loop_is_marked_and_weighs_most_in_a_convolutional_net():
    naive_one = nn.ConvTranspose2d(8, 32, 2, stride=2, padding=2)  # no kernel of ours takes so much padding
    net = nn.Sequential(naive_one, nn.ReLU(), nn.Flatten(), nn.Linear(32 * 28 * 28, 10)).eval()
    x = torch.randn(1, 8, 16, 16)
    inspected = tb.inspect(net, (x,), threads=1, logs=False)
    report = tb.compile(net, (x,), threads=1, logs=False).report
    for found in (inspected, report):
        naive = [row for row in found.functions if not row.scheduled]
        assert any("conv2d" in row.name for row in naive)
        assert sum(row.seconds for row in naive) > 0.5 * found.seconds
        assert "NAIVE LOOP" in str(found)
    assert report.operators == inspected.operators
    assert tb.core.report.Report.from_json(report.to_json()).functions == report.functions
