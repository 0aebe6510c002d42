"""The Python of docs/usage.md and docs/pruning.md runs in order, as a reader would run it who has a model."""

import re
from pathlib import Path

import pytest
import torch
from support.readme import READER, snippets

DOCS = Path(__file__).resolve().parent.parent / "docs"
SHORTER = {"minutes": 0.02, "max_length": 120, "max_source": 16}
TRAINING = """
for (batch,) in batches * 276:
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()
"""


def run(page, names, loop=""):
    """Run each snippet of a page, with smaller numbers and a loop in place of dots; return the names that it leaves behind."""
    for snippet in snippets((DOCS / page).read_text()):
        code = re.sub(r"\b(minutes|max_length|max_source)=\d+", lambda match: f"{match[1]}={SHORTER[match[1]]}", snippet)
        code = re.sub(r"^\.\.\. .*$", loop, code, flags=re.MULTILINE)
        exec(code, names)  # the project's own page
        yield names


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """What a reader has: a model, x and batches; files land in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = {}
    exec(READER + "import tvm_balanced as tb", names)
    return names


@pytest.mark.nightly
@pytest.mark.slow
def test_usage(reader):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
    llama = transformers.LlamaConfig(**sizes, max_position_embeddings=1024, eos_token_id=None, pad_token_id=0)
    t5 = transformers.T5Config(vocab_size=64, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=0)
    reader |= {
        "model_or_folder": transformers.LlamaForCausalLM(llama).eval(),
        "t5_or_folder": transformers.T5ForConditionalGeneration(t5).eval(),
        "input_ids": torch.randint(3, 64, (4, 8)),
        "attention_mask": torch.ones(4, 8, dtype=torch.int64),
    }
    for _ in run("usage.md", reader):
        if "fast" not in reader:  # each way to compile gives the model's answers; those under torch.compile are last
            torch.testing.assert_close(reader["module"](reader["x"]), reader["model"](reader["x"]), rtol=0.02, atol=0.01)
    torch.testing.assert_close(reader["fast"](reader["x"]), reader["model"](reader["x"]), rtol=1e-4, atol=1e-5)
    assert reader["text"].shape == (4, 108)
    assert reader["answer"].shape[0] == 4


@pytest.mark.slow
def test_pruning(reader):
    """Each snippet begins with a dense model, and leaves 4 of every 16 weights or fewer, or what it allocated."""
    pytest.importorskip("transformers")
    reader |= {
        "copy": __import__("copy"),
        "training_batches": reader["batches"],
        "Trainer": lambda *_, callbacks, **__: callbacks,
    }
    reader |= {"arguments": None, "texts": []}
    dense = {name: value.clone() for name, value in reader["model"].state_dict().items()}
    zeros = []
    reader["optimizer"] = torch.optim.SGD(reader["model"].parameters(), 0.01)
    for names in run("pruning.md", reader, TRAINING):
        weights = [p for p in names["model"].parameters() if p.dim() == 2]
        zeros.append(sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights))
        names["model"].load_state_dict(dense)
    assert zeros[:2] == [0.75, 0.75]
    assert zeros[2] == 0  # the Trainer has not been run
    assert zeros[3] == 0.75
    assert zeros[4] > 0.5
