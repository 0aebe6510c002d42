import numpy as np
import pytest
import torch
import tvm
from support.relax_modules import module
from torch import nn
from torch.nn import functional
from tvm import relax

import tvm_balanced as tb
from tvm_balanced.transform.legalize import LEGALIZE


@pytest.mark.parametrize("axis", [-1, 2, 1])
def test_softmax(axis, rng):
    legal = relax.transform.LegalizeOps(LEGALIZE)(module(lambda b, x: relax.op.nn.softmax(x, axis), (3, 5, 33)))
    x = (rng.standard_normal((3, 5, 33)) * 10).astype(np.float32)
    y = relax.VirtualMachine(tvm.compile(legal, "llvm"), tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    wide = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    np.testing.assert_allclose(y, wide / wide.sum(axis, keepdims=True), rtol=5e-6, atol=1e-30)


def test_softmax_divides_once_a_row():
    legal = relax.transform.LegalizeOps(LEGALIZE)(module(lambda b, x: relax.op.nn.softmax(x, -1), (3, 5, 32)))
    assert "softmax_scale" in legal.script()


@pytest.mark.parametrize("value", [-torch.inf, torch.inf, 2.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_full(value, dtype):
    class Filled(nn.Module):
        def forward(self, x):
            return torch.full((x.shape[0], 3), value, dtype=dtype)

    batch = torch.export.Dim("batch")
    for dynamic in (None, ({0: batch},)):
        module = tb.compile(Filled(), (torch.ones(4, 2),), dynamic_shapes=dynamic)
        torch.testing.assert_close(module(torch.ones(4, 2)), torch.full((4, 3), value, dtype=dtype))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(2))
        self.qkv, self.out, self.up, self.down = (nn.Linear(*size) for size in ((64, 192), (64, 64), (64, 128), (128, 64)))

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (4, 16)).transpose(1, 2) for part in self.qkv(self.norms[0](x)).chunk(3, -1))
        attention = functional.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v
        x = x + self.out(attention.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.norms[1](x))))


class Then(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(64, 64), function

    def forward(self, x):
        return self.function(self.linear(x))


MODELS = {
    "transformer": Transformer,
    "layer_norm": lambda: Then(nn.LayerNorm(64, elementwise_affine=False)),
    "mean_of_squares": lambda: Then(lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)),
    **{f.__name__: lambda f=f: Then(f) for f in (functional.silu, functional.softplus, functional.gelu, torch.sigmoid)},
    "softmax": lambda: Then(nn.Softmax(-1)),
}
LIMITS = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}  # four units in the last place


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_half_precision_models(name, dtype):
    torch.manual_seed(0)
    model, x = MODELS[name]().to(dtype).eval(), torch.randn(2, 8, 64, dtype=dtype)
    tb.prune(model, "4:16")
    y = tb.compile(model, (x,))(x).detach().double()
    expected = model.double()(x.double()).detach()
    assert (y - expected).abs().max() / expected.abs().max() < LIMITS[dtype]


@pytest.mark.parametrize("name", ["transformer", "mean_of_squares"])
def test_bfloat16_models_compile_for_a_gpu(name):
    model = MODELS[name]().bfloat16().eval()
    tb.prune(model, "4:16")
    tb.compile(model, (torch.randn(2, 8, 64, dtype=torch.bfloat16),), target="cuda/h200")
