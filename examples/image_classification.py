"""A convolutional network for images, pruned in its convolutions, one module for every batch size."""

import torch
from transformers import ResNetConfig, ResNetForImageClassification

import tvm_balanced as tb


def main() -> None:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=32, hidden_sizes=[64, 128], depths=[1, 1], layer_type="basic", num_labels=10)
    model = ResNetForImageClassification(config).eval()  # or from_pretrained
    print(tb.prune(model, "4:16", exclude=["*embedder*", "classifier*"]))  # three channels are too few for blocks
    images = torch.randn(2, 3, 64, 64)
    batch = torch.export.Dim("batch", max=32)
    module = tb.compile(model, (images,), dynamic_shapes=({0: batch},))
    print(module.report.title)
    for size in (1, 5):
        images = torch.randn(size, 3, 64, 64)
        torch.testing.assert_close(module(images).logits, model(images).logits, rtol=1e-4, atol=1e-4)
        print(f"{size} images: right")


if __name__ == "__main__":
    main()
