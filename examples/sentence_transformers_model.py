"""A compiled encoder inside a SentenceTransformer: `encode` and everything that uses it stay as they are."""

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

import tvm_balanced as tb
from tvm_balanced.demo.minilm import model_directory

TEXTS = ["A cat sleeps on the warm roof.", "The train to the coast leaves at noon.", "Rain?", "Two dogs run along the beach."]


def main() -> None:
    sentences = SentenceTransformer(str(model_directory()), device="cpu").eval()  # all-MiniLM-L6-v2
    encoder = sentences[0].model
    tb.prune(encoder, "4:16")
    want = sentences.encode(TEXTS)

    features = sentences[0].preprocess(TEXTS[:2])
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in features]
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", min=2, max=256)
    shapes = {name: {0: batch, 1: length} for name in names}
    module = tb.compile(encoder, (), {name: features[name] for name in names}, dynamic_shapes=shapes)
    print(module.report.title)

    encoder.forward = lambda return_dict, **given: module(**given)  # a module always returns what the model does
    for size in (1, 3, len(TEXTS)):  # batches of any size, sorted by their lengths
        got = sentences.encode(TEXTS, batch_size=size)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)
    print(f"{len(TEXTS)} embeddings of {got.shape[1]} numbers: right")


if __name__ == "__main__":
    main()
