import re

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from torch.nn import functional
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

import tvm_balanced as tb
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.runtime.cuda import cubins
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.workarounds.unvectorize_booleans import UnvectorizeBooleans


def masked(dtype="bool", writes=False, kind=Schedule.vectorize):
    """y = x where mask, else 0, or whether x > 0, two elements at once."""
    mask, x = te.placeholder((64,), dtype, name="mask"), te.placeholder((64,), "float32", name="x")
    zero = tirx.const(0, "float32")
    if writes:
        y = te.compute((64,), lambda i: x[i] > zero, name="y")
    else:
        y = te.compute((64,), lambda i: tirx.Select(mask[i] if dtype == "bool" else mask[i] > 0, x[i], zero), name="y")
    sch = Schedule(te.create_prim_func([mask, x, y]))
    kind(sch, sch.split(sch.get_loops(sch.get_sblock("y"))[0], [None, 2])[1])
    return sch.mod


@pytest.mark.parametrize("writes", [False, True])
def test_loops_on_booleans_are_unrolled(writes):
    after = UnvectorizeBooleans()(masked(writes=writes))
    tvm.ir.assert_structural_equal(after, masked(writes=writes, kind=Schedule.unroll))


def test_other_loops_stay():
    before = masked("int8")
    tvm.ir.assert_structural_equal(UnvectorizeBooleans()(before), before)


def test_results_stay(rng):
    mask, x = rng.random(64) < 0.5, rng.standard_normal(64).astype(np.float32)
    y = tvm.runtime.tensor(np.zeros(64, np.float32))
    tvm.compile(UnvectorizeBooleans()(masked()), host_target())["main"](*map(tvm.runtime.tensor, (mask, x)), y)
    np.testing.assert_array_equal(y.numpy(), np.where(mask, x, 0))


@T.prim_func(s_tir=True)
def chosen(mask: T.Buffer((64,), "bool"), y: T.Buffer((64,), "float32")):
    for i in T.thread_binding(32, thread="threadIdx.x"):
        for j in T.vectorized(2):
            y[i * 2 + j] = T.Select(mask[i * 2 + j], T.float32(1), T.float32(0))


def test_plain_tvm_reads_four_bytes_for_two_booleans():
    (source,) = cubins.sources(tvm.compile(chosen, cuda_target("h200")))
    assert re.search(r"ushort2\*\)\(mask", source), "TVM reads booleans as bytes: UnvectorizeBooleans may go"


class MaskedAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)

    def forward(self, x, mask):
        q, k, v = (part.unflatten(-1, (2, 32)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :].expand(-1, 1, x.shape[1], -1))
        return self.out(y.transpose(1, 2).flatten(2))


def attention(dtype=torch.float16):
    torch.manual_seed(0)
    model, x = MaskedAttention().to(dtype).eval(), torch.randn(2, 64, 64, dtype=dtype)
    tb.prune(model, "4:16")
    return model, (x, torch.arange(64)[None, :] < torch.tensor([[64], [37]]))


def test_cuda_source_of_masked_attention_reads_no_pair_of_booleans():
    """The fault needs no GPU to be seen: two booleans would be read as a `ushort2`."""
    model, args = attention()
    sources = cubins.sources(tb.compile(model, args, target="cuda/h200").executable)
    masks = set(re.findall(r"bool\* __restrict__ (\w+)", "".join(sources)))
    assert masks
    assert not [read for name in masks for source in sources for read in re.findall(rf"\w+[24]\*\)\({name}\b", source)]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_masked_attention_on_a_gpu(dtype):
    model, args = attention(dtype)
    y = tb.compile(model, args, target="cuda")(*(arg.cuda() for arg in args)).cpu().double()
    expected = model.double()(args[0].double(), args[1]).detach()
    assert (y - expected).abs().max() / expected.abs().max() < (1e-5 if dtype == torch.float32 else 5e-3)
