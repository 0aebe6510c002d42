"""Attention as a GPU gets it, on the CPU: with torch as the library, and with TVM's own functions."""

import functools
import json

import pytest
import torch
import tvm
import tvm_ffi
from support import reference
from torch import nn
from torch.nn import functional
from tvm import relax

from tvm_balanced.api import import_model
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.core import library_functions
from tvm_balanced.runtime.cuda import libraries, torch_attention, torch_library
from tvm_balanced.transform.attend_by_library import ATTENTION_ATTR, AttendByLibrary
from tvm_balanced.transform.collapse_views import CollapseViews
from tvm_balanced.transform.pipeline import lower
from tvm_balanced.transform.prefer_attention_library import PreferAttentionLibrary
from tvm_balanced.transform.unflatten_matmul import UnflattenMatmul

HEADS, DEPTH, LENGTH = 4, 8, 6
LIMITS = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
HALF = [pytest.param(dtype, marks=pytest.mark.slow) for dtype in (torch.float16, torch.bfloat16)]


class Attention(nn.Module):
    """(batch, length, heads * depth), as a transformer has it, with as many heads of keys as are given."""

    def __init__(self, matrices=HEADS, **options):
        super().__init__()
        self.matrices, self.options = matrices, options

    def forward(self, q, k, v, mask=None):
        batch, length, _ = q.shape
        q = q.view(batch, length, HEADS, DEPTH).transpose(1, 2)
        k, v = (x.view(batch, k.shape[1], self.matrices, DEPTH).transpose(1, 2) for x in (k, v))
        if self.matrices != HEADS:
            k, v = (repeated(x, HEADS // self.matrices) for x in (k, v))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, **self.options)
        return y.transpose(1, 2).reshape(batch, length, HEADS * DEPTH)


def repeated(x, times):
    """As models of transformers do it."""
    batch, heads, length, depth = x.shape
    return x[:, :, None].expand(batch, heads, times, length, depth).reshape(batch, heads * times, length, depth)


def operands(dtype=torch.float32, matrices=HEADS, length=LENGTH):
    torch.manual_seed(0)
    shapes = ((2, LENGTH, HEADS * DEPTH), (2, length, matrices * DEPTH), (2, length, matrices * DEPTH))
    return tuple(torch.randn(shape).to(dtype) for shape in shapes)


def attending(model, inputs, **options):
    """The module whose attention is in functions of their own, and is not scheduled yet."""
    before = import_model(model.eval(), inputs, **options).mod
    views = [relax.transform.CanonicalizeBindings(), CollapseViews(), UnflattenMatmul(), relax.transform.CanonicalizeBindings()]
    return tvm.transform.Sequential([*views, AttendByLibrary()])(before)


def functions(mod):
    return [
        func for _, func in mod.functions_items() if isinstance(func, relax.Function) and ATTENTION_ATTR in (func.attrs or {})
    ]


def compiled(mod):
    """A module's code; whether it asks the library is known at the call."""
    rest = [relax.transform.LegalizeOps(), relax.transform.AnnotateTIROpPattern(), relax.transform.FuseOps()]
    rest += [relax.transform.FuseTIR(), relax.transform.DeadCodeElimination(), PreferAttentionLibrary()]
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0})  # naive loops of a few steps, each written out: 0.6 s of LLVM
    with target:
        return tvm.compile(tvm.transform.Sequential(rest)(mod), target)


def run(built, inputs):
    machine = relax.VirtualMachine(built, tvm.cpu())  # which looks the library's functions up
    return torch.from_dlpack(machine["main"](*(tvm.runtime.from_dlpack(x.contiguous()) for x in inputs))).clone()


@pytest.fixture
def asked(monkeypatch):
    """What the library was asked."""
    calls = []

    def attend(*given):
        calls.append(given)
        return torch_attention.attend(*given)

    libraries.register()
    tvm_ffi.register_global_func(library_functions.ATTENTION, attend, override=True)
    yield calls
    libraries.register()


CASES = {
    "plain": ({}, None),
    "scaled": ({"scale": 0.3}, None),
    "causal": ({"is_causal": True}, None),
    "mask": ({}, torch.randn(2, 1, LENGTH, LENGTH)),
    "one row masked": ({}, torch.zeros(LENGTH, LENGTH).index_fill(0, torch.tensor(2), -torch.inf)),
    "booleans": ({}, torch.rand(2, 1, 1, LENGTH) > 0.3),
}


@functools.cache
def case_of(name, dtype):
    """A case's model, its inputs, the module of its attention, and its code."""
    options, mask = CASES[name]
    model, inputs = Attention(**options), operands(dtype)
    if mask is not None:
        inputs = (*inputs, mask if mask.dtype == torch.bool else mask.to(dtype))
    mod = attending(model, inputs)
    return model, inputs, mod, compiled(mod)


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("case", list(CASES))
def test_library_and_own_functions_agree_with_the_model(case, dtype, library, asked, monkeypatch):
    if not library:
        monkeypatch.setenv(torch_library.SWITCH, torch_library.OWN)
    model, inputs, mod, built = case_of(case, dtype)
    (func,) = functions(mod)
    assert json.loads(func.attrs[ATTENTION_ATTR])["causal"] == (case == "causal")
    expected = model(*(x if x.dtype == torch.bool else x.double() for x in inputs)).numpy()
    assert reference.relative_error(run(built, inputs).double(), expected) < LIMITS[dtype]
    assert len(asked) == library


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, HALF[0]], ids=str)
def test_keys_that_serve_several_heads_are_not_repeated(dtype, library, asked, monkeypatch):
    if not library:
        monkeypatch.setenv(torch_library.SWITCH, torch_library.OWN)
    model, inputs = Attention(2), operands(dtype, 2, 5)
    mod = attending(model, inputs)
    (func,) = functions(mod)
    assert [[int(size) for size in p.ty.shape] for p in func.params] == [[2, 6, 4, 8], [2, 5, 2, 8], [2, 5, 2, 8]]
    expected = model(*(x.double() for x in inputs)).numpy()
    assert reference.relative_error(run(compiled(mod), inputs).double(), expected) < LIMITS[dtype]
    assert len(asked) == library


@pytest.mark.parametrize("library", [True, False])
def test_a_length_known_only_at_the_call(library, asked, monkeypatch):
    if not library:
        monkeypatch.setenv(torch_library.SWITCH, torch_library.OWN)
    model, length = Attention(), torch.export.Dim("length", min=2, max=64)
    built = compiled(attending(model, operands(), dynamic_shapes=({1: length},) * 3))
    for rows in (6, 11):
        inputs = tuple(torch.randn(2, rows, HEADS * DEPTH) for _ in range(3))
        assert reference.relative_error(run(built, inputs), model(*inputs).numpy()) < 1e-5
    assert len(asked) == 2 * library


class Other(nn.Module):
    """Attention that a library does not compute, or not alike."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, q, k, v):
        scores = q @ k.transpose(-1, -2)
        if self.kind == "masked without safe softmax":
            scores = scores + torch.full((6, 6), -torch.inf).triu(1)
        elif self.kind == "where":
            scores = scores.masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -1e4)
        probabilities = torch.softmax(scores, -1)
        y = probabilities @ v
        return (y, probabilities) if self.kind == "probabilities are read" else y


@pytest.mark.parametrize("kind", ["masked without safe softmax", "where", "probabilities are read", "three dimensions"])
def test_other_attention_is_left_alone(kind):
    shape = (2, 6, 8) if kind == "three dimensions" else (2, 4, 6, 8)
    mod = attending(Other(kind), tuple(torch.randn(shape) for _ in range(3)))
    assert functions(mod) == []


def test_layers_that_are_alike_share_a_function():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = Attention()

        def forward(self, q, k, v):
            return self.attention(self.attention(q, k, v).sin(), k, v)

    mod = attending(Twice(), operands())
    assert len(functions(mod)) == 1
    values = [binding.value for block in mod["main"].body.blocks for binding in block.bindings]
    calls = [value for value in values if isinstance(getattr(value, "op", None), tvm.ir.GlobalVar)]
    assert len(calls) == 2


def test_a_module_for_a_gpu_asks_and_tvms_own_compiler_does_not():
    imported = import_model(Attention().half().eval(), operands(torch.float16))
    for lift, count in ((True, 1), (False, 0)):
        lowered = lower(imported.mod, cuda_target("h200"), lift=lift)
        assert lowered.mod.script().count(library_functions.ATTENTION) == count
        assert all(function.scheduled for function in lowered.functions)
