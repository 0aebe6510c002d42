"""An LSTM for whole sequences of any length, and for one frame at a time, in one module that shares its weights."""

import torch
from torch import nn

import tvm_balanced as tb


class Tagger(nn.Module):
    """Tags every frame of a sequence (steps, batch, 64); the state goes in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(64, 128), nn.Linear(128, 16)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> dict[str, torch.Tensor]:
        y, (h, c) = self.rnn(x, (h, c))
        return {"tags": self.out(y), "h_n": h, "c_n": c}


def main() -> None:
    torch.manual_seed(0)
    model = Tagger().eval()
    tb.prune(model, "4:16")
    frames, h, c = torch.randn(20, 1, 64), torch.zeros(1, 1, 128), torch.zeros(1, 1, 128)
    steps = torch.export.Dim("steps")
    module = tb.compile(
        model,
        entry_points={
            "whole": tb.EntryPoint((frames, h, c), dynamic_shapes=({0: steps}, None, None)),
            "step": tb.EntryPoint((frames[:1], h, c), donate={"h": "h_n", "c": "c_n"}),
        },
    )
    print(module.report)
    whole = module["whole"](frames, torch.zeros_like(h), torch.zeros_like(c))
    tags = [module["step"](frame[None], h, c)["tags"] for frame in frames]  # h and c hold the state after each call
    torch.testing.assert_close(torch.cat(tags), whole["tags"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(h, whole["h_n"], rtol=1e-4, atol=1e-5)
    print(f"{len(frames)} frames, one at a time: right")


if __name__ == "__main__":
    main()
