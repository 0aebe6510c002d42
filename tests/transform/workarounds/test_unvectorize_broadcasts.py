import re

import ml_dtypes
import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

import tvm_balanced as tb
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.workarounds.unvectorize_broadcasts import UnvectorizeBroadcasts


def rows(value, dtype="bfloat16", kind=Schedule.vectorize):
    """y[i, j] = value(x, i, j), eight j at once."""
    x = te.placeholder((4, 16), dtype, name="x")
    y = te.compute((4, 16), lambda i, j: value(x, i, j), name="y")
    sch = Schedule(te.create_prim_func([x, y]))
    if kind is not None:
        kind(sch, sch.split(sch.get_loops(sch.get_sblock("y"))[1], [None, 8])[1])
    else:
        sch.split(sch.get_loops(sch.get_sblock("y"))[1], [None, 8])
    return sch.mod


SAME = {
    "constant": lambda x, i, j: tirx.const(1.5, str(x.dtype)),
    "value of a row": lambda x, i, j: x[i, 3],
    "computed of a row": lambda x, i, j: x[i, 3] + x[i, 0],
    "chosen by row": lambda x, i, j: tirx.Select(i > 1, x[i, 1], tirx.const(0, str(x.dtype))),
}
DIFFERENT = {
    "copy": lambda x, i, j: x[i, j],
    "filled": lambda x, i, j: te.if_then_else(j > 3, tirx.const(1, str(x.dtype)), tirx.const(0, str(x.dtype))),
}


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_loops_that_store_one_value_are_serial(value, rng):
    after = UnvectorizeBroadcasts()(rows(value))
    tvm.ir.assert_structural_equal(after, rows(value, kind=None))
    x = rng.standard_normal((4, 16)).astype(ml_dtypes.bfloat16)
    got, wanted = (tvm.runtime.tensor(np.zeros_like(x)) for _ in range(2))
    tvm.compile(after, host_target())["main"](tvm.runtime.tensor(x), got)
    tvm.compile(rows(value, kind=None), host_target())["main"](tvm.runtime.tensor(x), wanted)
    np.testing.assert_array_equal(got.numpy(), wanted.numpy())


@pytest.mark.parametrize(
    ("value", "dtype"), [(SAME["constant"], "float32"), *((value, "bfloat16") for value in DIFFERENT.values())]
)
def test_other_loops_stay(value, dtype):
    before = rows(value, dtype)
    tvm.ir.assert_structural_equal(UnvectorizeBroadcasts()(before), before)


@T.prim_func(s_tir=True)
def filled(y: T.Buffer((8,), "bfloat16")):
    for i in T.vectorized(8):
        y[i] = T.bfloat16(0)


def test_plain_tvm_cannot_store_a_broadcast():
    with pytest.raises(TypeError, match=re.escape("RHS's dtype is `T.bfloat16x8`")):
        tvm.compile(tvm.IRModule({"main": filled}), host_target())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(32, 32, batch_first=True, dtype=torch.bfloat16)

    def forward(self, x):
        return self.gru(x)[0]


def test_a_recurrent_layer_in_bfloat16_with_a_dynamic_batch():
    model, x = Recurrent().eval(), torch.randn(2, 3, 32, dtype=torch.bfloat16)
    compiled = tb.compile(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=8)},), threads=1)
    x = torch.randn(5, 3, 32, dtype=torch.bfloat16)
    assert (compiled(x).double() - model.double()(x.double())).abs().max() < 0.02
