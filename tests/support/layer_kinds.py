"""Kinds of layers for the matrix of docs/support.md, and the compiler beside torch for many of them at once."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
LIMITS = {torch.float32: 2e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1, torch.float64: 1e-12}  # of the largest value


@dataclass(frozen=True)
class Kind:
    """A kind of layer: how one is made, and the shapes of its inputs, whose first dimension is the batch but for `free`."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    ids: bool = False  # whether inputs are ids of a table
    batch: int = 0  # the dimension that may change


class Tied(nn.Module):
    """A table whose rows are the weights of a linear layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(48, 64), nn.Linear(64, 48, bias=False)
        self.out.weight = self.table.weight

    def forward(self, ids):
        return self.out(self.table(ids))


class Experts(nn.Module):
    """Experts whose weights are one parameter, mixed by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.weight = nn.Linear(64, 4), nn.Parameter(torch.randn(4, 32, 64) / 8)

    def forward(self, x):
        each = torch.einsum("bk,enk->ben", x, self.weight)
        return (self.gate(x).softmax(-1)[..., None] * each).sum(1)


class Own(nn.Module):
    """A weight that is multiplied from the right."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 32) / 8)

    def forward(self, x):
        return x @ self.weight


class First(nn.Module):
    """A module of which only the first result counts."""

    def __init__(self, inner, **options) -> None:
        super().__init__()
        self.inner, self.options = inner, options

    def forward(self, *args):
        return self.inner(*args, **self.options)[0]


class SelfAttention(First):
    """Attention of a tensor to itself."""

    def forward(self, x):
        return super().forward(x, x, x)


ROWS, STEPS, IMAGE = (4, 64), (2, 6, 64), (2, 32, 12, 12)
KINDS = {
    "Linear": Kind(lambda: nn.Linear(64, 48), (ROWS,)),
    "Linear, 3-D x, no bias": Kind(lambda: nn.Linear(64, 48, bias=False), (STEPS,)),
    "Linear and activation": Kind(lambda: nn.Sequential(nn.Linear(64, 48), nn.GELU()), (ROWS,)),
    "x @ parameter": Kind(Own, (ROWS,)),
    "Bilinear": Kind(lambda: nn.Bilinear(32, 32, 16), ((4, 32), (4, 32))),
    "Embedding tied to Linear": Kind(Tied, ((2, 6),), ids=True),
    "EmbeddingBag": Kind(lambda: nn.EmbeddingBag(48, 64, mode="mean"), ((4, 6),), ids=True),
    "experts in one parameter": Kind(Experts, (ROWS,)),
    "Conv1d": Kind(lambda: nn.Conv1d(32, 32, 3, padding=1), ((2, 32, 20),)),
    "Conv2d": Kind(lambda: nn.Conv2d(32, 32, 3, padding=1), (IMAGE,)),
    "Conv2d 1x1": Kind(lambda: nn.Conv2d(32, 48, 1), (IMAGE,)),
    "Conv2d, stride and dilation": Kind(lambda: nn.Conv2d(32, 32, 3, stride=2, dilation=2), (IMAGE,)),
    "Conv2d in groups": Kind(lambda: nn.Conv2d(32, 32, 3, padding=1, groups=2), (IMAGE,)),
    "Conv2d depthwise": Kind(lambda: nn.Conv2d(32, 32, 3, padding=1, groups=32), (IMAGE,)),
    "Conv2d and BatchNorm2d": Kind(lambda: nn.Sequential(nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32), nn.ReLU()), (IMAGE,)),
    "Conv3d": Kind(lambda: nn.Conv3d(16, 16, 3, padding=1), ((2, 16, 5, 6, 6),)),
    "ConvTranspose1d": Kind(lambda: nn.ConvTranspose1d(32, 32, 4, stride=2, padding=1), ((2, 32, 10),)),
    "ConvTranspose2d": Kind(lambda: nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1), ((2, 32, 6, 6),)),
    "LSTM": Kind(lambda: First(nn.LSTM(64, 32, batch_first=True)), (STEPS,)),
    "LSTM, both ways, two layers": Kind(lambda: First(nn.LSTM(64, 32, 2, batch_first=True, bidirectional=True)), (STEPS,)),
    "LSTM, any length": Kind(lambda: First(nn.LSTM(64, 32, batch_first=True)), (STEPS,), batch=1),
    "GRU": Kind(lambda: First(nn.GRU(64, 32, batch_first=True)), (STEPS,)),
    "RNN": Kind(lambda: First(nn.RNN(64, 32, batch_first=True)), (STEPS,)),
    "LSTMCell": Kind(lambda: First(nn.LSTMCell(64, 32)), (ROWS,)),
    "GRUCell": Kind(lambda: nn.GRUCell(64, 32), (ROWS, (4, 32))),
    "MultiheadAttention": Kind(
        lambda: SelfAttention(nn.MultiheadAttention(64, 4, batch_first=True), need_weights=False), (STEPS,)
    ),
    "TransformerEncoderLayer": Kind(lambda: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), (STEPS,)),
    "TransformerDecoderLayer": Kind(lambda: nn.TransformerDecoderLayer(64, 4, 128, batch_first=True), (STEPS, (2, 9, 64))),
    "LayerNorm": Kind(lambda: nn.LayerNorm(64), (STEPS,)),
    "RMSNorm": Kind(lambda: nn.RMSNorm(64), (STEPS,)),
    "GroupNorm": Kind(lambda: nn.GroupNorm(4, 32), (IMAGE,)),
    "InstanceNorm2d": Kind(lambda: nn.InstanceNorm2d(32, affine=True), (IMAGE,)),
    "BatchNorm1d": Kind(lambda: nn.BatchNorm1d(64), (ROWS,)),
    "LocalResponseNorm": Kind(lambda: nn.LocalResponseNorm(3), (IMAGE,)),
    "MaxPool2d": Kind(lambda: nn.MaxPool2d(3, 2, padding=1), (IMAGE,)),
    "AvgPool2d": Kind(lambda: nn.AvgPool2d(2), (IMAGE,)),
    "AdaptiveAvgPool2d": Kind(lambda: nn.AdaptiveAvgPool2d((3, 5)), (IMAGE,)),
    "AdaptiveMaxPool2d": Kind(lambda: nn.AdaptiveMaxPool2d(3), (IMAGE,)),
    "LPPool2d": Kind(lambda: nn.LPPool2d(2, 2), (IMAGE,)),
    "Upsample, nearest": Kind(lambda: nn.Upsample(scale_factor=2), (IMAGE,)),
    "Upsample, bilinear": Kind(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (IMAGE,)),
    "Upsample, bicubic": Kind(lambda: nn.Upsample(scale_factor=2, mode="bicubic"), (IMAGE,)),
    "PixelShuffle": Kind(lambda: nn.PixelShuffle(2), (IMAGE,)),
    "Unfold": Kind(lambda: nn.Unfold(3), ((2, 8, 6, 6),)),
    "Fold": Kind(lambda: nn.Fold((6, 6), 3), ((2, 72, 16),)),
    "ReflectionPad2d": Kind(lambda: nn.ReflectionPad2d(2), (IMAGE,)),
    "ReplicationPad2d": Kind(lambda: nn.ReplicationPad2d(2), (IMAGE,)),
    "CircularPad2d": Kind(lambda: nn.CircularPad2d(2), (IMAGE,)),
    "PReLU": Kind(lambda: nn.PReLU(32), (IMAGE,)),
    "activations": Kind(
        lambda: nn.Sequential(
            nn.SiLU(), nn.Mish(), nn.Softplus(), nn.ELU(), nn.CELU(), nn.SELU(), nn.Hardswish(), nn.Tanhshrink()
        ),
        (ROWS,),
    ),
    "Softmax and LogSoftmax": Kind(lambda: nn.Sequential(nn.Softmax(-1), nn.LogSoftmax(1)), (STEPS,)),
    "GLU": Kind(lambda: nn.GLU(), (ROWS,)),
    "CosineSimilarity": Kind(lambda: nn.CosineSimilarity(), (ROWS, ROWS)),
    "PairwiseDistance": Kind(lambda: nn.PairwiseDistance(), (ROWS, ROWS)),
}


class Together(nn.Module):
    """Layers side by side, each with inputs of its own."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, given):
        return [layer(*inputs) for layer, inputs in zip(self.layers, given, strict=True)]


def layer_of(kind: Kind, dtype: torch.dtype) -> nn.Module:
    """A pruned layer of a kind; without a weight that can be pruned, as it is."""
    torch.manual_seed(0)
    layer = kind.make().to(dtype).eval()
    with contextlib.suppress(tb.TvmBalancedError):  # nothing to prune
        tb.prune(layer, "4:16", embeddings=True)
    return layer


def inputs_of(kind: Kind, dtype: torch.dtype, size: int | None = None) -> tuple[torch.Tensor, ...]:
    """Inputs of a kind; `size` is that of the dimension that may change."""
    torch.manual_seed(1 if size is None else size)
    shapes = [[size if size is not None and d == kind.batch else n for d, n in enumerate(shape)] for shape in kind.shapes]
    return tuple(torch.randint(0, 48, shape) if kind.ids else torch.randn(shape).to(dtype) for shape in shapes)


def outcomes(names: list[str], dtype: torch.dtype, dynamic: bool) -> Iterator[tuple[str, str]]:
    """Yield for each kind (its name, what came of it): "sparse", "dense" or "yes" where it equals torch, else what is wrong.

    What torch itself does not run is no fault of the compiler. What can be imported is compiled together.
    """
    layers = {name: layer_of(KINDS[name], dtype) for name in names}
    good = []
    for name in names:
        why = _refusal(name, layers[name], dtype, dynamic)
        if why is None:
            good.append(name)
        else:
            yield name, why
    yield from _compiled(good, layers, dtype, dynamic)


def _refusal(name: str, layer: nn.Module, dtype: torch.dtype, dynamic: bool) -> str | None:
    """Why a layer cannot be imported, None where it can."""
    given = inputs_of(KINDS[name], dtype)
    try:
        with torch.no_grad():
            layer(*given)
    except Exception as error:
        return f"torch: {_line(error)}"
    try:
        import_model(Together([layer]), ([given],), dynamic_shapes=_shapes([name], dynamic))
    except tb.TvmBalancedError as error:
        return _line(error)
    return None


def _compiled(names: list[str], layers: dict[str, nn.Module], dtype: torch.dtype, dynamic: bool) -> Iterator[tuple[str, str]]:
    """Yield what came of each of some layers that are compiled as one module; where that fails, of each half of them."""
    if not names:
        return
    model = Together([layers[name] for name in names])
    given = [inputs_of(KINDS[name], dtype) for name in names]
    shapes = _shapes(names, dynamic)
    try:
        module = tb.compile(model, (given,), dynamic_shapes=shapes, threads=1, logs=False, tolerance=float("inf"), race=False)
    except tb.TvmBalancedError as error:
        if len(names) == 1:
            yield names[0], _line(error)
            return
        for part in (names[: len(names) // 2], names[len(names) // 2 :]):
            yield from _compiled(part, layers, dtype, dynamic)
        return
    wrong: dict[str, str] = {}
    for size in (None, 5, 1) if dynamic else (None,):
        given = [inputs_of(KINDS[name], dtype, size) for name in names]
        with torch.no_grad():
            want = model(given)
        for name, g, w in zip(names, module(given), want, strict=True):
            fault = difference(g, w, dtype)
            if fault is not None:
                wrong.setdefault(name, fault)
    for place, name in enumerate(names):
        verdicts = {
            row.verdict
            for row in module.report.layers
            if row.layer.startswith(f"layers.{place}.") or row.layer == f"layers.{place}"
        }
        yield name, wrong.get(name) or next((verdict for verdict in ("sparse", "dense") if verdict in verdicts), "yes")


def _shapes(names: list[str], dynamic: bool) -> Any:
    if not dynamic:
        return None
    auto = torch.export.Dim.AUTO
    return ([tuple({KINDS[name].batch: auto} for _ in KINDS[name].shapes) for name in names],)


def difference(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype) -> str | None:
    """How a result differs from torch's, None where it does not."""
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return f"WRONG: {got.dtype}{list(got.shape)} for {want.dtype}{list(want.shape)}"
    off = float((got.double() - want.double()).abs().max()) if want.numel() else 0.0
    most = LIMITS[dtype] * max(1.0, float(want.double().abs().max()))
    return None if off <= most else f"WRONG: off by {off:.1e}"


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0]
