import pytest
import torch
import tvm
from support.relax_modules import module
from torch import nn
from torch.nn import functional
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

import tvm_balanced as tb
from tvm_balanced.transform.legalize import LEGALIZE


@I.ir_module(s_tir=True)
class SoftmaxByAReciprocal:
    """One division a row."""

    @T.prim_func(private=True, s_tir=True)
    def softmax(
        x: T.Buffer((T.int64(3), T.int64(32)), "float32"),
        y: T.Buffer((T.int64(3), T.int64(32)), "float32"),
    ):
        T.func_attr({"tirx.noalias": True})
        largest = T.sblock_alloc_buffer((T.int64(3),))
        power = T.sblock_alloc_buffer((T.int64(3), T.int64(32)))
        total = T.sblock_alloc_buffer((T.int64(3),))
        scale = T.sblock_alloc_buffer((T.int64(3),))
        for i, j in T.grid(T.int64(3), T.int64(32)):
            with T.sblock("softmax_max"):
                vi, vj = T.axis.remap("SR", [i, j])
                with T.init():
                    largest[vi] = T.min_value("float32")
                largest[vi] = T.max(largest[vi], x[vi, vj])
        for i, j in T.grid(T.int64(3), T.int64(32)):
            with T.sblock("softmax_exp"):
                vi, vj = T.axis.remap("SS", [i, j])
                power[vi, vj] = T.exp(x[vi, vj] - largest[vi])
        for i, j in T.grid(T.int64(3), T.int64(32)):
            with T.sblock("softmax_sum"):
                vi, vj = T.axis.remap("SR", [i, j])
                with T.init():
                    total[vi] = T.float32(0.0)
                total[vi] = total[vi] + power[vi, vj]
        for i in range(T.int64(3)):
            with T.sblock("softmax_scale"):
                vi = T.axis.spatial(T.int64(3), i)
                scale[vi] = T.float32(1.0) / total[vi]
        for i, j in T.grid(T.int64(3), T.int64(32)):
            with T.sblock("softmax"):
                vi, vj = T.axis.remap("SS", [i, j])
                y[vi, vj] = power[vi, vj] * scale[vi]

    @R.function
    def main(x: R.Tensor((3, 32), "float32")) -> R.Tensor((3, 32), "float32"):
        cls = SoftmaxByAReciprocal
        with R.dataflow():
            y = R.call_tir(cls.softmax, (x,), out_ty=R.Tensor((3, 32), "float32"))
            R.output(y)
        return y


@I.ir_module(s_tir=True)
class PowerInBfloat16:
    @R.function
    def main(x: R.Tensor((4,), "bfloat16")) -> R.Tensor((4,), "bfloat16"):
        with R.dataflow():
            y = R.power(x, R.const(2.0, "bfloat16"))
            R.output(y)
        return y


@I.ir_module(s_tir=True)
class PowerInFloat32:
    """The exponent stays a constant."""

    @T.prim_func(private=True, s_tir=True)
    def cast(x: T.Buffer((T.int64(4),), "bfloat16"), y: T.Buffer((T.int64(4),), "float32")):
        T.func_attr({"tirx.noalias": True})
        for i in range(T.int64(4)):
            with T.sblock("compute"):
                vi = T.axis.spatial(T.int64(4), i)
                y[vi] = T.Cast("float32", x[vi])

    @T.prim_func(private=True, s_tir=True)
    def cast1(x: T.Buffer((T.int64(4),), "float32"), y: T.Buffer((T.int64(4),), "bfloat16")):
        T.func_attr({"tirx.noalias": True})
        for i in range(T.int64(4)):
            with T.sblock("compute"):
                vi = T.axis.spatial(T.int64(4), i)
                y[vi] = T.Cast("bfloat16", x[vi])

    @T.prim_func(private=True, s_tir=True)
    def power(x: T.Buffer((T.int64(4),), "float32"), y: T.Buffer((T.int64(4),), "float32")):
        T.func_attr({"tirx.noalias": True})
        for i in range(T.int64(4)):
            with T.sblock("T_power"):
                vi = T.axis.spatial(T.int64(4), i)
                y[vi] = T.pow(x[vi], T.float32(2.0))

    @R.function
    def main(x: R.Tensor((4,), "bfloat16")) -> R.Tensor((4,), "bfloat16"):
        cls = PowerInFloat32
        with R.dataflow():
            wide = R.call_tir(cls.cast, (x,), out_ty=R.Tensor((4,), "float32"))
            power = R.call_tir(cls.power, (wide,), out_ty=R.Tensor((4,), "float32"))
            y = R.call_tir(cls.cast1, (power,), out_ty=R.Tensor((4,), "bfloat16"))
            R.output(y)
        return y


@I.ir_module(s_tir=True)
class Infinite:
    @R.function
    def main() -> R.Tensor((4,), "float32"):
        with R.dataflow():
            y = R.full((4,), R.const(float("-inf"), "float32"), dtype="float32")
            R.output(y)
        return y


@I.ir_module(s_tir=True)
class InfiniteLegal:
    """The value is in the function, where TVM's own gives it as an argument."""

    @T.prim_func(private=True, s_tir=True)
    def full(y: T.Buffer((T.int64(4),), "float32")):
        T.func_attr({"tirx.noalias": True})
        for i in range(T.int64(4)):
            with T.sblock("full"):
                vi = T.axis.spatial(T.int64(4), i)
                T.reads()
                T.writes(y[vi])
                y[vi] = T.float32("-inf")

    @R.function
    def main() -> R.Tensor((4,), "float32"):
        cls = InfiniteLegal
        with R.dataflow():
            y = R.call_tir(cls.full, R.tuple(), out_ty=R.Tensor((4,), "float32"))
            R.output(y)
        return y


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (module(lambda b, x: relax.op.nn.softmax(x, -1), (3, 32)), SoftmaxByAReciprocal),
        (PowerInBfloat16, PowerInFloat32),
        (Infinite, InfiniteLegal),
    ],
    ids=["softmax", "power", "full"],
)
def test_the_module(before, expected):
    tvm.ir.assert_structural_equal(relax.transform.LegalizeOps(LEGALIZE)(before), expected)


@pytest.mark.parametrize(
    "build",
    [
        lambda b, x: relax.op.mean(x, 1),
        lambda b, x: relax.op.power(x, relax.const(2.0, "float32")),
        lambda b, x: relax.op.full((4,), relax.const(2.5, "float32"), "float32"),
    ],
    ids=["mean over one axis", "power", "full"],
)
def test_what_tvm_does_well_is_left_to_it(build):
    before, legalize = module(build, (3, 32)), relax.transform.LegalizeOps
    tvm.ir.assert_structural_equal(legalize(LEGALIZE)(before), legalize()(before))


@pytest.mark.grid
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


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_half_precision_models(name, dtype):
    torch.manual_seed(0)
    model, x = MODELS[name]().to(dtype).eval(), torch.randn(2, 8, 64, dtype=dtype)
    tb.prune(model, "4:16")
    y = tb.compile(model, (x,))(x).detach().double()
    expected = model.double()(x.double()).detach()
    assert (y - expected).abs().max() / expected.abs().max() < LIMITS[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer", "mean_of_squares"])
def test_bfloat16_models_compile_for_a_gpu(name):
    model = MODELS[name]().bfloat16().eval()
    tb.prune(model, "4:16")
    tb.compile(model, (torch.randn(2, 8, 64, dtype=torch.bfloat16),), target="cuda/h200")


SLICES = [
    ((1, 0, 5, 2), (3, 3)),
    ((1, 1, 3), (3, 2)),
    ((0, -1), (1, 5)),
    ((1, 1, 5, 2), (3, 2)),
    ((1, 0, 5), (3, 5)),
    ((0, 1, 2), (1, 5)),
]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64], ids=str)
def test_slices_that_are_written_over(dtype):
    """TVM's own form of the first one cannot be compiled in vectors of bfloat16."""

    class Written(nn.Module):
        def forward(self, x, *sources):
            return [torch.slice_scatter(x, source, *place) for (place, _), source in zip(SLICES, sources, strict=True)]

    x, *sources = ((torch.randn(*shape) * 5).to(dtype) for shape in ((3, 5), *(shape for _, shape in SLICES)))
    got = tb.compile(Written(), (x, *sources), threads=1)(x, *sources)
    assert all(torch.equal(y, want) for y, want in zip(got, Written()(x, *sources), strict=True))
