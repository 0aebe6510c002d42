"""Weights in one file and the masks of a pruning run in another, as many pruning scripts leave them."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import tvm_balanced as tb


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10)).eval()
    mask = (torch.arange(256) % 16 < 2).expand(512, 256).float()
    x = torch.randn(8, 256)
    with tempfile.TemporaryDirectory() as folder:
        weights, masks = Path(folder) / "weights.safetensors", Path(folder) / "masks.pt"
        save_file(model.state_dict(), weights)
        torch.save({"0.weight_mask": mask}, masks)
        module = tb.compile(model, (x,), weights=weights, masks=masks)  # the model itself stays as it is
    print(module.report)
    want = model[2](torch.relu(nn.functional.linear(x, model[0].weight * mask, model[0].bias)))
    torch.testing.assert_close(module(x), want, rtol=1e-4, atol=1e-5)
    print("masked weights: right")


if __name__ == "__main__":
    main()
