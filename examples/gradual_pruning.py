"""A training loop that prunes as it goes: the loss recovers between steps of pruning, and the result compiles."""

import torch
from torch import nn

import tvm_balanced as tb

STEPS = 300


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pruning = tb.GradualPruning(model, optimizer, "2:16", steps=STEPS // 2, warmup=STEPS // 6, exclude=["2"])
    target = torch.randn(64)
    for step in range(STEPS):
        x = torch.randn(128, 64)
        loss = nn.functional.mse_loss(model(x)[:, 0], torch.tanh(x @ target / 8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # pruning watches it, and holds what is pruned at zero
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss:.4f}, {pruning.sparsity:.1%} zeros")
    assert pruning.is_done
    pruning.close()
    x = torch.randn(8, 64)
    module = tb.compile(model.eval(), (x,))
    print(module.report.title)
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)
    print("trained, pruned to 2:16, compiled: right")


if __name__ == "__main__":
    main()
