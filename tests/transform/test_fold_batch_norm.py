import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax
from tvm.script import relax as R

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.ops import is_call
from tvm_balanced.transform.fold_batch_norm import FoldBatchNorm
from tvm_balanced.transform.match_dense import constant_value


def normalised(weight, vectors, bias=None):
    """Return the module of a convolution, its bias if any, and a batch normalisation."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", R.Tensor((1, 4, 6, 6), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, relax.const(weight), padding=(1, 1)))
            y = y if bias is None else builder.emit(relax.op.add(y, relax.const(bias.reshape(1, -1, 1, 1))))
            y = builder.emit(relax.op.nn.batch_norm(y, *map(relax.const, vectors), axis=1, epsilon=1e-3, training=False))
            result = builder.emit_output(builder.emit(relax.TupleGetItem(y, 0)))
        builder.emit_func_output(result)
    return builder.get()


@pytest.mark.parametrize("has_bias", [False, True])
def test_becomes_weight_and_bias(has_bias, rng):
    weight = rng.standard_normal((3, 4, 3, 3)).astype(np.float32)
    gamma, beta, mean = (rng.standard_normal(3).astype(np.float32) for _ in range(3))
    variance = rng.random(3).astype(np.float32) + 0.5
    bias = rng.standard_normal(3).astype(np.float32) if has_bias else None
    after = FoldBatchNorm()(normalised(weight, (gamma, beta, mean, variance), bias))
    calls = []
    relax.analysis.post_order_visit(after["main"], lambda e: calls.append(e) if isinstance(e, relax.Call) else None)
    assert [call.op.name for call in calls] == ["relax.nn.conv2d", "relax.add"]
    scale = gamma / np.sqrt(variance + 1e-3)
    shift = ((bias if has_bias else 0) - mean) * scale + beta
    np.testing.assert_allclose(
        constant_value(calls[0].args[1], lambda _: None)[0], weight * scale[:, None, None, None], rtol=1e-6
    )
    np.testing.assert_allclose(constant_value(calls[1].args[1], lambda _: None)[0].ravel(), shift, rtol=1e-5, atol=1e-6)


def test_a_result_with_another_reader_stays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    before = import_model(Twice().eval(), (torch.randn(1, 3, 8, 8),)).mod
    tvm.ir.assert_structural_equal(FoldBatchNorm()(before), before)


@pytest.mark.parametrize("other", [1e-3, 1.0])
def test_two_norms_share_a_scaled_weight_only_if_they_scale_alike(other, rng):
    weight = relax.const(rng.standard_normal((3, 4, 3, 3)).astype(np.float32))
    vectors = [relax.const(rng.random(3).astype(np.float32) + 0.5) for _ in range(4)]
    builder = relax.BlockBuilder()
    x = relax.Var("x", R.Tensor((1, 4, 6, 6), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            parts = []
            for epsilon in (1e-3, other):
                y = builder.emit(relax.op.nn.conv2d(x, weight))
                y = builder.emit(relax.op.nn.batch_norm(y, *vectors, axis=1, epsilon=epsilon, training=False))
                parts.append(builder.emit(relax.TupleGetItem(y, 0)))
            result = builder.emit_output(relax.Tuple(parts))
        builder.emit_func_output(result)
    after = FoldBatchNorm()(builder.get())
    weights = []
    relax.analysis.post_order_visit(after["main"], lambda e: weights.append(e.args[1]) if is_call(e, "relax.nn.conv2d") else None)
    gamma, variance = (vectors[place].value.numpy() for place in (0, 3))
    for found, epsilon in zip(weights, (1e-3, other), strict=True):
        factor = (gamma / np.sqrt(variance + epsilon))[:, None, None, None]
        np.testing.assert_allclose(found.value.numpy(), weight.value.numpy() * factor, rtol=1e-6)
    assert weights[0].same_as(weights[1]) == (other == 1e-3)


@pytest.mark.grid
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@torch.no_grad()
def test_other_dtypes(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval().to(dtype)
    x = torch.randn(1, 3, 9, 9).to(dtype)
    module = tb.compile(model, (x,), logs=False)
    kernel = module.report.layers[0].kernel
    assert kernel == "tvm" if dtype == torch.float64 else kernel.startswith("cpu_conv")
    tolerance = {torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert (module(x).double() - model(x).double()).abs().max() < tolerance


@pytest.mark.slow
@torch.no_grad()
def test_folded_layers_keep_names_and_zeros():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 6, 3, groups=2), nn.BatchNorm2d(6)
    ).eval()
    for norm in (model[1], model[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.normal_()
    model[0].weight.data[:, 2:] = 0
    x = torch.randn(2, 16, 9, 9)
    module = tb.compile(model, (x,), logs=False)
    assert [row.layer for row in module.report.layers] == ["0", "3"]
    assert module.report.layers[0].pattern == "2:16"
    np.testing.assert_allclose(module(x).numpy(), model(x).numpy(), atol=2e-5)
