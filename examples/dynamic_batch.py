"""One compiled module for every batch size."""

import torch
from torch import nn

import tvm_balanced as tb


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 10)).eval()
    tb.prune(model, "4:16", exclude=["2"])  # the classifier stays dense
    batch = torch.export.Dim("batch")
    module = tb.compile(model, (torch.randn(8, 256),), dynamic_shapes=({0: batch},))
    print(module.report)
    for size in (1, 3, 64):
        x = torch.randn(size, 256)
        torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)
        print(f"batch {size}: right")


if __name__ == "__main__":
    main()
