"""A folder of Hugging Face transformers, as save_pretrained writes it, compiled as it is."""

import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification

import tvm_balanced as tb


def main() -> None:
    torch.manual_seed(0)
    config = BertConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=256, vocab_size=1000)
    model = BertForSequenceClassification(config).eval()
    tb.prune(model, "4:16")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)  # or what a pruning tool left: shards, compressed-tensors
        module = tb.compile(folder)  # tvm-balanced compile FOLDER -o model.tb does the same
    ids = torch.randint(0, 1000, (1, 128))
    got = module(ids, attention_mask=torch.ones_like(ids))  # as the model itself is called
    torch.testing.assert_close(got.logits, model(ids).logits, rtol=1e-4, atol=1e-5)
    print(f"{type(got).__name__}: right")


if __name__ == "__main__":
    main()
