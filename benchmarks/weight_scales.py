"""What do scales for groups of columns win over one a row? `python -m benchmarks.weight_scales [--model M]`.

The model is pruned by magnitude. Its dense layers then round in PyTorch as the kernels with 8 bits do: weights to 255 steps of
the largest value of a row, or of a group of a row's columns; x exactly, and by its rows. Printed is the relative L2 of the output
to the pruned model's. Nothing is timed.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import tvm_balanced as tb
from benchmarks.subjects import SUBJECTS
from tvm_balanced.schedules.layouts.rounded_weight import LARGEST
from tvm_balanced.schedules.tir.rounded_rows import SMALLEST, STEPS

PATTERNS, GROUPS, BATCH = ("dense", "8:16", "4:16", "2:16"), (None, 128, 64, 16), 16


def rounded_weight(weight: torch.Tensor, group: int | None) -> torch.Tensor:
    """Return a weight (N, K) rounded to 8 bits, with a scale for each `group` columns of a row, None for whole rows."""
    parts = weight.split(group or weight.shape[1], dim=1)
    return torch.cat([_on_steps(part, part.abs().amax(1, keepdim=True) / LARGEST) for part in parts], 1)


def _on_steps(values: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    return torch.where(step > 0, (values / step).round() * step, torch.zeros(()))


def rounded_rows(x: torch.Tensor) -> torch.Tensor:
    """Return x (..., K) rounded to 254 steps from the smallest value of a row to the largest, 0 among them."""
    high, low = x.amax(-1, keepdim=True).clamp(min=0), x.amin(-1, keepdim=True).clamp(max=0)
    step = ((high - low) / STEPS).clamp(min=SMALLEST)
    zero = (-low / step).round()
    return ((x / step + zero).round().clamp(0, STEPS) - zero) * step


@contextmanager
def rounding(model: nn.Module, group: int | None, weights: bool, rows: bool) -> Iterator[None]:
    """Let the dense layers of a model round their weights, their x, or both."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    exact = [layer.weight.data for layer in layers]
    hooks = [layer.register_forward_pre_hook(lambda _, args: (rounded_rows(args[0]), *args[1:])) for layer in layers if rows]
    for layer in layers if weights else []:
        layer.weight.data = rounded_weight(layer.weight.data, group)
    yield
    for layer, weight in zip(layers, exact, strict=True):
        layer.weight.data = weight
    for hook in hooks:
        hook.remove()


def main() -> None:
    """Print a table: a row for each pattern and what is rounded, a column for each length of a group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SUBJECTS, default="minilm")
    subject = SUBJECTS[parser.parse_args().model]
    table = Table("pattern", "rounded", *("a row" if group is None else str(group) for group in GROUPS))
    inputs = subject.inputs(0, BATCH)
    with torch.inference_mode():
        for pattern in PATTERNS:
            model = subject.make().eval()
            if pattern != "dense":
                tb.prune(model, pattern, include=[subject.include])
            want = model(*inputs)
            for what, rows in (("weights", False), ("weights and x", True)):
                cells = []
                for group in GROUPS:
                    with rounding(model, group, True, rows):
                        cells.append(f"{float((model(*inputs) - want).norm() / want.norm()):.4f}")
                table.add_row(pattern, what, *cells)
            with rounding(model, None, False, True):
                table.add_row(
                    pattern, "x", f"{float((model(*inputs) - want).norm() / want.norm()):.4f}", *[""] * (len(GROUPS) - 1)
                )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
