"""How fast are whole pruned models against PyTorch? `python -m benchmarks.models [--models minilm] [--threads 1] [--profile]`.

MiniLM on sentences of 128 tokens, one step of a two-layer LSTM, and VGG-16, ResNet-50, ViT-B/16 and Whisper-base's
encoder, against eager PyTorch, torch.compile with freezing and the same model with oneDNN-packed linears. MiniLM also
runs against ours compiled for any batch and length, the LSTM against torch.nn.LSTM, models of images against eager
PyTorch with channels last. With --profile a further row is the bound that Amdahl's law gives: what of the eager call is
no layer with weights, and our kernels for those. Each cell has its own process; rows are appended to data/models.csv.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.instruction_sets import TARGETS, limits_of
from benchmarks.interference import other_load
from benchmarks.subjects import SUBJECTS
from tvm_balanced.bench.model import ModelBenchmark
from tvm_balanced.bench.result import OURS, to_json
from tvm_balanced.testing.peak_memory import peak, reset_peak

DATA = Path(__file__).parent / "data" / "models.csv"
COLUMNS = (
    *("date", "cpu", "versions", "model", "batch", "pattern", "dtype", "threads", "regime"),
    *("rival", "us", "p20", "p50", "p80", "max_error", "others"),
)
IMAGES, SPECTRA = ("vgg16", "resnet50", "vit-b16"), ("whisper-base",)
BATCHES = {"minilm": (1, 8), "lstm": (1,), **dict.fromkeys((*IMAGES, *SPECTRA), (1,))}
BOUND = "bound by Amdahl"
LAYERS_OF_TORCH = ("aten::addmm", "aten::mm", "aten::linear", "aten::mkldnn_convolution", "aten::_slow_conv2d", "mkldnn::")
PATTERNS = ("2:16", "4:16")
HIDDEN, LAYERS = 1500, 2
ANY = "ours for any batch and length"
Forms = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Cell:
    """One model to measure."""

    model: str
    batch: int
    pattern: str
    threads: int
    target: str = "cpu"


class LSTMStep(nn.Module):
    """One step of a stacked LSTM: x (batch, hidden), h and c (layers, batch, hidden) --> the next h and c.

    It computes nn.LSTM with nn.Linear, so that `tb.prune` and the packed baseline support its
    weights.
    """

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.of_input = nn.ModuleList(nn.Linear(hidden, 4 * hidden) for _ in range(layers))
        self.of_hidden = nn.ModuleList(nn.Linear(hidden, 4 * hidden) for _ in range(layers))

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return h and c; the output is the last of h."""
        hs, cs = [], []
        for layer, (of_input, of_hidden) in enumerate(zip(self.of_input, self.of_hidden, strict=True)):
            i, f, g, o = (of_input(x) + of_hidden(h[layer])).chunk(4, dim=-1)
            cs.append(f.sigmoid() * c[layer] + i.sigmoid() * g.tanh())
            x = o.sigmoid() * cs[-1].tanh()
            hs.append(x)
        return torch.stack(hs), torch.stack(cs)

    def as_lstm(self) -> nn.LSTM:
        """Return torch's own LSTM with the same weights."""
        hidden = self.of_input[0].in_features
        lstm = nn.LSTM(hidden, hidden, len(self.of_input)).eval()
        with torch.no_grad():
            for layer, (of_input, of_hidden) in enumerate(zip(self.of_input, self.of_hidden, strict=True)):
                for name, linear in (("ih", of_input), ("hh", of_hidden)):
                    getattr(lstm, f"weight_{name}_l{layer}").copy_(linear.weight)
                    getattr(lstm, f"bias_{name}_l{layer}").copy_(linear.bias)
        return lstm


def minilm(batch: int, pattern: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], Forms]:
    """Return the demo's sentence encoder, pruned, with its tokens, and no further baselines."""
    from tvm_balanced.demo.demo import sentences
    from tvm_balanced.demo.minilm import ENCODER_LINEARS, sentence_encoder, tokenize

    model, _ = sentence_encoder()
    tb.prune(model, pattern, include=[ENCODER_LINEARS])
    return model, tokenize(sentences()[:batch]), {}


def lstm(batch: int, pattern: str, hidden: int = HIDDEN) -> tuple[nn.Module, tuple[torch.Tensor, ...], Forms]:
    """Return one step of an LSTM with random pruned weights, its arguments, and torch.nn.LSTM as a
    further baseline.
    """
    torch.manual_seed(0)
    model = LSTMStep(hidden, LAYERS).eval()
    tb.prune(model, pattern)
    theirs = model.as_lstm()

    def step(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # with oneDNN, torch.nn.LSTM packs its weights in every call: 93 ms instead of 10
        # (docs/measurements/runtime.md)
        with torch.backends.mkldnn.flags(enabled=False):
            result: tuple[torch.Tensor, torch.Tensor] = theirs(x[None], (h, c))[1]
        return result

    warnings.filterwarnings("ignore", "TF32 acceleration")  # raised when oneDNN is switched off
    state = [torch.randn(LAYERS, batch, hidden) for _ in range(2)]
    return model, (torch.randn(batch, hidden), *state), {"torch.nn.LSTM": step}


def whole(name: str, batch: int, pattern: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], Forms]:
    """Return a model of `subjects.py`, pruned, with its inputs, and for images eager PyTorch with channels last."""
    subject = SUBJECTS[name]
    model, inputs = subject.make(), subject.inputs(0, batch)
    tb.prune(model, pattern, include=[subject.include])
    if name == "vit-b16" or name not in IMAGES:
        return model, inputs, {}
    last = cache(lambda: copy.deepcopy(model).to(memory_format=torch.channels_last))  # made after the model is compiled
    return model, inputs, {"eager, channels last": lambda x: last()(x.contiguous(memory_format=torch.channels_last))}


MODELS: dict[str, Callable[[int, str], tuple[nn.Module, tuple[torch.Tensor, ...], Forms]]] = {
    "minilm": minilm,
    "lstm": lstm,
    **{name: partial(whole, name) for name in (*IMAGES, *SPECTRA)},
}


def outside_layers(model: nn.Module, args: tuple[torch.Tensor, ...]) -> float:
    """Return the share of an eager call that is not spent in layers with weights."""
    with torch.no_grad():
        model(*args)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            model(*args)
    times = [(row.key, row.self_cpu_time_total) for row in profile.key_averages()]
    inside = sum(us for key, us in times if key.startswith(LAYERS_OF_TORCH))
    return 1 - inside / sum(us for _, us in times)


def amdahl(results: Sequence[Mapping[str, Any]], profile: Mapping[str, Any], outside: float) -> dict[str, Any]:
    """Return a row for the bound: the eager call's time outside of its layers, and our kernels for these.

    Its "speedup" is the share of the bound that ours reaches.
    """
    us = {row["name"]: row["microseconds"] for row in results}
    kernels = sum(row["microseconds"] for row in profile["rows"] if row["macs"])
    bound = us["eager"] * outside + kernels
    return {"name": BOUND, "microseconds": bound, "speedup": dict.fromkeys(("p20", "p50", "p80"), bound / us[OURS])}


def for_any_size(model: nn.Module, args: tuple[torch.Tensor, ...], cell: Cell) -> tb.CompiledModule:
    """Return a sentence encoder compiled for any number of sentences and tokens."""
    examples = tuple(torch.cat([arg, arg]) for arg in args)  # torch.export takes a dimension of one as a constant
    sizes = {0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("length", max=512)}
    shapes = (sizes,) * len(args)
    return tb.compile(model, examples, target=cell.target, threads=cell.threads, dynamic_shapes=shapes, race=False)


def run(cell: Cell, rounds: int, torch_compile: bool, profile: bool) -> dict[str, Any]:
    """Compile and time a cell in this process; returns the same as `measure`."""
    model, args, rivals = MODELS[cell.model](cell.batch, cell.pattern)
    if cell.model == "minilm":
        rivals = {**rivals, ANY: for_any_size(model, args, cell)}
    reset_peak()  # pruning takes more than compiling
    begin = time.monotonic()
    compiled = tb.compile(model, args, target=cell.target, threads=cell.threads, race=False)
    compiling = {"compile_s": time.monotonic() - begin, "peak_mb": peak() / 1e6}
    results = to_json(ModelBenchmark(model, args, cell.threads, torch_compile, rounds, rivals).run(compiled))
    found: dict[str, Any] = {"max_error": compiled.facts.max_error, "results": results, **compiling}
    if not profile:
        return found
    places = compiled.profile(*args).to_json()
    return found | {"profile": places, "results": [*results, amdahl(results, places, outside_layers(model, args))]}


def measure(cell: Cell, rounds: int, torch_compile: bool, profile: bool) -> dict[str, Any]:
    """Time a cell in a separate process; return its results, its profile and the share that others
    took of the machine.
    """
    work = json.dumps([asdict(cell), rounds, torch_compile, profile])
    with other_load() as neighbours:
        command = [sys.executable, "-m", "benchmarks.models", "--cell", work]
        env = os.environ | limits_of(cell.target)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | {"others": neighbours.share}


def rows_of(cell: Cell, result: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a cell's rows, one per baseline."""
    of_cell = {name: value for name, value in asdict(cell).items() if name != "target"}
    regime = "model" if cell.target == "cpu" else f"model, {cell.target}"
    both = stamp() | of_cell | {"dtype": "float32", "regime": regime, "others": f"{result['others']:.2f}"}
    both |= {"max_error": f"{result['max_error']:.1e}"}
    return [
        both
        | {"rival": row["name"], "us": f"{row['microseconds']:.1f}"}
        | {name: f"{ratio:.3f}" for name, ratio in row["speedup"].items()}
        for row in result["results"]
    ]


def where(cell: Cell, profile: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return rows of text: each kernel's calls, time, share of the call, and multiply-adds on
    stored weights per second.
    """
    kernels = dict.fromkeys(row["kernel"] for row in profile["rows"])
    table = []
    for kernel in kernels:
        rows = [row for row in profile["rows"] if row["kernel"] == kernel]
        calls, us, share, macs = (sum(row[name] for row in rows) for name in ("calls", "microseconds", "share", "macs"))
        known = (f"{macs / us / 1e3:.1f}", f"{macs / us / 1e3 / profile['rates']['gmacs']:.0%}") if macs else ("-", "-")
        slowest = max(rows, key=lambda row: row["microseconds"])
        name = f"{slowest['name']} ({slowest['microseconds']:.0f} us)"
        table.append((*map(str, asdict(cell).values()), kernel, str(calls), f"{us:.0f}", f"{share:.1%}", *known, name))
    return table


def main() -> None:
    """Measure all cells, print them, and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, help="1 and 8 of MiniLM, 1 of others by default")
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--target", choices=TARGETS, default="cpu", help="with AVX2, PyTorch is limited to it as well")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--without-torch-compile", action="store_true", help="which takes a minute to compile MiniLM")
    parser.add_argument("--profile", action="store_true", help="also where the time of a call goes")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        cell, *rest = json.loads(options.cell)
        print(json.dumps(run(Cell(**cell), *rest)))
        return
    cells = ("model", "batch", "pattern", "threads", "target")
    speeds = Table(*cells, "us", "over", "faster by", "20% to 80%", "others")
    places = Table(*cells, "kernel", "calls", "us", "share", "GMAC/s", "of peak", "slowest")
    for model in options.models:
        for batch, pattern, threads in product(options.batches or BATCHES[model], options.patterns, options.threads):
            cell = Cell(model, batch, pattern, threads, options.target)
            result = measure(cell, options.rounds, not options.without_torch_compile, options.profile)
            rows = rows_of(cell, result)
            print(f"{cell}: compiled in {result['compile_s']:.1f} s, {result['peak_mb']:.0f} MB at the peak", flush=True)
            append(DATA, COLUMNS, rows)
            for row in rows[1:]:
                spread = f"{row['p20']} to {row['p80']}"
                speeds.add_row(*map(str, asdict(cell).values()), rows[0]["us"], row["rival"], row["p50"], spread, row["others"])
            for line in where(cell, result["profile"]) if options.profile else ():
                places.add_row(*line)
    console = Console(width=150)
    console.print(speeds)
    if options.profile:
        console.print(places)


if __name__ == "__main__":
    main()
