"""On the CPU, where torch computes the same; cuDNN is a stand-in that is called under cuDNN's names."""

import ctypes
import json

import pytest
import torch
from support import reference

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.runtime.cuda import torch_conv, torch_library

N, BATCH = 4, 2
EVEN = Convolution(4, (1, 6, 5), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1))
CONVS = {
    "even": EVEN,
    "uneven": Convolution(4, (1, 6, 5), (1, 3, 2), (1, 2, 1), before=(0, 2, 0), after=(0, 1, 1)),
    "dilated, one axis": Convolution(4, (1, 1, 11), (1, 1, 3), dilation=(1, 1, 2)),
    "groups": Convolution(4, (1, 6, 5), (1, 3, 3), groups=2),
    "depthwise": Convolution(4, (1, 6, 5), (1, 3, 3), groups=4),
    "volume": Convolution(2, (3, 4, 5), (2, 1, 3), before=(1, 0, 0), after=(0, 0, 0)),
}


def operands(conv, rng, dtype=torch.float32):
    """x, weight, bias, residual, in `dtype`."""
    shapes = ((BATCH, conv.channels, *conv.size), (N, conv.depth, *conv.kernel), (N,), (BATCH, N, *conv.outputs))
    return [torch.from_numpy(rng.standard_normal(shape)).to(dtype) for shape in shapes]


def expected(conv, given, activation, with_residual):
    x, weight, bias, residual = (tensor.double() for tensor in given)
    sides = [part for low, high in reversed(list(zip(conv.before, conv.after, strict=True))) for part in (low, high)]
    image = torch.nn.functional.pad(x, sides)
    y = torch.nn.functional.conv3d(image, weight, bias, conv.stride, dilation=conv.dilation, groups=conv.groups)
    return reference.ACTIVATIONS[activation]((y + residual if with_residual else y).numpy())


def call(conv, given, activation="none", with_residual=False):
    x, weight, bias, residual = given
    y = torch.full((BATCH, N, *conv.outputs), torch.nan, dtype=x.dtype)
    addresses = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (y, x, weight, bias)]
    added = ctypes.c_void_p(residual.data_ptr()) if with_residual else None
    dtype = str(x.dtype).removeprefix("torch.")
    done = torch_conv.conv("llvm", dtype, activation, json.dumps(conv.to_attr()), BATCH, N, *addresses, added)
    return done, y


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("name", list(CONVS))
def test_against_float64(name, activation, with_residual, rng):
    given = operands(CONVS[name], rng)
    done, y = call(CONVS[name], given, activation, with_residual)
    assert done == 1
    assert reference.relative_error(y, expected(CONVS[name], given, activation, with_residual)) < 1e-6


@pytest.fixture
def cudnn(monkeypatch):
    """Let torch on the CPU have cuDNN's operators, with the arguments that they are declared with; yields what was called."""
    called = []

    def plain(x, weight, padding, stride, dilation, groups, benchmark, deterministic, allow_tf32, *, out):
        called.append(("plain", allow_tf32))
        return out.copy_(torch.convolution(x, weight, None, stride, padding, dilation, False, [0] * len(padding), groups))

    def relu(x, weight, bias, stride, padding, dilation, groups):
        called.append(("relu", bool(bias.abs().max() > 0)))
        return torch.convolution(x, weight, bias, stride, padding, dilation, False, [0] * len(padding), groups).relu()

    def add_relu(x, weight, z, alpha, bias, stride, padding, dilation, groups):
        called.append(("add_relu", alpha))
        y = torch.convolution(x, weight, bias, stride, padding, dilation, False, [0] * len(padding), groups)
        return (y + alpha * z).relu()

    library = torch.library.Library("aten", "IMPL")
    library.impl("cudnn_convolution.out", plain, "CPU")
    library.impl("cudnn_convolution_relu", relu, "CPU")
    library.impl("cudnn_convolution_add_relu", add_relu, "CPU")
    monkeypatch.setattr(torch_conv, "has_cudnn", lambda *_: True)
    monkeypatch.setattr(torch_conv, "_without", set())
    yield called
    library._destroy()


@pytest.mark.parametrize(
    ("dtype", "activation", "with_residual", "function"),
    [
        (torch.float32, "relu", False, ("plain", False)),  # in float32: cuDNN's fused one takes TF32 where torch allows it
        (torch.float16, "none", True, ("plain", False)),
        (torch.float16, "relu", False, ("relu", True)),
        (torch.bfloat16, "relu", True, ("add_relu", 1.0)),
    ],
)
def test_cudnn_is_called_as_it_is_declared(cudnn, dtype, activation, with_residual, function, rng):
    given = operands(EVEN, rng, dtype)
    done, y = call(EVEN, given, activation, with_residual)
    assert done == 1
    assert cudnn == [function]
    limit = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert reference.relative_error(y.double(), expected(EVEN, given, activation, with_residual)) < limit


def test_depthwise_convolutions_are_torchs_own(cudnn, rng):
    given = operands(CONVS["depthwise"], rng)
    _, y = call(CONVS["depthwise"], given)
    assert cudnn == []
    assert reference.relative_error(y, expected(CONVS["depthwise"], given, "none", False)) < 1e-6


def test_what_cudnn_does_not_fuse_is_asked_for_once(cudnn, monkeypatch, rng):
    tried = []

    def refuse(*_):
        tried.append(1)
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(torch_conv, "_with_relu", refuse)
    given = operands(EVEN, rng, torch.float16)
    for _ in range(3):
        done, y = call(EVEN, given, "relu")
        assert done == 1
        assert reference.relative_error(y.double(), expected(EVEN, given, "relu", False)) < 2e-3
    assert tried == [1]
    assert cudnn == [("plain", False)] * 3


def test_nothing_is_done_where_it_is_turned_off(rng, monkeypatch):
    monkeypatch.setenv(torch_library.SWITCH, torch_library.OWN)
    done, y = call(EVEN, operands(EVEN, rng))
    assert done == 0
    assert y.isnan().all()


def test_a_gpu_without_cudnn_keeps_its_kernel(monkeypatch):
    monkeypatch.setattr(torch_conv, "usable", lambda _: True)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    assert torch_conv.conv("cuda", "float32", "none", json.dumps(EVEN.to_attr()), BATCH, N, *[None] * 5) == 0
