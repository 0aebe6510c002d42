"""Models that return a cache of keys and values, and take one, as transformers calls them."""

import copy

import pytest
import torch
from torch.utils import _pytree as pytree

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend import key_value_cache

transformers = pytest.importorskip("transformers")
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "vocab_size": 100,
}


def llama():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)).eval()


def mistral():
    torch.manual_seed(0)
    return transformers.MistralForCausalLM(transformers.MistralConfig(**SMALL, sliding_window=5)).eval()


def inputs(length, past=0):
    ids = torch.randint(3, 100, (1, length), generator=torch.Generator().manual_seed(past))
    return {"input_ids": ids, "attention_mask": torch.ones(1, past + length, dtype=torch.long)}


def assert_equal_caches(got, want):
    assert type(got) is type(want)
    for ours, theirs in zip(got.layers, want.layers, strict=True):
        assert type(ours) is type(theirs)
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-4, atol=1e-5)
        assert ours.get_seq_length() == theirs.get_seq_length()


@pytest.mark.slow
@pytest.mark.parametrize("make", [llama, mistral])
def test_a_cache_goes_out_and_comes_in_again(make):
    """Of a window of 5 tokens, a prompt of 8 leaves the last 4; the model counts places from all 8."""
    model = make()
    prompt, token = inputs(8), inputs(1, past=8)
    with torch.no_grad():
        want = model(**prompt)
        got = tb.compile(model, (), prompt, threads=1)(**prompt)
        assert type(got) is type(want)
        assert_equal_caches(got.past_key_values, want.past_key_values)
        held = copy.deepcopy(got.past_key_values)
        step = tb.compile(model, (), {**token, "past_key_values": held}, threads=1)
        assert_equal_caches(held, got.past_key_values)  # the example is as it was
        assert [spec.name for spec in step.facts.main.inputs][2:] == ["past_key_values_keys_0", "past_key_values_values_0"]
        after = step(**token, past_key_values=got.past_key_values)
        expected = model(**token, past_key_values=want.past_key_values)
    torch.testing.assert_close(after.logits, expected.logits, rtol=1e-4, atol=1e-5)
    assert_equal_caches(after.past_key_values, expected.past_key_values)


@pytest.mark.slow
def test_an_encoder_and_a_decoder_return_a_pair_of_caches():
    torch.manual_seed(0)
    config = transformers.T5Config(
        d_model=32, d_ff=64, d_kv=16, num_layers=1, num_decoder_layers=1, num_heads=2, vocab_size=100, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    examples = {**inputs(6), "decoder_input_ids": inputs(3)["input_ids"]}
    got = tb.compile(model, (), examples, threads=1)(**examples)
    with torch.no_grad():
        want = model(**examples)
    assert type(got) is type(want)
    assert type(got.past_key_values) is type(want.past_key_values)
    assert got.past_key_values.is_updated == want.past_key_values.is_updated
    torch.testing.assert_close(got.logits, want.logits, rtol=1e-4, atol=1e-5)
    for name in ("self_attention_cache", "cross_attention_cache"):
        assert_equal_caches(getattr(got.past_key_values, name), getattr(want.past_key_values, name))


@pytest.mark.slow
def test_a_window_over_a_dynamic_length_gets_advice_that_works():
    model, examples = mistral(), inputs(8)
    shapes = {name: {1: torch.export.Dim.DYNAMIC} for name in examples}
    with pytest.raises(ModelError, match=r"it returns a cache of keys and values.*set model.config.use_cache = False before"):
        tb.compile(model, (), examples, dynamic_shapes=shapes, threads=1)
    model.config.use_cache = False
    module = tb.compile(model, (), examples, dynamic_shapes=shapes, threads=1)
    for length in (8, 3):
        with torch.no_grad():
            want = model(**inputs(length)).logits
        torch.testing.assert_close(module(**inputs(length)).logits, want, rtol=1e-4, atol=1e-5)


def test_a_cache_of_another_kind_gets_one_sentence():
    odd = transformers.DynamicCache()
    odd.layers.append(object())
    for cache in (odd, transformers.EncoderDecoderCache(odd, transformers.DynamicCache())):
        with pytest.raises(InputError, match="is of type DynamicCache, which torch does not know; wrap the model") as error:
            tb.compile(llama(), (), {**inputs(1), "past_key_values": cache})
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_it_takes_the_place_of_what_transformers_registers():
    from transformers.integrations.executorch import register_dynamic_cache_export_support

    kind = transformers.DynamicCache
    if kind in pytree.SUPPORTED_NODES:  # by a test before
        pytree._deregister_pytree_node(kind)
    register_dynamic_cache_export_support()
    assert pytree.SUPPORTED_NODES[kind].flatten_fn is not key_value_cache._flatten
    got = tb.compile(llama(), (), inputs(8), threads=1)(**inputs(8))
    assert type(got.past_key_values) is kind
    assert pytree.SUPPORTED_NODES[kind].flatten_fn is key_value_cache._flatten
