"""sentence-transformers as its users call it, with a compiled module inside; a compiled encoder alone is in examples/."""

import numpy as np
import pytest
import torch
import transformers

import tvm_balanced as tb

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"the a cat dog train leaves sleeps runs at noon on roof".split()]
TEXTS = ["the cat sleeps on the roof", "a train leaves at noon", "dog"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    package = pytest.importorskip("sentence_transformers")  # not above: it loads SciPy and scikit-learn, in each process of tests
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128}
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=len(WORDS))).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    model = package.SentenceTransformer(str(folder), device="cpu").eval()
    tb.prune(model, "4:16")
    return model


def test_encode_with_the_whole_model_compiled(sentences, monkeypatch):
    want = sentences.encode(TEXTS)
    features = sentences.preprocess(TEXTS)
    module = tb.compile(sentences, (features,), threads=1)
    assert any(layer.verdict == "sparse" for layer in module.report.layers)
    monkeypatch.setattr(sentences, "forward", lambda features, **_: module(features))
    np.testing.assert_allclose(sentences.encode(TEXTS), want, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        module(features)["sentence_embedding"].detach(), want, rtol=1e-3, atol=1e-5
    )  # as encode changed it
