"""Folders of transformers, as save_pretrained writes them, and as users damage them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import tvm_balanced as tb
from tvm_balanced.cli.app import run
from tvm_balanced.errors import ArtifactError, ModelError
from tvm_balanced.frontend.huggingface import examples_of, import_huggingface, load_huggingface, save_huggingface

TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = TINY | {"vocab_size": 100}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *"the quick brown fox jumps over lazy dog and nobody knows why it does so every morning".split(),
]


def bert():
    return transformers.BertForSequenceClassification(transformers.BertConfig(**TEXT, max_position_embeddings=20))


def vit():
    return transformers.ViTForImageClassification(transformers.ViTConfig(**TINY, image_size=16, patch_size=8))


def t5():
    config = transformers.T5Config(d_model=32, d_ff=64, d_kv=8, num_layers=1, num_heads=2, vocab_size=100)
    return transformers.T5ForConditionalGeneration(config)


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT, num_key_value_heads=1))


def wav2vec2():
    sizes = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    return transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**TINY, vocab_size=30, **sizes))


def whisper():
    sizes = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in (("layers", 1), ("ffn_dim", 64))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.WhisperConfig(d_model=32, vocab_size=100, max_source_positions=50, **sizes, **heads, **ids)
    return transformers.WhisperForConditionalGeneration(config)


def clip():
    text = {**TEXT, "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config={**TINY, "image_size": 16, "patch_size": 8})
    return transformers.CLIPModel(config)


def saved(folder, make, **options):
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(folder, **options)
    return model


INPUTS = {
    bert: {"input_ids": (1, 18), "attention_mask": (1, 18)},
    vit: {"pixel_values": (1, 3, 16, 16)},
    t5: {"input_ids": (1, 128), "attention_mask": (1, 128), "decoder_input_ids": (1, 16)},
    llama: {"input_ids": (1, 128), "attention_mask": (1, 128)},
    wav2vec2: {"input_values": (1, 16000)},
    whisper: {"input_features": (1, 80, 100), "decoder_input_ids": (1, 16)},
    clip: {"input_ids": (1, 18), "attention_mask": (1, 18), "pixel_values": (1, 3, 16, 16)},
}


@pytest.mark.grid
@pytest.mark.parametrize("make", INPUTS, ids=lambda make: make.__name__)
def test_models_of_every_kind_are_read_with_examples_that_they_take(tmp_path, make):
    model = saved(tmp_path, make)
    loaded, found = load_huggingface(tmp_path)
    examples, _ = examples_of(loaded, tmp_path)
    assert found == []
    assert {name: tuple(tensor.shape) for name, tensor in examples.items()} == INPUTS[make]
    with torch.no_grad():
        want, got = model(**examples), loaded(**examples)
    torch.testing.assert_close(got.to_tuple()[0], want.to_tuple()[0])
    assert "past_key_values" not in got


@pytest.mark.slow
def test_a_folder_compiles_and_is_called_as_the_model_is(tmp_path, capfd):
    model = saved(tmp_path / "hf", bert)
    tb.prune(model, "2:16")
    model.save_pretrained(tmp_path / "hf")
    options = ["--batch", "2", "--length", "12", "--dynamic-batch", "--threads", "1"]
    assert run(["compile", str(tmp_path / "hf"), "-o", str(tmp_path / "m.tb"), *options]) == 0
    said = capfd.readouterr()
    assert "a folder of Hugging Face transformers, BertForSequenceClassification" in said.err.replace("\n", " ")
    module = tb.load(tmp_path / "m.tb")
    ids, mask = torch.randint(4, 100, (3, 12)), torch.ones(3, 12, dtype=torch.int64)
    mask[1, 7:] = 0
    want = model(ids, attention_mask=mask)
    got = module(ids, attention_mask=mask, labels=None)
    assert type(got) is type(want)
    torch.testing.assert_close(got.logits, want.logits, rtol=1e-4, atol=1e-5)
    arrays = module(ids.numpy(), mask.numpy())
    assert list(arrays) == ["logits"]
    np.testing.assert_allclose(arrays["logits"], want.logits.detach(), rtol=1e-4, atol=1e-5)


def test_a_pruned_folder_keeps_weight_norm_and_what_prepares_inputs(tmp_path, capfd):
    """Its positional convolution has weight norm, which is left as it is."""
    source, pruned = tmp_path / "hf", tmp_path / "pruned"
    model = saved(source, wav2vec2)
    (source / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    (source / "generation_config.json").write_text('{"max_length": 77}')
    capfd.readouterr()
    assert run(["prune", str(source), "2:16", "-o", str(pruned)]) == 0
    said = capfd.readouterr()
    assert "wav2vec2.encoder.pos_conv_embed.conv.weight" in said.out
    assert "|" not in said.err  # a progress bar of transformers
    for name in ("preprocessor_config.json", "generation_config.json"):
        assert (pruned / name).read_text() == (source / name).read_text()
    assert run(["compile", str(pruned), "-o", str(tmp_path / "m.tb"), "--threads", "1", "--no-race"]) == 0
    tb.prune(model, "2:16")
    x = torch.randn(1, 16000)
    with torch.inference_mode():
        torch.testing.assert_close(tb.load(tmp_path / "m.tb")(x).logits, model(x).logits, rtol=1e-3, atol=1e-4)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    model = saved(tmp_path / "hf", bert)

    def half(self, folder):
        (Path(folder) / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", half)
    with pytest.raises(KeyboardInterrupt):
        save_huggingface(model, tmp_path / "hf", tmp_path / "new")
    with pytest.raises(ArtifactError, match="choose another place"):
        save_huggingface(model, tmp_path / "hf", tmp_path / "hf")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_a_tokenizer_of_the_folder_makes_the_ids(tmp_path):
    saved(tmp_path, bert)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    ids = examples_of(load_huggingface(tmp_path)[0], tmp_path, length=8)[0]["input_ids"]
    assert [WORDS[i] for i in ids[0, :4]] == ["[CLS]", "the", "quick", "brown"]
    assert ids.shape == (1, 8)


def test_sharded_and_compressed_checkpoints(tmp_path):
    from safetensors.torch import load_file, save_file

    model = saved(tmp_path, bert, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    x = {"input_ids": torch.arange(4, 12)[None]}
    torch.testing.assert_close(load_huggingface(tmp_path)[0](**x).logits, model(**x).logits)
    other = tmp_path / "int8"
    model.save_pretrained(other)
    state, name = load_file(other / "model.safetensors"), "bert.encoder.layer.0.output.dense"
    state[f"{name}.weight"] = (state[f"{name}.weight"] * 100).round().to(torch.int8)
    state[f"{name}.weight_scale"] = torch.full((32, 1), 0.25)
    save_file(state, other / "model.safetensors", {"format": "pt"})
    config = json.loads((other / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {}}
    (other / "config.json").write_text(json.dumps(config))
    loaded, found = load_huggingface(other)
    assert torch.equal(loaded.get_submodule(name).weight, state[f"{name}.weight"] * 0.25)
    assert found == ["multiplied 1 quantised weights by their scales"]


def alter(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def lack(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["classifier.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})


DAMAGE = {
    "code of its own": (lambda f: alter(f, architectures=["Mine"], auto_map={"AutoModel": "mine.Mine"}), "of the class 'Mine'"),
    "no class of a model": (lambda f: alter(f, architectures=["pipeline"]), "of the class 'pipeline'"),
    "no such kind": (lambda f: alter(f, model_type="mine"), "that transformers does not take"),
    "another quantisation": (
        lambda f: alter(f, quantization_config={"quant_method": "gptq"}),
        "is quantised by 'gptq'",
    ),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "that transformers does not take"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "it has no weights under a name"),
    "an adapter alone": (
        lambda f: (
            (f / "model.safetensors").rename(f / "adapter_model.safetensors"),
            (f / "adapter_config.json").write_text("{}"),
        ),
        r"is a folder of an adapter, .*; load it with PEFT, call merge_and_unload\(\), and write",
    ),
    "truncated weights": (lambda f: os.truncate(f / "model.safetensors", 5000), "not a readable weight file"),
    "a weight that is missing": (lack, "no weight for classifier.weight"),
    "another size": (lambda f: alter(f, hidden_size=64), "do not fit BertForSequenceClassification"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_gets_one_sentence_and_leaves_nothing(tmp_path, case, capfd):
    damage, message = DAMAGE[case]
    saved(tmp_path / "hf", bert)
    (tmp_path / "hf" / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    damage(tmp_path / "hf")
    with pytest.raises(ModelError, match=message) as error:
        import_huggingface(tmp_path / "hf")
    assert "\n" not in str(error.value)
    capfd.readouterr()
    assert run(["compile", str(tmp_path / "hf"), "-o", str(tmp_path / "m.tb")]) in (1, 2)
    assert capfd.readouterr().err.count("error: ") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]


def test_a_config_does_not_choose_code_of_the_hub(tmp_path):
    saved(tmp_path, bert)
    alter(tmp_path, attn_implementation="somebody/attention", _attn_implementation="somebody/attention")
    loaded, _ = load_huggingface(tmp_path)
    assert loaded.config._attn_implementation in ("eager", "sdpa")
