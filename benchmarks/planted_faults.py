"""Which faults does the check of `tb.compile` catch? `python -m benchmarks.planted_faults [--only 'encoder*']`.

Small models of PyTorch stand in for compiled ones, with one fault of a strength from 0 to 1 mixed into them. Printed, for each
model and fault: how far the whole fault moves an output, relative to its largest value or to 1; and how far the weakest one does
that is refused, with the tolerance alone and beside roundings drawn anew. "-" is one that passes whole.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from tvm_balanced.api import import_model
from tvm_balanced.compiler.compare import EXAMPLES, compare_entry
from tvm_balanced.compiler.drawn_inputs import drawn_inputs
from tvm_balanced.core.comparison import difference
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction
from tvm_balanced.frontend.arrays import to_numpy, to_torch

FAULTS = {
    "bias": "the bias of a layer is left out",
    "gelu": "GELU by tanh in the place of erf",
    "epsilon": "the epsilon of every norm is ten times too large",
    "mask": "the mask of attention is one place off",
}
STEPS = 8  # halvings of the logarithm of a strength


class Planted(nn.Module):
    """What a fault is mixed into: `strength` of FAULTS by name, 0 for all others."""

    def __init__(self) -> None:
        super().__init__()
        self.strength: dict[str, float] = {}

    def mixed(self, fault: str, right: Tensor, wrong: Callable[[], Tensor]) -> Tensor:
        """Return the right value, or as much of the wrong one as is planted."""
        strength = self.strength.get(fault, 0.0)
        return right + strength * (wrong() - right) if strength else right


class Dense(Planted):
    """A dense layer whose bias may be left out, if it is `faulty`."""

    def __init__(self, inputs: int, outputs: int, faulty: bool = False) -> None:
        super().__init__()
        self.layer, self.faulty = nn.Linear(inputs, outputs), faulty

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.mixed("bias", y, lambda: y - self.layer.bias) if self.faulty else y


class Gelu(Planted):
    """GELU by erf, or by tanh."""

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed("gelu", functional.gelu(x), lambda: functional.gelu(x, approximate="tanh"))


class Norm(Planted):
    """A layer norm, or without means and biases, as language models have it."""

    def __init__(self, width: int, means: bool = True) -> None:
        super().__init__()
        self.weight, self.means = nn.Parameter(torch.ones(width)), means

    def forward(self, x: Tensor) -> Tensor:
        epsilon = 1e-5 * (1 + 9 * self.strength.get("epsilon", 0.0))
        if self.means:
            return functional.layer_norm(x, x.shape[-1:], self.weight, None, epsilon)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * self.weight


class Attention(Planted):
    """Attention to what a mask shows, or to what is one place off."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.joined, self.out, self.heads = Dense(width, 3 * width), Dense(width, width), heads

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        q, k, v = self.joined(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])

        def attend(mask: Tensor) -> Tensor:
            y: Tensor = scores.masked_fill(~mask, -6e4).softmax(-1) @ v
            return y

        def one_off() -> Tensor:
            return attend(torch.cat([torch.ones_like(seen[..., :1]), seen[..., :-1]], -1))

        return self.out(self.mixed("mask", attend(seen), one_off).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Ids and a mask of padding to logits."""

    def __init__(self, layers: int, causal: bool) -> None:
        super().__init__()
        self.table, self.causal = nn.Embedding(200, 64), causal
        self.attentions = nn.ModuleList(Attention(64, 4) for _ in range(layers))
        self.norms = nn.ModuleList(Norm(64, not causal) for _ in range(2 * layers + 1))
        self.wide = nn.ModuleList(nn.Sequential(Dense(64, 256, True), Gelu(), Dense(256, 64)) for _ in range(layers))
        self.head = Dense(64, 50)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        seen = mask.bool()[:, None, None]
        if self.causal:
            seen = seen & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        x = self.table(ids)
        for place, (attention, wide) in enumerate(zip(self.attentions, self.wide, strict=True)):
            x = x + attention(self.norms[2 * place](x), seen)
            x = x + wide(self.norms[2 * place + 1](x))
        return self.head(self.norms[-1](x))  # type: ignore[no-any-return]


class Images(nn.Module):
    """Two convolutions with a residual, and the mean of all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.norm, self.act, self.head = nn.BatchNorm2d(32), Gelu(), Dense(32, 10, True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        return self.head((x + self.act(self.norm(self.second(x)))).mean((2, 3)))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """The last state of two LSTMs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.wide, self.act = nn.LSTM(64, 64, 2, batch_first=True), Dense(32, 64, True), Gelu()
        self.norm, self.head = Norm(64), Dense(64, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layer(self.act(self.wide(x)))[0][:, -1]))  # type: ignore[no-any-return]


def _mlp() -> nn.Module:
    return nn.Sequential(Dense(64, 256), Norm(256), Gelu(), Dense(256, 256, True), Norm(256), Gelu(), Dense(256, 10))


def _tokens() -> tuple[Tensor, ...]:
    return torch.randint(0, 200, (2, 16)), torch.ones(2, 16, dtype=torch.int64)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "MLP": (_mlp, lambda: (torch.randn(8, 64),)),
    "convolutions": (Images, lambda: (torch.randn(2, 3, 16, 16),)),
    "LSTM": (Recurrent, lambda: (torch.randn(4, 12, 32),)),
    "encoder, 2 layers": (lambda: Transformer(2, False), _tokens),
    "decoder, 12 layers": (lambda: Transformer(12, True), _tokens),
    "MLP, bfloat16": (lambda: _mlp().bfloat16(), lambda: (torch.randn(8, 64).bfloat16(),)),
    "encoder, 2 layers, bfloat16": (lambda: Transformer(2, False).bfloat16(), _tokens),
    "decoder, 4 layers, float16": (lambda: Transformer(4, True).half(), _tokens),
}
Case = tuple[str, list[Array]]


class _AsCompiled:
    """A model of PyTorch in the place of a compiled function."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def flat(self, *arrays: Array) -> tuple[Array, ...]:
        with torch.no_grad():
            return (to_numpy(self.model(*(to_torch(np.array(array)) for array in arrays))),)


def _refused(model: nn.Module, entry: ImportedFunction, cases: list[Case]) -> bool:
    compiled: Any = _AsCompiled(model)
    return not all(compare_entry(compiled, entry, *case).ok for case in cases)


def _moved(model: nn.Module, entry: ImportedFunction, cases: list[Case]) -> float:
    """Return how far a fault moves the output, relative to its largest value or to 1."""
    pairs = ((entry.reference(inputs)[0], _AsCompiled(model).flat(*inputs)[0]) for _, inputs in cases)
    return max(error / scale for error, scale in (difference(want, got) for want, got in pairs))


def _weakest(model: nn.Module, fault: str, entry: ImportedFunction, cases: list[Case]) -> str:
    """Return how far the weakest fault that is refused moves the output, as text."""
    _plant(model, fault, 1.0)
    if not _refused(model, entry, cases):
        return "-"
    low, high = 1e-5, 1.0
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        _plant(model, fault, middle)
        low, high = (low, middle) if _refused(model, entry, cases) else (middle, high)
    _plant(model, fault, high)
    return f"{_moved(model, entry, cases):.1e}"


def _plant(model: nn.Module, fault: str, strength: float) -> None:
    for part in model.modules():
        if isinstance(part, Planted):
            part.strength = {fault: strength} if strength else {}


def rows(name: str) -> Iterator[tuple[str, ...]]:
    """Yield (fault, what it moves, the weakest that the tolerance refuses, and that the whole check does) for a model."""
    make, draw = MODELS[name]
    torch.manual_seed(0)
    model, args = make().eval(), draw()
    entry: Any = import_model(model, args).main
    cases = [(EXAMPLES, entry.examples), *drawn_inputs(entry)]
    for fault, what in FAULTS.items():
        _plant(model, fault, 1.0)
        moved = _moved(model, entry, cases)
        if moved:
            weakest = [_weakest(model, fault, one, cases) for one in (replace(entry, noisy=None), entry)]
            yield what, f"{moved:.1e}", *weakest
        _plant(model, fault, 0.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="models, by a pattern")
    only = parser.parse_args().only
    table = Table("model", "fault", "the whole fault", "weakest: tolerance alone", "weakest: the check")
    for name in MODELS:
        if fnmatchcase(name, only):
            for row in rows(name):
                table.add_row(name, *row)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
