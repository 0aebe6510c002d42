"""How fast are whole pruned models on a GPU compared with PyTorch? `python -m benchmarks.gpu.models [CASES] --out DIR`.

A decoder block of a language model (4096 and 14336 wide, attention to a past of 512 tokens, SiLU
gate, RMS norm, residual; float16), its feed-forward part alone, one step of the paper's LSTM
(float32 without TF32), a sentence encoder of MiniLM's shape, causal attention over a prompt, and bottlenecks of a
ResNet (all float16). The last two, and the encoder, are what torch's libraries compute for the most part. The baselines are eager
PyTorch and torch.compile; everything is timed both replayed as a CUDA graph and called from Python
one call after another. Rows are appended to DIR/gpu_models.csv.
"""

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import nn

import tvm_balanced as tb
from benchmarks.gpu.device import Device
from benchmarks.gpu.devices import open_device
from benchmarks.gpu.folder import Folder
from benchmarks.gpu.measuring import OURS, reported, stamp
from benchmarks.models import lstm
from tvm_balanced.demo.minilm import ENCODER_LINEARS, LENGTH, SentenceEncoder
from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.timing.gpu_timer import synced_timer
from tvm_balanced.timing.paired import Implementation, measure_paired

COLUMNS = (
    *("date", "gpu", "versions", "model", "m", "pattern", "dtype", "kernels", "compile_seconds"),
    *("rival", "clock", "rounds", "us", "p20", "p50", "p80", "error"),
)
CALLS, ROUNDS, SECONDS = 20, 15, 3.0
ERROR = 2e-2  # allowed for float16 or TF32-free float32 through a whole model, relative to the largest result in float64
Made = tuple[nn.Module, tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the models.

    Parameters
    ----------
    blocks : int
        Feed-forward blocks one after another.
    width, hidden : int
        Width of a decoder block, and of its feed-forward part inside.
    heads, past : int
        Heads of its attention, and tokens that it looks back to.
    lstm : int
        Hidden size of the LSTM.
    layers : int
        Layers of the sentence encoder.
    channels : int
        Of images; 512 as in the second stage of a ResNet-50.
    """

    blocks: int
    width: int
    hidden: int
    heads: int
    past: int
    lstm: int
    layers: int
    channels: int


# two feed-forward blocks have 352 million weights, which no cache keeps
FULL = Sizes(blocks=2, width=4096, hidden=14336, heads=32, past=512, lstm=1500, layers=6, channels=512)
TINY = Sizes(blocks=1, width=64, hidden=128, heads=2, past=5, lstm=48, layers=1, channels=16)


@dataclass(frozen=True)
class Case:
    """One model, compiled once: for any M if it is measured at several. Rows of x are tokens, or the batch."""

    model: str
    rows: tuple[int, ...]
    pattern: str
    dtype: str
    sizes: Sizes = FULL

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of its weights."""
        return {"float16": torch.float16, "float32": torch.float32}[self.dtype]

    def __str__(self) -> str:
        return f"{self.model} m{','.join(map(str, self.rows))} {self.pattern} {self.dtype}"


class FeedForward(nn.Module):
    """x + down(silu(gate(norm(x))) * up(norm(x))), as in the decoders of language models: (M, width) --> (M, width)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (M, width)."""
        normed = self.norm(x)
        y: torch.Tensor = x + self.down(nn.functional.silu(self.gate(normed)) * self.up(normed))
        return y


class DecoderBlock(nn.Module):
    """One token more for each of M sequences: attention to their past, then the feed-forward part.

    x (M, 1, width), keys and values (M, heads, past, width / heads) --> (M, 1, width).
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, width = sizes.heads, sizes.width
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.feed_forward = FeedForward(width, sizes.hidden)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return y (M, 1, width)."""
        normed = self.norm(x)
        q, k, v = (self._heads(layer(normed)) for layer in (self.q, self.k, self.v))
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        attended = nn.functional.scaled_dot_product_attention(q, keys, values)
        y: torch.Tensor = self.feed_forward(x + self.o(attended.transpose(1, 2).flatten(2)))
        return y

    def _heads(self, y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def decoder(case: Case) -> Made:
    """Return a pruned decoder block, and x, keys and values of M sequences."""
    torch.manual_seed(0)
    m, sizes = max(case.rows), case.sizes
    model = DecoderBlock(sizes).to(case.torch_dtype).eval()
    tb.prune(model, case.pattern)
    past = [torch.randn(m, sizes.heads, sizes.past, sizes.width // sizes.heads) for _ in range(2)]
    return model, tuple(arg.to(case.torch_dtype) for arg in (torch.randn(m, 1, sizes.width), *past))


class Prompt(nn.Module):
    """Causal attention of `heads` heads over all tokens of a prompt: (1, M, width) --> (1, M, width)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.q, self.k, self.v, self.o = (nn.Linear(sizes.width, sizes.width, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (1, M, width)."""
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        y: torch.Tensor = self.o(attended.transpose(1, 2).flatten(2))
        return y


def prompt(case: Case) -> Made:
    """Return pruned attention, and M tokens of one prompt."""
    torch.manual_seed(0)
    model = Prompt(case.sizes).to(case.torch_dtype).eval()
    tb.prune(model, case.pattern)
    return model, (torch.randn(1, max(case.rows), case.sizes.width).to(case.torch_dtype),)


class Bottleneck(nn.Module):
    """relu(x + norm(1x1(relu(norm(3x3(relu(norm(1x1(x)))))))): images (M, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        sizes = ((channels, inner, 1), (inner, inner, 3), (inner, channels, 1))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, taps, padding=taps // 2, bias=False) for a, b, taps in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _ in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y of x's shape."""
        y = x
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y)) if place == 2 else nn.functional.relu(norm(conv(y)))
        return nn.functional.relu(x + y)


def images(case: Case) -> Made:
    """Return pruned bottlenecks, as many as there are layers, and M images of 28x28."""
    torch.manual_seed(0)
    channels = case.sizes.channels
    model = nn.Sequential(*(Bottleneck(channels) for _ in range(case.sizes.layers))).to(case.torch_dtype).eval()
    tb.prune(model, case.pattern)
    return model, (torch.randn(max(case.rows), channels, 28, 28).to(case.torch_dtype),)


def feed_forward(case: Case) -> Made:
    """Return pruned feed-forward blocks and x (M, width)."""
    torch.manual_seed(0)
    sizes = case.sizes
    blocks = (FeedForward(sizes.width, sizes.hidden) for _ in range(sizes.blocks))
    model = nn.Sequential(*blocks).to(case.torch_dtype).eval()
    tb.prune(model, case.pattern)
    return model, (torch.randn(max(case.rows), sizes.width).to(case.torch_dtype),)


def lstm_step(case: Case) -> Made:
    """Return one step of the two-layer LSTM, and its x, h and c."""
    model, args, _ = lstm(max(case.rows), case.pattern, case.sizes.lstm)
    return model, args


def encoder(case: Case) -> Made:
    """Return a sentence encoder of MiniLM's shape with random weights, and M tokens, LENGTH per sentence."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    layers, m = case.sizes.layers, max(case.rows)
    config = BertConfig(hidden_size=384, num_hidden_layers=layers, num_attention_heads=12, intermediate_size=1536)
    model = SentenceEncoder(BertModel(config, add_pooling_layer=False)).to(case.torch_dtype).eval()
    tb.prune(model, case.pattern, include=[ENCODER_LINEARS])
    ids = torch.randint(config.vocab_size, (m // LENGTH, LENGTH))
    return model, (ids, torch.ones_like(ids))


MODELS: Mapping[str, Callable[[Case], Made]] = {
    "decoder": decoder,
    "encoder": encoder,
    "images": images,
    "lstm": lstm_step,
    "prompt": prompt,
    "feed-forward": feed_forward,
}
CASES = (
    Case("decoder", (1,), "4:16", "float16"),
    Case("images", (32,), "4:16", "float16"),
    Case("prompt", (1024,), "4:16", "float16"),
    Case("encoder", (128,), "2:16", "float16"),
    Case("decoder", (16,), "4:16", "float16"),
    Case("lstm", (1,), "2:16", "float32"),
    Case("feed-forward", (1, 4, 16, 64), "4:16", "float16"),
    Case("feed-forward", (1, 4, 16, 64), "2:16", "float16"),
)
STAND_IN_CASES = (
    Case("decoder", (2,), "4:16", "float32", TINY),
    Case("images", (2,), "2:4", "float32", TINY),
    Case("prompt", (7,), "4:16", "float32", TINY),
    Case("feed-forward", (1, 3), "2:16", "float32", TINY),
)


class Subject:
    """A case's compiled model, and its baselines on the GPU."""

    def __init__(self, case: Case, device: Device) -> None:
        torch.set_float32_matmul_precision("highest")
        self.case, self.device = case, device
        self.model, args = MODELS[case.model](case)
        dynamic = ({0: torch.export.Dim("m", min=1, max=4096)},) if len(case.rows) > 1 else None
        begun = time.perf_counter()
        self.compiled = tb.compile(self.model, args, target=device.compiles_for, dynamic_shapes=dynamic)
        self.seconds = time.perf_counter() - begun
        self.model, self.args = self.model.to(device.torch), tuple(arg.to(device.torch) for arg in args)
        torch._dynamo.reset()
        self.forms = {OURS: self.compiled, "eager": self.model} | device.compiled_by_torch(self.model)

    def measure(self, m: int) -> list[dict[str, object]]:
        """Check and time the model at M rows; return its rows, ours first.

        Raises
        ------
        RuntimeError
            If a result is wrong.
        """
        args = self.args if len(self.case.rows) == 1 else tuple(arg[:m].contiguous() for arg in self.args)
        rivals = {name: partial(_call, form, args) for name, form in self.forms.items()}
        errors = self._errors(rivals, args)
        timers = (
            {name: self.device.timer(rival, 1) for name, rival in rivals.items()},
            {name: synced_timer(rival, CALLS, self.device.synchronize) for name, rival in rivals.items()},
        )
        rows = []
        for of_clock in timers:
            timing = measure_paired(
                {name: reported(timer) for name, timer in of_clock.items()}, min(ROUNDS, self.device.rounds), SECONDS, warm=0
            )
            for name, error in errors.items():
                row: dict[str, object] = {"m": m, "rival": name, "clock": of_clock[name].clock}
                row |= {"rounds": len(timing.times[name]), "us": f"{timing.microseconds(name):.1f}", "error": f"{error:.1e}"}
                ratio = timing.speedup(OURS, name)
                rows.append(self._shared() | row | {p: f"{getattr(ratio, p):.3f}" for p in ("p20", "p50", "p80")})
        return rows

    def _errors(self, rivals: Mapping[str, Implementation], args: tuple[torch.Tensor, ...]) -> dict[str, float]:
        """Return the largest error of each baseline against float64, relative to the largest result."""
        exact = copy.deepcopy(self.model).double()
        expected = _tensors(exact(*(arg.double() if arg.is_floating_point() else arg for arg in args)))
        errors = {name: _error(_tensors(rival(0)), expected) for name, rival in rivals.items()}
        for name, error in errors.items():
            if not error <= ERROR:
                raise RuntimeError(f"{name} is wrong: relative error {error:.1e}, {ERROR:.0e} is allowed")
        return errors

    def _shared(self) -> dict[str, object]:
        kernels = " ".join(dict.fromkeys(layer.kernel for layer in self.compiled.report.layers))
        case = {"model": self.case.model, "pattern": self.case.pattern, "dtype": self.case.dtype}
        return stamp(self.device) | case | {"kernels": kernels, "compile_seconds": f"{self.seconds:.1f}"}


def _call(form: Callable[..., Any], args: tuple[torch.Tensor, ...], _: int) -> Any:
    return form(*args)


def _tensors(result: Any) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)


def _error(results: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Return the largest error of any result, relative to its own largest value. NaN never passes."""
    errors = [float((y.double() - e).abs().max() / e.abs().max()) for y, e in zip(results, expected, strict=True)]
    return max(error if error == error else float("inf") for error in errors)


def measure(case: Case, device: Device, folder: Folder) -> list[str]:
    """Check and time a case, append its rows to gpu_models.csv, and return a line for each number of rows."""
    with torch.no_grad():
        subject, lines = Subject(case, device), []
        for m in case.rows:
            # meanwhile other models may be compiled, but not measured
            with FileLock(Path(tempfile.gettempdir()) / "measuring.lock"):
                rows = subject.measure(m)
            folder.append("gpu_models.csv", COLUMNS, rows)
            lines.append(f"m{m}: " + ", ".join(f"{r['rival']} {r['clock']} {r['us']} us ({r['p50']})" for r in rows))
        return lines


def main() -> int:
    """Measure the named models; return 1 if one failed."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.models", description=__doc__)
    parser.add_argument("cases", nargs="*", default=["*"], help='such as "lstm *"; all by default')
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of gpu_models.csv; %(default)s by default")
    parser.add_argument("--minutes", type=float, default=10, help="begin no model after that; %(default)s by default")
    options = parser.parse_args()
    try:
        device = open_device("cuda")
    except EnvironmentFaultError as error:
        print(error, file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    until, failed = time.time() + 60 * options.minutes, 0
    for case in (case for case in CASES if any(fnmatch(str(case), pattern) for pattern in options.cases)):
        if time.time() > until:
            break
        try:
            print(f"{case} " + "; ".join(measure(case, device, Folder(options.out))), flush=True)
        except Exception as error:  # after any error the other models continue
            failed = 1
            print(f"{case}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
