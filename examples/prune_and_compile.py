"""Prune a small network, compile it, check it, save it, load it: the whole way in twenty lines."""

import tempfile
from pathlib import Path

import torch
from torch import nn

import tvm_balanced as tb


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512)).eval()
    x = torch.randn(32, 512)

    print(tb.prune(model, "2:16"))
    module = tb.compile(model, (x,))
    print(module.report)
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)

    with tempfile.TemporaryDirectory() as folder:
        module.save(Path(folder) / "mlp.tb")
        loaded = tb.load(Path(folder) / "mlp.tb")
        assert torch.equal(loaded(x), module(x))
    print("saved, loaded, and right")


if __name__ == "__main__":
    main()
