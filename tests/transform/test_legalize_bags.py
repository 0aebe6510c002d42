"""Embedding bags on a CPU become one function, on a GPU reductions; both beside torch."""

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax

import tvm_balanced as tb
from tvm_balanced.ops import embedding_bag
from tvm_balanced.runtime.tensors import aligned
from tvm_balanced.transform.legalize import LEGALIZE, LEGALIZE_GPU

MODES = ("sum", "mean", "max")
PLACES, OFFSETS = torch.tensor([3, 1, 7, 7, 3, 0]), torch.tensor([0, 2, 2, 6])


def module(mode, weighted, ends=False):
    """A module of one bag of a table (10, 8)."""
    names = {"table": ((10, 8), "float32"), "places": ((6,), "int64"), "offsets": ((4,), "int64")}
    names |= {"weights": ((6,), "float32")} if weighted else {}
    operands = [relax.Var(name, relax.TensorType(*of)) for name, of in names.items()]
    builder = relax.BlockBuilder()
    with builder.function("main", operands):
        y = builder.emit(embedding_bag(*operands, mode=mode, padding=3, ends=ends))
        builder.emit_func_output(y)
    return builder.get()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rules", [LEGALIZE, LEGALIZE_GPU], ids=["cpu", "gpu"])
def test_both_forms_are_torchs(rules, mode):
    weighted, ends = mode == "sum", mode == "mean"
    mod = relax.transform.LegalizeOps(rules)(module(mode, weighted, ends))
    assert not any("embedding_bag" in str(line) and "R.call_tir" not in str(line) for line in str(mod["main"]).splitlines()[3:-2])
    compiled = relax.VirtualMachine(tvm.compile(mod, "llvm"), tvm.cpu())
    table, weights = torch.randn(10, 8), torch.randn(6)
    arrays = [table, PLACES, OFFSETS, *([weights] if weighted else [])]
    got = compiled["main"](*(tvm.runtime.tensor(aligned(a.numpy())) for a in arrays)).numpy()
    options = {"per_sample_weights": weights} if weighted else {}
    want = nn.functional.embedding_bag(PLACES, table, OFFSETS, mode=mode, padding_idx=3, include_last_offset=ends, **options)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-6)


def test_a_layer_of_any_batch_and_its_row_in_the_report():
    torch.manual_seed(0)
    layer = nn.EmbeddingBag(40, 24, mode="mean")
    ids = torch.randint(0, 40, (5, 7))
    batch = torch.export.Dim("batch", min=1, max=64)
    module = tb.compile(layer, (ids,), dynamic_shapes=({0: batch},), threads=1)
    for rows in (1, 5, 33):
        ids = torch.randint(0, 40, (rows, 7))
        torch.testing.assert_close(module(ids), layer(ids).detach(), rtol=1e-5, atol=1e-6)
    (row,) = [row for row in module.report.operators if row.kind == "lookup"]
    assert row.name == "weight"
    assert not any("NAIVE" in line for line in str(module.report).splitlines())
