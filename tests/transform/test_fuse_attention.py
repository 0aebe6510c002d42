"""FuseAttention: what it groups, what it leaves, and that no output changes, all with PyTorch's attention as users write it."""

import numpy as np
import pytest
import torch
import tvm
from support.attention_models import FORMS, Attention, arguments, check, functions, written_out
from torch import nn
from torch.nn import functional
from tvm.script import ir as I
from tvm.script import relax as R

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.compiler.targets import cuda_target, parse_target
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.transform.fuse_attention import SMALLEST, FuseAttention
from tvm_balanced.transform.pipeline import tvm_balanced_pipeline

WIDTH = lanes(host_target())


@I.ir_module
class Masked:
    @R.function
    def main(
        q: R.Tensor((2, 64, 16), "float32"),
        k: R.Tensor((2, 64, 16), "float32"),
        v: R.Tensor((2, 64, 16), "float32"),
        mask: R.Tensor((64, 64), "float32"),
    ) -> R.Tensor((2, 64, 16), "float32"):
        with R.dataflow():
            keys = R.permute_dims(k, [0, 2, 1])
            product = R.matmul(q, keys)
            scores = R.add(product, mask)
            probabilities = R.nn.softmax(scores, axis=-1)
            result = R.matmul(probabilities, v)
            R.output(result)
        return result


@I.ir_module
class MaskedFused:
    @R.function(private=True)
    def attention(
        k: R.Tensor((2, 64, 16), "float32"),
        q: R.Tensor((2, 64, 16), "float32"),
        mask: R.Tensor((64, 64), "float32"),
        v: R.Tensor((2, 64, 16), "float32"),
    ) -> R.Tensor((2, 64, 16), "float32"):
        R.func_attr({"Primitive": True})
        with R.dataflow():
            keys = R.permute_dims(k, [0, 2, 1])
            product = R.matmul(q, keys)
            scores = R.add(product, mask)
            largest = R.max(scores, axis=[-1], keepdims=True)
            differences = R.subtract(scores, largest)
            powers = R.exp(differences)
            total = R.sum(powers, axis=[-1], keepdims=True)
            weighted = R.matmul(powers, v, out_dtype="float32")
            result = R.divide(weighted, total)
            R.output(result)
        return result

    @R.function
    def main(
        q: R.Tensor((2, 64, 16), "float32"),
        k: R.Tensor((2, 64, 16), "float32"),
        v: R.Tensor((2, 64, 16), "float32"),
        mask: R.Tensor((64, 64), "float32"),
    ) -> R.Tensor((2, 64, 16), "float32"):
        cls = MaskedFused
        with R.dataflow():
            result = cls.attention(k, q, mask, v)
            R.output(result)
        return result


@I.ir_module
class Safe:
    """PyTorch's softmax, whose rows are 0 where all scores are -inf."""

    @R.function
    def main(
        q: R.Tensor((2, 64, 16), "float32"), k: R.Tensor((2, 16, 64), "float32"), v: R.Tensor((2, 64, 16), "float32")
    ) -> R.Tensor((2, 64, 16), "float32"):
        with R.dataflow():
            scores = R.matmul(q, k)
            masked = R.equal(scores, R.const(float("-inf"), "float32"))
            kept = R.logical_not(masked)
            numbers = R.astype(kept, "float32")
            some = R.max(numbers, axis=[-1], keepdims=True)
            whether = R.astype(some, "bool")
            none = R.logical_not(whether)
            softmax = R.nn.softmax(scores, axis=-1)
            zeros = R.full_like(softmax, R.const(0.0, "float32"))
            probabilities = R.where(none, zeros, softmax)
            result = R.matmul(probabilities, v)
            R.output(result)
        return result


@I.ir_module
class SafeFused:
    @R.function(private=True)
    def attention(
        q: R.Tensor((2, 64, 16), "float32"),
        k: R.Tensor((2, 16, 64), "float32"),
        smallest: R.Tensor((), "float32"),
        v: R.Tensor((2, 64, 16), "float32"),
    ) -> R.Tensor((2, 64, 16), "float32"):
        R.func_attr({"Primitive": True})
        with R.dataflow():
            scores = R.matmul(q, k)
            largest = R.max(scores, axis=[-1], keepdims=True)
            differences = R.subtract(scores, largest)
            powers = R.exp(differences)
            sums = R.sum(powers, axis=[-1], keepdims=True)
            total = R.maximum(sums, smallest)
            weighted = R.matmul(powers, v, out_dtype="float32")
            result = R.divide(weighted, total)
            R.output(result)
        return result

    @R.function
    def main(
        q: R.Tensor((2, 64, 16), "float32"), k: R.Tensor((2, 16, 64), "float32"), v: R.Tensor((2, 64, 16), "float32")
    ) -> R.Tensor((2, 64, 16), "float32"):
        cls = SafeFused
        with R.dataflow():
            result = cls.attention(q, k, R.const(SMALLEST, "float32"), v)
            R.output(result)
        return result


@pytest.mark.parametrize(("before", "expected"), [(Masked, MaskedFused), (Safe, SafeFused)], ids=["masked", "safe softmax"])
def test_the_module(before, expected):
    with parse_target("cpu/x86-64-v4"):
        tvm.ir.assert_structural_equal(FuseAttention()(before), expected)


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("form", FORMS)
def test_attention_is_one_function(form, rng):
    model, mask = FORMS[form]
    names = check(model, arguments(rng, mask=mask, heads_first=model.heads_first))
    assert names.count("attention") == 1
    assert not [name for name in names if "matmul" in name or "softmax" in name or "transpose" in name]


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 63])
def test_a_row_that_is_masked_as_a_whole_is_zero_as_in_pytorch(row, rng):
    *qkv, _ = args = arguments(rng, mask=True)
    mask = torch.where(torch.from_numpy(rng.random((2, 1, 64, 64))) < 0.5, 0.0, -torch.inf).float()
    mask[1, 0, row] = -torch.inf
    model = Attention(functional.scaled_dot_product_attention).eval()
    y = tb.compile(model, args)(*qkv, mask)
    torch.testing.assert_close(y, model(*qkv, mask), rtol=1e-5, atol=2e-6)
    assert (y[1, :, row] == 0).all()


def above_the_mean(q, k, v, _):
    scores = q @ k.transpose(-1, -2) / 4.0
    return functional.softmax(torch.where(scores >= scores.mean(-1, keepdim=True), scores, -1e9), -1) @ v


def gated(q, k, v, _):
    scores = q @ k.transpose(-1, -2) / 4.0
    return functional.softmax(scores + torch.relu(scores), -1) @ v


def with_positions(q, k, v, _):
    positions = torch.linspace(-1, 1, k.shape[-2] * q.shape[-1], dtype=q.dtype).reshape(q.shape[-1], k.shape[-2])
    return functional.softmax(q @ k.transpose(-1, -2) / 4.0 + q @ positions, -1) @ v


def with_scaled_positions(q, k, v, _):
    q = q * 0.3
    return functional.softmax(q @ k.transpose(-1, -2) + torch.einsum("bhld,rd->bhlr", q, k[0, 0]), -1) @ v


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("tokens", [64, 50])
@pytest.mark.parametrize("heads_first", [True, False])
@pytest.mark.parametrize("form", [above_the_mean, gated, with_positions, with_scaled_positions])
def test_masks_that_are_made_of_scores_or_queries(form, heads_first, tokens, rng):
    model = Attention(form, heads_first=heads_first).eval()
    args = arguments(rng, tokens=tokens, shape=(2, 3, tokens, 32), heads_first=heads_first)
    names = check(model, args)
    assert ("attention" in names) == (form in (with_positions, with_scaled_positions))


@pytest.mark.slow
@pytest.mark.parametrize(("looked_for", "given"), [(-2.0, 0.0), (-torch.inf, 1.0)])
def test_what_only_looks_like_pytorchs_safe_softmax_is_not_taken_for_it(looked_for, given, rng):
    class Lookalike(nn.Module):
        def forward(self, q, k, v, mask):
            scores = q @ k.transpose(-1, -2) + mask
            some = torch.logical_not(scores == looked_for).any(-1, keepdim=True)
            softmax = functional.softmax(scores, -1)
            return torch.where(torch.logical_not(some), torch.full_like(softmax, given), softmax) @ v

    *qkv, mask = args = arguments(rng, mask=True)
    mask[0, 0, 5] = looked_for
    qkv[0][0, :, 5] = 0  # whose scores are then those of the mask
    model = Lookalike().eval()
    y = tb.compile(model, args)(*qkv, mask)
    torch.testing.assert_close(y, model(*qkv, mask), rtol=1e-5, atol=5e-6, equal_nan=True)


@pytest.mark.slow
def test_a_safe_softmax_that_looks_along_columns_is_not_taken_for_it(rng):
    class AlongColumns(nn.Module):
        def forward(self, q, k, v, mask):
            scores = q @ k.transpose(-1, -2) + mask
            some = torch.logical_not(scores == -torch.inf).any(-2, keepdim=True)
            softmax = functional.softmax(scores, -1)
            return torch.where(torch.logical_not(some), torch.full_like(softmax, 0.0), softmax) @ v

    *qkv, mask = args = arguments(rng, mask=True)
    compiled = tb.compile(AlongColumns().eval(), args)
    mask[0, 0, 5] = -torch.inf
    assert compiled(*qkv, mask)[0, :, 5].isnan().all()


def test_softmax_alone_gives_nan_for_such_a_row_as_in_pytorch(rng):
    *qkv, mask = args = arguments(rng, mask=True)
    compiled = tb.compile(Attention(written_out).eval(), args)
    mask[0, 0, 5] = -torch.inf
    assert compiled(*qkv, mask)[0, :, 5].isnan().all()


@pytest.mark.grid
@pytest.mark.parametrize(
    ("shape", "tokens"),
    [
        ((1, 1, 8, 16), 32),
        ((1, 3, 6, 32), 48),  # rows that eight does not divide
        ((2, 2, 130, 48), 64),  # of which five are computed together
        ((1, 2, 256, 80), 160),
        ((3, 2, 64, 64), 512),
    ],
)
def test_shapes(shape, tokens, rng):
    assert "attention" in check(Attention(written_out), arguments(rng, shape, tokens, mask=True))


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize(
    ("shape", "tokens"),
    [((1, 2, 1, 32), 64), ((1, 2, 64, 20), 64), ((1, 2, 64, 32), WIDTH), ((1, 2, 33, 32), WIDTH // 2 + 1)],
)
def test_shapes_that_would_not_gain_are_left_alone(shape, tokens, rng):
    assert "attention" not in check(Attention(written_out), arguments(rng, shape, tokens, mask=True))


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize(
    ("q", "k", "mask"),
    [
        ((6, 64, 32), (6, 64, 32), (64, 64)),  # heads and batch are one dimension
        ((2, 3, 64, 32), (2, 3, 64, 32), (2, 1, 1, 64)),  # a mask for all rows
        ((2, 3, 64, 32), (2, 3, 64, 32), (1,)),
        ((2, 3, 64, 32), (1, 3, 64, 32), (64, 64)),  # keys and values of one sentence for all
        ((2, 4, 64, 32), (2, 1, 64, 32), (3, 1, 1, 64)[1:]),  # and of one head for all
        ((2, 2, 2, 32, 32), (2, 2, 1, 48, 32), (32, 48)),
    ],
)
def test_stacks_and_broadcasts(q, k, mask, rng):
    args = [torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in (q, k, k, mask)]
    assert "attention" in check(Attention(written_out), tuple(args))


def test_probabilities_that_are_returned_are_computed_as_before(rng):
    class WithProbabilities(nn.Module):
        def forward(self, q, k, v):
            probabilities = functional.softmax(q @ k.transpose(-1, -2), -1)
            return probabilities @ v, probabilities

    args = arguments(rng)
    compiled, model = tb.compile(WithProbabilities().eval(), args), WithProbabilities().eval()
    for got, want in zip(compiled(*args), model(*args), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=2e-6)
    assert "attention" not in functions(compiled, args)


@pytest.mark.slow
def test_softmax_along_another_axis_is_left_alone(rng):
    model = Attention(lambda q, k, v, _: functional.softmax(q @ k.transpose(-1, -2), -2) @ v)
    assert "attention" not in check(model, arguments(rng))


@pytest.mark.slow
def test_operands_that_are_read_elsewhere(rng):
    class Shared(nn.Module):
        def forward(self, x):
            q = x.transpose(1, 2)
            return (functional.softmax(q @ q.transpose(-1, -2) / 8, -1) @ q).transpose(1, 2) + x, q * 2

    x = torch.from_numpy(rng.standard_normal((2, 64, 3, 32)).astype(np.float32))
    model = Shared().eval()
    compiled = tb.compile(model, (x,))
    for got, want in zip(compiled(x), model(x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=2e-6)
    assert "attention" in functions(compiled, (x,))


@pytest.mark.slow
def test_a_batch_that_is_known_only_at_the_call(rng):
    batch = torch.export.Dim("batch", min=1, max=16)
    model, args = Attention(written_out, heads_first=False).eval(), arguments(rng, heads_first=False)
    compiled = tb.compile(model, args, dynamic_shapes={"q": {0: batch}, "k": {0: batch}, "v": {0: batch}})
    for size in (1, 3):
        args = arguments(rng, (size, 3, 64, 32), heads_first=False)
        torch.testing.assert_close(compiled(*args), model(*args), rtol=1e-5, atol=2e-6)
    assert "attention" in functions(compiled, args)


@pytest.mark.slow
def test_layers_share_one_function(rng):
    class Layers(nn.Module):
        def forward(self, q, k, v):
            for _ in range(3):
                q = written_out(q, k, v, None)
            return q

    args = arguments(rng)
    profile = tb.compile(Layers().eval(), args).profile(*args, rounds=1)
    assert [(row.name, row.calls) for row in profile.rows] == [("attention", 3)]


@pytest.mark.slow
def test_a_mask_that_every_layer_makes_is_made_once(rng):
    class Layers(nn.Module):
        def forward(self, q, k, v, mask):
            for _ in range(3):
                q = written_out(q, k, v, torch.where(mask > 0, 0.0, -1e4))
            return q

    args = arguments(rng, mask=True)
    compiled, model = tb.compile(Layers().eval(), args), Layers().eval()
    torch.testing.assert_close(compiled(*args), model(*args), rtol=1e-4, atol=1e-5)
    calls = {row.name: row.calls for row in compiled.profile(*args, rounds=1).rows}
    assert calls.pop("attention") == 3
    assert sum(calls.values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_left_alone(dtype, rng):
    args = [x.to(dtype) for x in arguments(rng)]
    model = Attention(written_out).eval()
    compiled = tb.compile(model, args)
    torch.testing.assert_close(compiled(*args), model(*args), rtol=2e-2, atol=2e-2)
    assert "attention" not in functions(compiled, args)


def test_on_a_gpu_attention_is_left_to_its_own_rules(rng):
    imported = import_model(Attention(written_out).eval(), arguments(rng))
    names = {}
    for target in (host_target(), cuda_target("h200")):
        with target:
            mod = tvm_balanced_pipeline()(imported.mod)
        names[target.kind.name] = [var.name_hint for var in mod.get_global_vars()]
    assert "attention" in names["llvm"]
    assert "attention" not in names["cuda"]
