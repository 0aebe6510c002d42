import re

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import te, tirx
from tvm.script import tirx as T

import tvm_balanced as tb
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.runtime.cuda import cubins, nvcc
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.workarounds.bitcast_nan import BITS, BitcastNaN


def chosen(value, dtype):
    """y = x where x is above 0, else `value`."""
    value = tirx.const(value, dtype) if isinstance(value, float) else value
    x = te.placeholder((64,), dtype, name="x")
    y = te.compute((64,), lambda i: te.if_then_else(x[i] > tirx.const(0, dtype), x[i], value), name="y")
    return tvm.IRModule({"main": te.create_prim_func([x, y])})


def test_the_bits_are_those_of_no_number(rng):
    after = BitcastNaN()(chosen(float("nan"), "bfloat16"))
    tvm.ir.assert_structural_equal(after, chosen(T.reinterpret("bfloat16", tirx.const(0x7FC0, "uint16")), "bfloat16"))
    x = torch.from_numpy(rng.standard_normal(64).astype(np.float32)).bfloat16()
    y = torch.zeros_like(x)
    tvm.compile(after, host_target())["main"](tvm.runtime.from_dlpack(x), tvm.runtime.from_dlpack(y))
    assert torch.equal(y.isnan(), x <= 0)
    assert torch.equal(y[x > 0], x[x > 0])
    assert torch.tensor([BITS], dtype=torch.int16).view(torch.bfloat16).isnan().all()


@pytest.mark.parametrize(("value", "bits"), [(float("inf"), 0x7F80), (float("-inf"), 0xFF80)])
def test_infinities_are_bits_as_well(value, bits):
    after = BitcastNaN()(chosen(value, "bfloat16"))
    tvm.ir.assert_structural_equal(after, chosen(T.reinterpret("bfloat16", tirx.const(bits, "uint16")), "bfloat16"))


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "float32"), (float("nan"), "float16"), (1.5, "bfloat16")])
def test_other_constants_stay(value, dtype):
    before = chosen(value, dtype)
    tvm.ir.assert_structural_equal(BitcastNaN()(before), before, map_free_vars=True)


@T.prim_func(s_tir=True)
def no_number(y: T.Buffer((32,), "bfloat16")):
    for i in T.thread_binding(32, thread="threadIdx.x"):
        y[i] = T.bfloat16(float("nan"))


def test_plain_tvm_prints_the_name_of_a_function():
    (source,) = cubins.sources(tvm.compile(no_number, cuda_target("h200")))
    assert re.search(r"\bnanf\b(?!\()", source), "TVM prints a NaN of bfloat16 as C knows it: BitcastNaN may go"


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(100, 64, dtype=torch.bfloat16), nn.Linear(64, 64, dtype=torch.bfloat16)

    def forward(self, tokens):
        return self.linear(self.embedding(tokens))


@pytest.mark.nvcc
def test_an_embedding_in_bfloat16_compiles_for_a_gpu():
    model = Embedded().eval()
    tb.prune(model, "4:16")
    compiled = tb.compile(model, (torch.tensor([[1, 5, 99]]),), target="cuda/h200")
    sources = cubins.sources(compiled.executable)
    assert sources
    assert all(nvcc.ptx(source, "sm_90") for source in sources)
