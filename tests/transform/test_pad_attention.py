"""PadAttention: attention over any number of tokens is one function, and what is added to it never shows."""

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
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.demo.minilm import sentence_encoder
from tvm_balanced.transform.pad_attention import PadAttention

N = tvm.tirx.Var("n", "int64")
LENGTH = torch.export.Dim("length", min=2, max=256)


@I.ir_module
class Odd:
    @R.function
    def main(
        q: R.Tensor((2, 11, 16), "float32"),
        k: R.Tensor((2, 16, 50), "float32"),
        v: R.Tensor((2, 50, 16), "float32"),
        mask: R.Tensor((11, 50), "float32"),
    ) -> R.Tensor((2, 11, 16), "float32"):
        with R.dataflow():
            product = R.matmul(q, k)
            scores = R.add(product, mask)
            probabilities = R.nn.softmax(scores, axis=-1)
            result = R.matmul(probabilities, v)
            R.output(result)
        return result


@I.ir_module
class OddPadded:
    """Eleven rows are sixteen, and fifty keys sixty-four."""

    @R.function
    def main(
        q: R.Tensor((2, 11, 16), "float32"),
        k: R.Tensor((2, 16, 50), "float32"),
        v: R.Tensor((2, 50, 16), "float32"),
        mask: R.Tensor((11, 50), "float32"),
    ) -> R.Tensor((2, 11, 16), "float32"):
        with R.dataflow():
            queries = R.nn.pad(q, pad_width=[0, 0, 0, 5, 0, 0], pad_mode="replicate")
            keys = R.nn.pad(k, pad_width=[0, 0, 0, 0, 0, 14], pad_mode="replicate")
            product = R.matmul(queries, keys)
            wider = R.nn.pad(mask, pad_width=[0, 0, 0, 14], pad_mode="replicate")
            larger = R.nn.pad(wider, pad_width=[0, 5, 0, 0], pad_mode="replicate")
            masked = R.add(product, larger)
            head = R.full((50,), R.const(0.0, "float32"), dtype="float32")
            rest = R.full((14,), R.const(float("-inf"), "float32"), dtype="float32")
            tail = R.concat((head, rest), axis=0)
            scores = R.add(masked, tail)
            probabilities = R.nn.softmax(scores, axis=-1)
            values = R.nn.pad(v, pad_width=[0, 0, 0, 14, 0, 0], pad_mode="replicate")
            padded = R.matmul(probabilities, values, out_dtype="float32")
            result = R.strided_slice(padded, (1,), (0,), (11,), assume_inbound=True)
            R.output(result)
        return result


@I.ir_module
class OfAnyLength:
    @R.function
    def main(
        q: R.Tensor((2, 8, 16), "float32"), k: R.Tensor((2, 16, N), "float32"), v: R.Tensor((2, N, 16), "float32")
    ) -> R.Tensor((2, 8, 16), "float32"):
        with R.dataflow():
            scores = R.matmul(q, k)
            probabilities = R.nn.softmax(scores, axis=-1)
            result = R.matmul(probabilities, v)
            R.output(result)
        return result


GROWN = (N + 15) // 16 * 16


@I.ir_module
class OfAnyLengthPadded:
    @R.function
    def main(
        q: R.Tensor((2, 8, 16), "float32"), k: R.Tensor((2, 16, N), "float32"), v: R.Tensor((2, N, 16), "float32")
    ) -> R.Tensor((2, 8, 16), "float32"):
        with R.dataflow():
            columns = R.arange(0, GROWN, 1, dtype="int64")
            keys = R.take(k, columns, axis=2, mode="clip")
            product = R.matmul(q, keys)
            head = R.full((N,), R.const(0.0, "float32"), dtype="float32")
            rest = R.full((GROWN - N,), R.const(float("-inf"), "float32"), dtype="float32")
            tail = R.concat((head, rest), axis=0)
            scores = R.add(product, tail)
            probabilities = R.nn.softmax(scores, axis=-1)
            rows = R.arange(0, GROWN, 1, dtype="int64")
            values = R.take(v, rows, axis=1, mode="clip")
            result = R.matmul(probabilities, values, out_dtype="float32")
            R.output(result)
        return result


@pytest.mark.parametrize(("before", "expected"), [(Odd, OddPadded), (OfAnyLength, OfAnyLengthPadded)])
def test_the_module(before, expected):
    with parse_target("cpu/x86-64-v4"):
        tvm.ir.assert_structural_equal(PadAttention()(before), expected)


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("rows", "tokens"),
    [(6, 83), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((37, 37), (64, 50), (130, 32)))],
)
def test_attention_of_any_size_is_one_function(form, rows, tokens, rng):
    model, mask = FORMS[form]
    names = check(model, arguments(rng, (2, 3, rows, 32), tokens, mask, model.heads_first))
    assert names.count("attention") == 1
    assert not [name for name in names if "matmul" in name or "softmax" in name]


# Forms that differ in what is padded; the others, at night, differ in how it is written.
ANY_LENGTH = ("tokens first", "two masks", "where", "constant mask", "sdpa, mask")
DYNAMIC = [pytest.param(form, marks=[pytest.mark.nightly] * (form not in ANY_LENGTH)) for form in FORMS if form != "sdpa, causal"]


@pytest.mark.slow
@pytest.mark.parametrize("form", DYNAMIC)
def test_a_length_that_is_known_only_at_the_call(form, rng):
    model, mask = FORMS[form]
    model = model.eval()
    tokens = 2 if model.heads_first else 1
    dynamic = {name: {tokens: LENGTH} for name in "qkv"} | ({"mask": {2: LENGTH, 3: LENGTH}} if mask else {})
    compiled = tb.compile(model, arguments(rng, (2, 3, 40, 32), 40, mask, model.heads_first), dynamic_shapes=dynamic)
    for size in (2, 31, 32, 33, 100):
        args = arguments(rng, (2, 3, size, 32), size, mask, model.heads_first)
        torch.testing.assert_close(compiled(*args), model(*args), rtol=1e-5, atol=5e-6)
    names = functions(compiled, args)
    assert names.count("attention") == 1
    assert not [name for name in names if "matmul" in name or "softmax" in name]


@pytest.mark.slow
def test_rows_and_length_that_are_known_only_at_the_call(rng):
    rows = torch.export.Dim("rows", min=2, max=64)
    model = Attention(functional.scaled_dot_product_attention).eval()
    dynamic = {"q": {2: rows}, "k": {2: LENGTH}, "v": {2: LENGTH}, "mask": {2: rows, 3: LENGTH}}
    compiled = tb.compile(model, arguments(rng, (1, 2, 10, 16), 40, mask=True), dynamic_shapes=dynamic)
    for shape, tokens in (((1, 2, 3, 16), 90), ((1, 2, 64, 16), 5)):
        args = arguments(rng, shape, tokens, mask=True)
        torch.testing.assert_close(compiled(*args), model(*args), rtol=1e-5, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("low", [-1e9, float(torch.finfo(torch.float32).min)])
def test_where_every_key_is_masked_alike_those_that_were_added_still_do_not_count(low, rng):
    *qkv, mask = arguments(rng, (1, 2, 21, 32), 21, mask=True)
    mask[0, 0, 7] = low
    model = Attention(written_out).eval()
    y = tb.compile(model, (*qkv, mask))(*qkv, mask)
    torch.testing.assert_close(y, model(*qkv, mask), rtol=1e-5, atol=5e-6)
    if low < -1e30:  # which swallows the scores
        torch.testing.assert_close(y[0, :, 7], qkv[2][0].mean(1), rtol=1e-5, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 20])
def test_a_row_that_is_masked_as_a_whole_is_zero_as_in_pytorch(row, rng):
    *qkv, _ = args = arguments(rng, (2, 3, 21, 32), 21, mask=True)
    mask = torch.where(torch.from_numpy(rng.random((2, 1, 21, 21))) < 0.5, 0.0, -torch.inf).float()
    mask[1, 0, row] = -torch.inf
    model = Attention(functional.scaled_dot_product_attention).eval()
    y = tb.compile(model, args)(*qkv, mask)
    torch.testing.assert_close(y, model(*qkv, mask), rtol=1e-5, atol=2e-6)
    assert (y[1, :, row] == 0).all()


@pytest.mark.slow
def test_layers_share_their_mask(rng):
    class Layers(nn.Module):
        def forward(self, q, k, v, mask):
            for _ in range(3):
                q = written_out(q, k, v, mask)
            return q

    args = arguments(rng, (2, 3, 21, 32), 21, mask=True)
    rows = {row.name: row.calls for row in tb.compile(Layers().eval(), args).profile(*args, rounds=1).rows}
    assert rows["attention"] == 3
    assert sum(calls for name, calls in rows.items() if "pad" in name or "full" in name) <= 2


@pytest.mark.slow
@pytest.mark.minilm
def test_a_sentence_encoder_for_sentences_of_any_length(rng):
    model, args = sentence_encoder()
    model.model.encoder.layer = model.model.encoder.layer[:2]  # all six are alike
    args = tuple(arg.expand(2, -1).contiguous() for arg in args)
    batch, length = torch.export.Dim("batch", max=8), torch.export.Dim("length", max=512)
    compiled = tb.compile(model, args, dynamic_shapes=({0: batch, 1: length},) * 2)
    for sentences, tokens in ((1, 3), (2, 17), (3, 64), (1, 300)):
        ids = torch.from_numpy(rng.integers(1000, 20000, (sentences, tokens)))
        mask = torch.ones_like(ids)
        mask[0, tokens - tokens // 3 :] = 0
        with torch.no_grad():
            torch.testing.assert_close(compiled(ids, mask), model(ids, mask), rtol=1e-4, atol=2e-5)
    assert "attention" in functions(compiled, (ids, mask))


def test_scores_that_are_returned_are_computed_once(rng):
    class WithScores(nn.Module):
        def forward(self, q, k, v):
            scores = q @ k.transpose(-1, -2)
            return functional.softmax(scores, -1) @ v, scores

    args = arguments(rng, (2, 3, 50, 32), 50)
    compiled = tb.compile(WithScores().eval(), args)
    for got, want in zip(compiled(*args), WithScores()(*args), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=2e-5)
    assert sum("matmul" in name for name in functions(compiled, args)) == 2


@pytest.mark.slow
def test_rows_that_are_known_only_at_the_call(rng):
    rows = torch.export.Dim("rows", max=64)
    model = Attention(written_out).eval()
    dynamic = {"q": {2: rows}, "k": None, "v": None, "mask": {2: rows}}
    compiled = tb.compile(model, arguments(rng, (1, 2, 10, 16), 40, mask=True), dynamic_shapes=dynamic)
    for size in (1, 3, 33):
        args = arguments(rng, (1, 2, size, 16), 40, mask=True)
        torch.testing.assert_close(compiled(*args), model(*args), rtol=1e-5, atol=5e-6)
    assert "attention" in functions(compiled, args)


@pytest.mark.slow
def test_sizes_that_fit_are_left_as_they_are(rng):
    names = check(Attention(written_out), arguments(rng, mask=True))
    assert names == ["attention"]


@pytest.mark.slow
def test_numbers_of_the_last_key_are_those_that_are_repeated_and_nothing_past_it_is_read(rng):
    """With values of NaN behind the last, in the same memory."""
    model, args = Attention(written_out).eval(), arguments(rng, (1, 1, 21, 32), 21)
    compiled = tb.compile(model, args)
    longer = [torch.from_numpy(np.full((1, 1, 64, 32), np.nan, np.float32)) for _ in args]
    for memory, x in zip(longer, args, strict=True):
        memory[:, :, :21] = x
    got = compiled(*[memory[:, :, :21] for memory in longer])
    torch.testing.assert_close(got, model(*args), rtol=1e-5, atol=5e-6)
