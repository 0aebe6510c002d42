"""Text files as calibration data, and folders of transformers on the command line of pruning."""

import json
import os

import pytest
import torch
import transformers

from tvm_balanced.cli.app import run
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.huggingface import load_huggingface
from tvm_balanced.frontend.pruning.calibration_files import load_batches
from tvm_balanced.frontend.pruning.texts import text_batches

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"the quick brown fox jumps over lazy dog".split()]
LINES = ["the quick fox", "", "  the lazy dog jumps over the brown fox  ", "dog", *["the fox jumps"] * 40]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "model"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 20}
    transformers.BertForSequenceClassification(transformers.BertConfig(**sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    (folder.parent / "texts.txt").write_text("\n".join(LINES))
    return folder


def test_lines_of_similar_length_come_together(made):
    batches = text_batches(made.parent / "texts.txt", made)
    assert [len(batch["input_ids"]) for batch in batches] == [32, 11]
    assert [WORDS[i] for i in batches[0]["input_ids"][0]] == ["[CLS]", "dog", "[SEP]", "[PAD]", "[PAD]"]
    assert batches[0]["attention_mask"][0].tolist() == [1, 1, 1, 0, 0]
    assert batches[1]["input_ids"].shape[1] == 10  # the longest line
    model, _ = load_huggingface(made)
    assert model(**batches[1]).logits.shape == (11, 2)


def test_batches_of_one_shape_for_a_model_that_takes_no_other(made):
    batches = text_batches(made.parent / "texts.txt", made, (20, 6))
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(20, 6)] * 2
    with pytest.raises(InputError, match="has 43 lines with text; give at least 50"):
        text_batches(made.parent / "texts.txt", made, (50, 6))


def test_what_a_user_can_get_wrong(made, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    for name, why in (("empty", "no line with text"), ("bytes", "as text in UTF-8"), ("none", "cannot be read")):
        with pytest.raises(InputError, match=why):
            text_batches(tmp_path / f"{name}.txt", made)
    with pytest.raises(InputError, match="give that folder as the model"):
        load_batches(str(made.parent / "texts.txt"))
    (tmp_path / "config.json").write_bytes((made / "config.json").read_bytes())
    with pytest.raises(ModelError, match="has no tokenizer"):
        text_batches(made.parent / "texts.txt", tmp_path)
    vision = transformers.ViTConfig(architectures=["ViTModel"])
    vision.save_pretrained(tmp_path)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    with pytest.raises(ModelError, match="takes no text"):
        text_batches(made.parent / "texts.txt", tmp_path)


def ok(capfd, *arguments):
    assert run([str(argument) for argument in arguments]) == 0, capfd.readouterr().err
    return capfd.readouterr().out


def test_a_folder_is_pruned_by_its_text_and_distilled(made, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = made.parent / "texts.txt"
    assert "by sparsegpt" in ok(capfd, "prune", made, "4:16", "--calibration", texts, "--include", "*encoder*", "-o", "pruned")
    ran = ("distill", made, "pruned", "--batches", texts, "--steps", "3", "--precision", "bfloat16", "-o", "distilled")
    assert json.loads(ok(capfd, *ran, "--json"))["steps"] == 3
    model, _ = load_huggingface(tmp_path / "distilled")
    weight = model.bert.encoder.layer[1].output.dense.weight
    assert ((weight.reshape(-1, 16) != 0).sum(1) == 4).all()
    assert text_batches(texts, tmp_path / "distilled")  # the tokenizer came along
    ok(capfd, "allocate", made, "--calibration", texts, "--sparsity", "0.7", "-o", "patterns.json")
    ok(capfd, "prune", made, "patterns.json", "-o", "p.safetensors")
    assert run(["prune", str(made), "4:16", "-o", "pruned"]) == 2  # the folder is there
    assert "not an empty directory" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif("TVM_BALANCED_NIGHTLY" not in os.environ, reason="15 seconds: make nightly")
def test_a_folder_is_compiled_in_8_bits_by_its_text(made, tmp_path, capfd):
    options = ["--precision", "int8", "--calibration", str(made.parent / "texts.txt"), "--max-loss", "0.5", "--no-race"]
    ok(capfd, "compile", made, "--length", "12", "--threads", "1", *options, "-o", tmp_path / "m.tb", "--json")
