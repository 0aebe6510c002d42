"""Tiny causal language models from their configs: compiled text is that of transformers' generate, token by token."""

import os
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from support.language_models import pruned

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.sources import Request, import_source

SIZES = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 120}
LENGTH, PROMPT, NEW = 88, 19, 64
NIGHTLY = pytest.mark.skipif("TVM_BALANCED_NIGHTLY" not in os.environ, reason="make nightly runs this")


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES | {"num_hidden_layers": 2}, num_key_value_heads=2))


def qwen3():
    config = transformers.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
    return transformers.Qwen3ForCausalLM(config)


def mistral():
    return transformers.MistralForCausalLM(transformers.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8))


def gpt2():
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    config = transformers.GPT2Config(n_embd=64, n_layer=1, n_head=4, vocab_size=120, n_positions=LENGTH, **ids)
    return transformers.GPT2LMHeadModel(config)


def mixtral():
    """Each of its experts is a sparse layer."""
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4))


def qwen2():
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES, num_key_value_heads=2))


def phi3():
    return transformers.Phi3ForCausalLM(transformers.Phi3Config(**SIZES, num_key_value_heads=2, pad_token_id=0))


def gemma2():
    """Every second layer has a window, and logits are capped."""
    sizes = SIZES | {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 16}
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**sizes, sliding_window=8))


def gpt_neox():
    """A part of each head is rotated."""
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES))


def rotary(kind, **parameters):
    def make():
        rope = {"rope_type": kind, "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16, **parameters}
        sizes = SIZES | {"max_position_embeddings": 128}
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_key_value_heads=2, rope_parameters=rope))

    make.__name__ = f"rotary {kind}"
    return make


OTHERS = (qwen3, gpt2, mistral, mixtral)
LLAMA3 = rotary("llama3", low_freq_factor=1.0, high_freq_factor=4.0)
AT_NIGHT = (qwen2, phi3, gemma2, gpt_neox, rotary("linear"), rotary("yarn"), LLAMA3)
CASES = [*OTHERS, *(pytest.param(make, marks=NIGHTLY) for make in AT_NIGHT)]


def prompts():
    """Two prompts, the second of them padded on the left, longer than two chunks and no multiple of one."""
    ids = torch.randint(3, 120, (2, PROMPT), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    return ids, mask


def written(model, ids, mask, **options):
    return model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, **options)


@pytest.fixture(scope="module")
def small():
    model = pruned(llama)
    return model, tb.compile_causal_lm(model, max_length=LENGTH, batch=2, chunk=8, threads=1)


@pytest.mark.slow
def test_llama_writes_what_transformers_writes_also_when_loaded(small, tmp_path):
    model, compiled = small
    ids, mask = prompts()
    want = written(model, ids, mask)
    assert len(set(want[:, PROMPT:].flatten().tolist())) > 5
    compiled.save(tmp_path / "lm.tb")
    loaded = tb.load(tmp_path / "lm.tb")
    assert type(compiled) is type(loaded) is tb.CausalLM
    for lm in (compiled, loaded, compiled.clone()):
        assert torch.equal(lm.generate(ids, mask, max_new_tokens=NEW), want)
    got = loaded.generate(ids.numpy(), mask.numpy(), max_new_tokens=3)
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, want[:, : PROMPT + 3])
    alone = written(model, ids[:1, :3], mask[:1, :3])
    assert torch.equal(loaded.generate(ids[:1, :3], max_new_tokens=NEW), alone)  # fewer rows and a prompt shorter than a chunk
    names = {layer.layer for layer in compiled.report.layers}
    assert "model.layers.0.self_attn.q_proj" in names
    assert len(compiled.weights) < 2 * len(compiled.facts.entry_points["decode"].weights)  # both share them


class Telling(transformers.generation.streamers.BaseStreamer):
    """What is told a text as transformers tells it, as its TextStreamer is."""

    def __init__(self):
        self.told, self.ended = [], False

    def put(self, value):
        self.told.append(value)

    def end(self):
        self.ended = True


@pytest.mark.slow
def test_texts_end_stream_and_are_drawn(small):
    model, lm = small
    ids, mask = prompts()
    want = written(model, ids, mask)
    end = int(want[0, PROMPT + 4])
    stopped = lm.generate(ids, mask, max_new_tokens=NEW, eos_token_id=end)
    expected = written(model, ids, mask, eos_token_id=end, pad_token_id=0)
    assert torch.equal(stopped, expected)
    seen = []
    lm.generate(ids, mask, max_new_tokens=4, streamer=seen.append)
    np.testing.assert_array_equal(np.stack(seen, 1), want[:, PROMPT : PROMPT + 4])
    telling = Telling()
    lm.generate(ids, mask, max_new_tokens=2, streamer=telling)
    assert torch.equal(telling.told[0], ids)
    assert torch.equal(torch.stack(telling.told[1:], 1), want[:, PROMPT : PROMPT + 2])
    assert telling.ended
    drawn = [lm.generate(ids, mask, max_new_tokens=NEW, do_sample=True, top_k=20, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert lm.generate(ids[:, : LENGTH - 20]).shape == (2, LENGTH)  # as many as there is room for


@pytest.mark.slow
def test_wrong_prompts_get_one_sentence(small):
    _, lm = small
    ids, mask = prompts()
    behind = torch.ones_like(ids)
    behind[0, -2:] = 0
    for args, options, message in [
        ((ids,), {"max_new_tokens": LENGTH}, "the cache has 88 slots"),
        ((torch.ones(1, LENGTH, dtype=torch.int64),), {}, "the cache has 88 slots"),
        ((ids[0],), {}, "input_ids has shape"),
        ((torch.cat([ids, ids]),), {}, "with 1 to 2 rows"),
        ((ids[:, :0],), {}, "a token or more"),
        ((ids.float(),), {}, "input_ids is float32; give integers"),
        ((ids, mask[:, 1:]), {}, "attention_mask has shape"),
        ((ids, behind), {}, "padding behind tokens"),
        ((ids, mask), {"max_new_tokens": 0}, "max_new_tokens is 0"),
        ((ids, mask), {"streamer": 3}, "streamer is int; give a callable"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            lm.generate(*args, **options)
        assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_other_models_write_what_transformers_writes(make):
    model, (ids, mask) = pruned(make), prompts()
    lm = tb.compile_causal_lm(model, max_length=LENGTH, batch=2, chunk=8, threads=1)
    assert torch.equal(lm.generate(ids, mask, max_new_tokens=NEW), written(model, ids, mask))


@pytest.mark.slow
def test_a_folder_is_imported_alike(tmp_path):
    model = pruned(llama)
    model.save_pretrained(tmp_path)
    imported = import_source(str(tmp_path), Request(max_length=32))  # as compile FOLDER --max-length 32 gives it
    assert list(imported.entry_points) == ["prefill", "decode"]
    assert imported.generation.chunk == 32
    assert [str(spec) for spec in imported.entry_points["decode"].inputs[:4]] == [
        "tokens: int64[1, 1]",
        "start: int64[]",
        "pads: int64[1]",
        "last: int64[1]",
    ]
    assert len(imported.entry_points["decode"].donate) == 4


def gpt_neo():
    """Its attention takes the last of the keys that it is given for the newest token."""
    local = [[["local"], 1]]
    sizes = {"hidden_size": 64, "num_layers": 1, "num_heads": 4, "vocab_size": 120, "max_position_embeddings": LENGTH}
    return transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(**sizes, attention_types=local, window_size=8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_that_counts_its_keys_is_refused_and_the_advice_works(dtype):
    model, ids = pruned(gpt_neo).to(dtype), torch.arange(3, 19)[None]
    with pytest.raises(
        ModelError, match=r"GPTNeoForCausalLM gives other logits with a cache of fixed slots .* compile it with ex"
    ):
        tb.compile_causal_lm(model, max_length=LENGTH)
    imported = import_source(model, Request(kwargs={"input_ids": ids, "use_cache": False}))
    assert list(imported.entry_points) == ["main"]


class Recurrent(torch.nn.Module):
    config = transformers.LlamaConfig(**SIZES)

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, logits_to_keep=0, use_cache=True):
        return {"logits": input_ids}


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (torch.nn.Linear(4, 4), {}, ModelError, "Linear takes no input_ids"),
        (Recurrent(), {}, ModelError, "Recurrent keeps no keys and values layer by layer"),
        ("no/such/folder", {}, ModelError, "is not a folder of transformers"),
        (gpt2, {"max_length": LENGTH + 1}, InputError, "the model takes 88 tokens at most"),
        (llama, {"max_length": 0}, InputError, "max_length is 0"),
        (llama, {"batch": 1.5}, InputError, "batch is 1.5"),
    ],
)
def test_what_is_no_such_model_gets_one_sentence(model, options, error, message):
    model = model() if callable(model) and not isinstance(model, torch.nn.Module) else model
    with pytest.raises(error, match=message) as raised:
        tb.compile_causal_lm(model, **{"max_length": 16} | options)
    assert "\n" not in str(raised.value)


def test_fallback_is_refused_and_its_advice_works():
    """A decoder writes to caches that it is given; a call with all of its tokens has one entry point, which fallback takes."""
    model = llama().eval()
    for refuses in (partial(tb.compile_causal_lm, max_length=8), partial(tb.compile_seq2seq_lm, max_source=8, max_length=8)):
        with pytest.raises(InputError, match=r"fallback is for a model with one entry .*; leave fallback out, or") as error:
            refuses(model, fallback=True)
        assert "\n" not in str(error.value)
    ids = torch.arange(3, 9)[None]
    imported = import_source(model, Request(kwargs={"input_ids": ids, "use_cache": False}))
    assert list(imported.entry_points) == ["main"]
    assert imported.main.operators is not None


@pytest.mark.avx512
@pytest.mark.slow
def test_weights_in_four_bits_for_decoding():
    model = pruned(mistral, scale=1)
    module = tb.compile_causal_lm(model, max_length=32, chunk=8, threads=1, precision="int4", max_loss=0.5, race=False)
    said = module.report.precision
    rows = [row for row in module.report.layers if row.kernel == "cpu_avx512_w4"]
    assert {row.entry_point for row in rows} >= {"decode"}
    assert {row.layer for row in rows} == set(said.rounded)
    assert said.precision == "int4"
    assert 0.01 < said.loss <= 0.5
    assert {loss.entry_point for loss in said.losses} == {"prefill", "decode"}
    assert all(2 < row.bits < 2.6 for row in rows)  # 2.06 of long rows; each panel of these short ones has a word of scales
    assert module.generate(torch.arange(3, 9)[None], max_new_tokens=4).shape == (1, 10)
