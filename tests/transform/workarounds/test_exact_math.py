import re

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from torch import nn
from tvm import te, tirx, topi
from tvm.script import tirx as T
from tvm.support.nvcc import compile_cuda

import tvm_balanced as tb
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.runtime.cuda import cubins, nvcc
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.transform.workarounds.exact_math import ExactMath

EXPONENTS = (-6, -5, -4, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 5, 6, 1.5)
WHOLE = np.array([-3, -2, -1, 0, 1, 2, 3, 4] * 8, np.float32)
FAST = r"tanh\.approx|sin\.approx|cos\.approx"  # what fast math makes of tanh, sin, cos and tan


def module(function, dtype="float32", inputs=1):
    given = [te.placeholder((64,), dtype, name="x") for _ in range(inputs)]
    return tvm.IRModule({"main": te.create_prim_func([*given, function(*given)], index_dtype_override="int64")})


def run(mod, *inputs):
    y = tvm.runtime.tensor(np.zeros_like(inputs[0]))
    tvm.compile(mod, host_target())["main"](*map(tvm.runtime.tensor, inputs), y)
    return y.numpy()


@pytest.mark.slow
def test_constant_powers_of_negative_numbers(rng):
    x = rng.uniform(-3, 3, 64).astype(np.float32)
    for exponent in EXPONENTS:
        after = ExactMath()(module(lambda x, e=exponent: topi.power(x, te.const(e, "float32"))))
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(run(after, x), x.astype(np.float64) ** exponent, rtol=1e-6)


@pytest.mark.grid
@pytest.mark.parametrize(
    ("exponent", "exact"),
    [
        (2, lambda x: x * x),
        (3, lambda x: x * x * x),
        (-1, lambda x: T.float32(1) / x),
        (0.5, T.sqrt),
        (1.5, lambda x: T.pow(x, T.float32(1.5))),
        (5, lambda x: T.Select(x < T.float32(0), -T.pow(T.abs(x), T.float32(5)), T.pow(T.abs(x), T.float32(5)))),
    ],
)
def test_constant_powers_in_the_ir(exponent, exact):
    after = ExactMath()(module(lambda x: topi.power(x, te.const(exponent, "float32"))))
    expected = module(lambda x: te.compute(x.shape, lambda i: bound_once(exact, x(i)), name="T_power"))
    tvm.ir.assert_structural_equal(after, expected)


def bound_once(function, value):
    x = tirx.Var("x", "float32")
    return tirx.Let(x, value, function(x))


def test_powers_that_are_not_constant(rng):
    after = ExactMath()(module(topi.power, inputs=2))
    x = np.concatenate([rng.uniform(-3, 3, 56), [0, 0, 0, -1, 1, -0.5, 2, -2]]).astype(np.float32)
    for y in (WHOLE, rng.uniform(-3, 3, 64).astype(np.float32)):
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(run(after, x, y), np.power(x.astype(np.float64), y), rtol=2e-6)


def test_no_base_that_may_be_negative_reaches_a_power():
    bases = []

    def note(call):
        if call.op.name == "tirx.pow":
            bases.append(call.args[0])

    tvm_ffi.structural_walk(ExactMath()(module(topi.power, inputs=2))["main"].body, (tvm.ir.Call, note))
    assert bases
    assert {base.op.name for base in bases} == {"tirx.fabs"}


def called(mod):
    """Names of the functions that a module's main calls."""
    names = set()

    def note(call):
        names.add(call.op.name)

    tvm_ffi.structural_walk(mod["main"].body, (tvm.ir.Call, note))
    return names


@pytest.mark.grid
@pytest.mark.parametrize("name", ["tanh", "sin", "cos", "tan"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_functions(name, dtype, rng):
    after = ExactMath()(module(getattr(topi, name), dtype))
    assert f"tirx.{name}" not in called(after)
    x = rng.uniform(-1.4, 1.4, 64).astype(dtype)
    limit = 1e-6 if dtype == "float32" else 4e-3
    np.testing.assert_allclose(run(after, x), getattr(np, name)(x.astype(np.float64)), rtol=limit, atol=limit)


def test_float16_is_computed_in_float32(rng):
    x = rng.uniform(-40, 40, 64).astype(np.float16)
    after = ExactMath()(module(lambda x: topi.power(x, te.const(3.0, "float16")), "float16"))
    np.testing.assert_allclose(run(after, x), x.astype(np.float64) ** 3, rtol=5e-4, atol=1e-3)


def test_our_kernels_and_other_dtypes_are_left():
    workload = Workload("cpu_portable", 4, 32, 64, 2, 16, activation="gelu")
    for mod in (
        tvm.IRModule({"main": KERNELS["cpu_portable"].prim_func(workload)}),
        module(topi.tanh, "float64"),
        module(topi.exp),
    ):
        tvm.ir.assert_structural_equal(ExactMath()(mod), mod)


@T.prim_func(s_tir=True)
def square(x: T.Buffer((32,), "float32")):
    for i in T.thread_binding(32, thread="threadIdx.x"):
        x[i] = T.pow(x[i], T.float32(2))


@pytest.mark.nvcc
def test_plain_tvm_compiles_a_square_to_a_logarithm():
    with cuda_target("h200") as target:
        (source,) = cubins.sources(tvm.compile(square, target))
        code = compile_cuda(source, target_format="ptx", arch="sm_90", compiler="nvcc").decode()
    assert "lg2.approx" in code, "TVM compiles without fast math: ExactMath may go"


class Decoder(nn.Module):
    """What the decoders of language models compute beside dense layers: RMSNorm, rotary embeddings, GELU by tanh."""

    def __init__(self, dtype):
        super().__init__()
        self.linear, self.norm = nn.Linear(64, 64, dtype=dtype), nn.RMSNorm(64, eps=1e-5, dtype=dtype)

    def forward(self, x, positions):
        angles = positions[:, None].float() * 0.5
        y = self.norm(self.linear(x)).float()
        z = torch.tanh(x + 0.1 * x.pow(3))
        return (y * torch.cos(angles) + torch.tanh(y) * torch.sin(angles) + y.pow(3)).to(x.dtype) + z


@pytest.mark.slow
@pytest.mark.nvcc
@pytest.mark.grid
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_machine_code_of_a_model(dtype, tmp_path):
    """The PTX of every kernel, compiled with fast math as TVM does, has no approximation of these functions, and no power."""
    model = Decoder(dtype).eval()
    tb.prune(model, "4:16")
    compiled = tb.compile(model, (torch.randn(4, 64, dtype=dtype), torch.arange(4)), target="cuda/h200")
    for source in cubins.sources(compiled.executable):
        assert not re.search(FAST, nvcc.ptx(source, "sm_90"))
        assert not re.search(r"[^_]powf?\(\(?[a-z]", source.split("__global__", 1)[1])


@pytest.mark.cuda
@pytest.mark.grid
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_model_on_a_gpu(dtype):
    torch.manual_seed(0)
    model, x, positions = Decoder(dtype).eval(), torch.randn(4, 64, dtype=dtype), torch.tensor([0, 7, 999, 8191])
    tb.prune(model, "4:16")
    y = tb.compile(model, (x, positions), target="cuda")(x.cuda(), positions.cuda()).cpu().double()
    expected = model.double()(x.double(), positions).detach()
    assert (y - expected).abs().max() / expected.abs().max() < {torch.float32: 2e-6, torch.float16: 4e-3}.get(dtype, 3e-2)
