"""A tiny T5 from its config: compiled answers are those of transformers' generate, token by token."""

import pytest
import torch
import transformers
from support.language_models import pruned

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.sources import Request, import_source

SIZES = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 4, "vocab_size": 120}
SOURCE, NEW = 24, 64


def t5():
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**SIZES, decoder_start_token_id=0))


def texts():
    """Two source texts, the second of them padded behind, both shorter than the longest one."""
    ids = torch.randint(3, 120, (2, 19), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, -5:] = 0
    return ids, mask


@pytest.fixture(scope="module")
def small():
    model = pruned(t5, scale=16)
    return model, tb.compile_seq2seq_lm(model, max_source=SOURCE, max_length=NEW, batch=2, threads=1)


@pytest.mark.slow
def test_t5_writes_what_transformers_writes_also_when_loaded(small, tmp_path):
    model, compiled = small
    ids, mask = texts()
    want = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False)
    assert max(len(set(row.tolist())) for row in want) > 5
    compiled.save(tmp_path / "t5.tb")
    loaded = tb.load(tmp_path / "t5.tb")
    assert type(compiled) is type(loaded) is tb.Seq2SeqLM
    for lm in (compiled, loaded):
        assert torch.equal(lm.generate(ids, mask), want)
    alone = model.generate(ids[:1, :4], max_new_tokens=9, do_sample=False)
    assert torch.equal(loaded.generate(ids[:1, :4], max_new_tokens=9), alone)
    seen = []
    loaded.generate(ids, mask, max_new_tokens=3, streamer=seen.append)
    assert [token.tolist() for token in seen] == want[:, 1:4].T.tolist()
    sparse = {layer.layer for layer in compiled.report.layers if layer.verdict == "sparse"}
    assert {"encoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.1.EncDecAttention.k"} <= sparse


@pytest.mark.slow
def test_wrong_texts_get_one_sentence(small):
    _, lm = small
    ids, mask = texts()
    for args, options, message in [
        ((ids,), {"max_new_tokens": 65}, "max_new_tokens is 65; the cache has 64 slots"),
        ((torch.ones(1, 25, dtype=torch.int64),), {}, "a source text of 25 tokens was given; the model was compiled for 24"),
        ((ids, mask * 0), {}, "a row without a token"),
        ((ids[0],), {}, "input_ids has shape"),
        ((torch.cat([ids, ids]),), {}, "with 1 to 2 rows"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            lm.generate(*args, **options)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_folder_is_imported_alike(tmp_path):
    pruned(t5).save_pretrained(tmp_path)
    imported = import_source(str(tmp_path), Request(max_length=8, length=12))  # as compile FOLDER --max-length 8 --length 12
    assert list(imported.entry_points) == ["encode", "decode"]
    assert (imported.generation.source, imported.generation.length) == (12, 8)
    assert len(imported.entry_points["decode"].donate) == 2


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (torch.nn.Linear(4, 4), {}, ModelError, "Linear takes no input_ids"),
        ("no/such/folder", {}, ModelError, "is not a folder of transformers"),
        (t5, {"max_source": 0}, InputError, "max_source is 0"),
        (t5, {"max_length": 1.5}, InputError, "max_length is 1.5"),
    ],
)
def test_what_is_no_such_model_gets_one_sentence(model, options, error, message):
    model = model() if callable(model) and not isinstance(model, torch.nn.Module) else model
    with pytest.raises(error, match=message) as raised:
        tb.compile_seq2seq_lm(model, **{"max_source": 16, "max_length": 16} | options)
    assert "\n" not in str(raised.value)
