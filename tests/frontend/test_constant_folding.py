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


def folded(model, *args):
    program = torch.export.export(model.eval(), args).run_decompositions(decompositions())
    before = set(program.state_dict)
    fold_constants(program)
    return program, set(program.state_dict) - before


def test_integers_times_scales_stay():
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("codes", torch.randint(-8, 8, (N, K), dtype=torch.int8))
            self.register_buffer("scales", torch.rand(N, 1))

        def forward(self, x):
            return functional.linear(x, self.codes.float() * self.scales)

    program, new = folded(Quantised(), torch.randn(3, K))
    assert not new
    assert any(str(node.target) == "aten.mul.Tensor" for node in program.graph.nodes)


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
