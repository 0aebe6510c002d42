import pytest
import torch
from support import reference
from torch import nn
from torch.nn import functional

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.frontend.constant_folding import fold_constants
from tvm_balanced.frontend.decompositions import decompositions

N, K = 48, 64
PATTERN = BalancedPattern(2, 16)


class Masked(nn.Module):
    """A layer whose weight is computed in every call."""

    def __init__(self, rng, compute):
        super().__init__()
        kept = torch.from_numpy(reference.balanced(N, K, PATTERN, rng))
        mask = kept != 0
        self.compute = compute
        self.weight = nn.Parameter(kept + ~mask * torch.rand(N, K))
        self.register_buffer("mask", mask.float())
        self.scores = nn.Parameter(torch.where(mask, 1.0, -1.0) + 0.1 * torch.randn(N, K))
        self.left, self.right = nn.Parameter(torch.randn(N, 2)), nn.Parameter(torch.randn(2, K))
        self.magnitude = nn.Parameter(torch.rand(N, 1))

    def forward(self, x):
        return functional.linear(x, self.compute(self))


EXPRESSIONS = {
    "a mask": lambda m: m.weight * m.mask,
    "a mask of booleans": lambda m: m.weight * m.mask.bool(),
    "a mask of integers": lambda m: m.weight * m.mask.to(torch.int32),
    "where": lambda m: torch.where(m.mask.bool(), m.weight, 0.0),
    "masked_fill": lambda m: m.weight.masked_fill(m.mask == 0, 0.0),
    "a threshold of scores": lambda m: m.weight * (torch.sigmoid(m.scores) > 0.5).float(),
    "a threshold of magnitudes": lambda m: (m.weight * m.mask) * ((m.weight * m.mask).abs() > 1e-9),
    "a weight norm": lambda m: m.magnitude * (m.weight * m.mask) / (m.weight * m.mask).norm(dim=1, keepdim=True),
    "a low-rank sum under a mask": lambda m: (m.weight + m.left @ m.right) * m.mask,
    "rows of a joined weight": lambda m: torch.cat([m.weight, m.weight])[N:] * m.mask,
}


@pytest.mark.grid
@pytest.mark.parametrize("compute", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_zeros_are_seen_however_the_weight_is_written(compute, rng):
    model = nn.Sequential(Masked(rng, compute)).eval()
    x = torch.randn(5, K)
    module = tb.compile(model, (x,), threads=1, kernels={"0": "cpu_portable"})
    (row,) = module.report.layers
    assert (row.layer, row.verdict, row.pattern) == ("0", "sparse", "2:16")
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("other", [None, 7])
def test_parts_of_the_joined_weight_of_an_attention_are_layers(other):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(32, 2, batch_first=True).eval()
    with torch.no_grad():
        attention.in_proj_weight[:, 4:] = 0

    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = attention

        def forward(self, q, m):
            return self.a(q, m, m, need_weights=False)[0]

    q, m = torch.randn(1, 5, 32), torch.randn(1, other or 5, 32)
    module = tb.compile(Cross(), (q, m), threads=1)
    rows = {row.layer: row for row in module.report.layers}
    assert {"a.in_proj_weight.0", "a.in_proj_weight.1"} <= set(rows)
    assert all(rows[f"a.in_proj_weight.{i}"].sparsity > 0.8 for i in range(2))
    torch.testing.assert_close(module(q, m), Cross()(q, m), rtol=1e-4, atol=1e-5)


def mask(*shape):
    """Three quarters zeros, in blocks along the last axis."""
    return (torch.arange(shape[-1]) % 4 == 0).float().expand(shape).contiguous()


class Computed(nn.Module):
    """An operator whose weight is computed in every call."""

    def __init__(self, shape, compute, operator):
        super().__init__()
        self.weight, self.compute, self.operator = nn.Parameter(torch.randn(shape)), compute, operator
        self.register_buffer("mask", mask(*shape))

    def forward(self, x):
        return self.operator(x, self.compute(self.weight, self.mask))


COMPUTED = {
    "a mask": lambda w, m: w * m,
    "where": lambda w, m: torch.where(m.bool(), w, 0.0),
    "masked_fill": lambda w, m: w.masked_fill(m == 0, 0.0),
    "a threshold": lambda w, m: (w * m) * ((w * m).abs() > 1e-9),
    "a norm": lambda w, m: (w * m) / (w * m).flatten(1).norm(dim=1).view(-1, *[1] * (w.dim() - 1)).clamp(min=1e-6),
    "a slice of a joined weight": lambda w, m: torch.cat([w, w * m])[w.shape[0] :],
}
OPERATORS = {
    "convolution 1d": ((16, 8, 8), lambda: torch.randn(2, 8, 20), functional.conv1d),
    "convolution 2d": ((16, 8, 3, 4), lambda: torch.randn(2, 8, 9, 9), functional.conv2d),
    "transposed convolution 2d": ((8, 16, 3, 4), lambda: torch.randn(2, 8, 5, 5), functional.conv_transpose2d),
    "batched product": ((4, 16, 32), lambda: torch.randn(4, 3, 16), torch.bmm),
    "lookup": ((40, 32), lambda: torch.randint(0, 40, (3, 5)), functional.embedding),
}


@pytest.mark.grid
@pytest.mark.parametrize("kind", OPERATORS)
def test_the_weight_of_every_operator_is_evaluated_once(kind):
    shape, draw, operator = OPERATORS[kind]
    torch.manual_seed(0)

    def all_of_them(x, weights):
        return [operator(x, weight) for weight in weights]

    model = Computed(shape, lambda w, m: [compute(w, m) for compute in COMPUTED.values()], all_of_them).eval()
    program, new = folded(model, draw())
    expected = model.compute(model.weight.detach(), model.mask)
    got = [program.state_dict[name] for name in sorted(new)]
    assert [f"weight.{place}" for place in range(len(COMPUTED))] == sorted(new)
    for have, want in zip(got, expected, strict=True):
        torch.testing.assert_close(have, want)
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert len([call for call in calls if "_assert" not in call]) == len(COMPUTED)  # the operators alone


@pytest.mark.grid
@pytest.mark.parametrize("kind", OPERATORS)
def test_the_zeros_of_a_weight_that_is_computed_are_in_the_report(kind):
    shape, draw, operator = OPERATORS[kind]
    report = tb.inspect(Computed(shape, COMPUTED["where"], operator).eval(), (draw(),), threads=1, logs=False)
    found = [(row.name, row.sparsity) for row in report.operators if row.kind == kind]
    found += [(row.layer, row.sparsity) for row in report.layers]  # a convolution that a kernel takes
    assert found == [("weight", pytest.approx(0.75, abs=0.01))]


def test_the_first_state_of_a_recurrent_layer_is_no_weight():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(32, 64)

        def forward(self, x):
            return self.fc(torch.zeros(8, 32)) + x

    assert not folded(Step(), torch.randn(8, 64))[1]


def folded(model, *args):
    program = torch.export.export(model.eval(), args).run_decompositions(decompositions())
    before = set(program.state_dict)
    fold_constants(program)
    return program, set(program.state_dict) - before


ROWS = 300  # more scales than the smallest weight has elements
DEQUANTISATIONS = {
    "a scale for each row": lambda m: m.codes.float() * m.scales,
    "scales first": lambda m: m.scales * m.codes.float(),
    "a zero point": lambda m: (m.codes.float() - m.zeros) * m.scales,
    "a scale for all": lambda m: m.codes.float() * m.scales[0, 0],
    "groups along a row": lambda m: (m.codes.float().view(ROWS, -1, 16) * m.groups).view(ROWS, K),
}


@pytest.mark.grid
@pytest.mark.parametrize("dequantise", DEQUANTISATIONS.values(), ids=DEQUANTISATIONS)
def test_integers_times_scales_stay(dequantise):
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("codes", torch.randint(-8, 8, (ROWS, K), dtype=torch.int8))
            self.register_buffer("scales", torch.rand(ROWS, 1))
            self.register_buffer("zeros", torch.randint(-8, 8, (ROWS, 1)).float())
            self.register_buffer("groups", torch.rand(ROWS, K // 16, 1))

        def forward(self, x):
            return functional.linear(x, dequantise(self))

    program, new = folded(Quantised(), torch.randn(3, K))
    assert not new
    assert any(str(node.target) == "aten.mul.Tensor" for node in program.graph.nodes)
    assert any(tensor.dtype == torch.int8 for tensor in program.state_dict.values())


def test_plain_weights_stay_where_they_are():
    model = nn.Sequential(nn.Linear(K, N), nn.LayerNorm(N), nn.Linear(N, 8))
    program, new = folded(model, torch.randn(3, K))
    assert not new
    assert program.state_dict["0.weight"].data_ptr() == model[0].weight.data_ptr()


def test_what_depends_on_an_input_or_is_random_stays():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(N, K))

        def forward(self, x):
            return functional.linear(x, self.weight * x.sum()) + functional.linear(x, self.weight * torch.rand(N, K))

    assert not folded(Noisy(), torch.randn(3, K))[1]


def test_the_users_model_is_untouched(rng):
    model = nn.Sequential(Masked(rng, EXPRESSIONS["where"])).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    import_model(model, (torch.randn(2, K),))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
