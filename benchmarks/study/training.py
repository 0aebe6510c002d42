"""Small models, trained dense, then pruned while they are trained further: what the structure of the zeros costs."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

import tvm_balanced as tb
from benchmarks.study.debian import FOLDER
from tvm_balanced.core.files import new_file
from tvm_balanced.frontend.inference import inference

RISE = 20  # steps in which the learning rate rises
PRUNING = 0.5  # share of the fine-tuning's steps in which what is kept falls; in the rest it stays
EVERY = 5  # steps from one pruning to the next
LARGEST_GRADIENT = 1.0


class Task(Protocol):
    """A model, its data and how it is judged; steps are those of the optimizer.

    `include` names the layers that are pruned, `rate` is AdamW's learning rate at most, of the dense training; fine-tuning has a
    third of it.
    """

    name: str
    metric: str
    include: tuple[str, ...]
    dense_steps: int
    tune_steps: int
    rate: float

    def model(self) -> nn.Module:
        """Return a new model; its weights are drawn by torch's generator."""

    def batches(self, seed: int) -> Iterator[Any]:
        """Yield training data without end."""

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return what is minimised."""

    def measure(self, model: nn.Module) -> float:
        """Return the metric on held-out data; less is better. The model is in eval mode, without gradients."""


def shuffled(count: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield the places of batches of so many out of `count` without end: all in a new order, what is left of one is left out."""
    while True:
        yield from (part for part in torch.randperm(count, generator=generator).split(size) if len(part) == size)


def train(task: Task, model: nn.Module, steps: int, rate: float, seed: int, pattern: str | None = None) -> None:
    """Train a model in place; with a pattern it is pruned to it gradually, by magnitude, in the first half of the steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, fused=True)
    if pattern is not None:
        pruning = max(1, int(steps * PRUNING))
        tb.GradualPruning(model, optimizer, pattern, pruning, every=EVERY, include=task.include)
    batches = task.batches(seed)
    model.train()
    for step in range(steps):
        loss = task.loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        share = min(1.0, (step + 1) / RISE) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        optimizer.step()


def dense(task: Task, seed: int, folder: Path = FOLDER) -> nn.Module:
    """Return the dense model of a seed, trained at the first call."""
    torch.manual_seed(seed)
    model = task.model()
    path = folder / f"{task.name.replace(' ', '-')}-{task.dense_steps}-{seed}.pt"
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model
    train(task, model, task.dense_steps, task.rate, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as written:
        torch.save(model.state_dict(), written)
    return model


def tuned(task: Task, model: nn.Module, seed: int, pattern: str | None) -> float:
    """Fine-tune a dense model in place, pruned to a pattern or dense, and return its metric."""
    train(task, model, task.tune_steps, task.rate / 3, 1000 + seed, pattern)
    with inference(model):
        return task.measure(model)


def sparsity(task: Task, model: nn.Module) -> float:
    """Return the share of zeros in the weights that a task prunes."""
    from tvm_balanced.frontend.pruning.weights import prunable_weights

    weights = [weight.parameter for weight in prunable_weights(model, task.include)]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
