"""How fast are convolutions beside PyTorch? `python -m benchmarks.conv [--only '3x3 *'] [--seconds S] [--batches 1 8]`.

Layers of ResNet-50, VGG-16 and Whisper-base (over time) on one thread: the dense kernel, and the sparse one at 4:16 and 2:16,
each in turns with PyTorch (oneDNN) in the memory format in which that is faster. Times of one thread are the process's own, so
that other processes count less. Beside each stand two bounds, by rates that are measured in the same process: the time of the
multiply-adds that remain, and for sparse kernels of as many loads of a vector of pixels from the first-level cache. A third is
in the CSV: the time to read x and the weight and to write y, were nothing in a cache. `--target cpu/x86-64-v3` measures AVX2,
with PyTorch limited to it. Rows are appended to data/conv.csv; geometric means are printed.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from rich.console import Console
from rich.table import Table

from benchmarks.bootstrap import geometric_mean
from benchmarks.cell import append
from benchmarks.instruction_sets import LANES, TARGETS, restart_within
from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import CONV_DENSE_KERNELS, CONV_SPARSE_KERNELS, Kernel
from tvm_balanced.testing.operands import draw, relative_error, y_shape
from tvm_balanced.timing.paired import PAUSE, Seconds, measure_paired
from tvm_balanced.timing.rates import loads, measure

DATA = Path(__file__).parent / "data" / "conv.csv"
COLUMNS = (
    "date",
    "cpu",
    "tvm",
    "torch",
    "layer",
    "batch",
    "threads",
    "target",
    "pattern",
    "kernel",
    "us",
    "torch_us",
    "bound_us",
    "p20",
    "p50",
    "p80",
    "loads_us",
    "memory_us",
)
PATTERNS = ("dense", "4:16", "2:16")


@dataclass(frozen=True)
class Layer:
    """A convolution of images of `size` x `size` pixels, or of `size` steps if it is over time."""

    channels: int
    out: int
    size: int
    kernel: int
    stride: int
    dims: int = 2

    def __str__(self) -> str:
        kernel, size = ("x".join([str(one)] * self.dims) for one in (self.kernel, self.size))
        stride = f" /{self.stride}" if self.stride > 1 else ""
        return f"{kernel} {self.channels}->{self.out} {size}{stride}"

    @property
    def conv(self) -> Convolution:
        """Its geometry, with the padding that keeps the image's size."""
        ones = [1] * (3 - self.dims)
        pad = (*[0] * (3 - self.dims), *[self.kernel // 2] * self.dims)
        size, kernel, stride = ((*ones, *[one] * self.dims) for one in (self.size, self.kernel, self.stride))
        return Convolution(self.channels, size, kernel, stride, before=pad, after=pad).flattened()

    @property
    def macs(self) -> int:
        """Multiply-adds of one image, zeros included."""
        return self.conv.pixels * self.out * self.conv.depth * self.conv.taps

    def nbytes(self, batch: int, share: float) -> float:
        """Bytes of x, y and that share of the weight, float32."""
        images = batch * (self.channels * self.size**self.dims + self.out * self.conv.pixels)
        return 4 * (images + share * self.out * self.conv.depth * self.conv.taps)


LAYERS = (
    Layer(3, 64, 224, 7, 2),  # ResNet-50
    *(Layer(c, c, size, 3, 1) for c, size in ((64, 56), (128, 28), (256, 14), (512, 7))),
    *(Layer(*shape) for shape in ((64, 256, 56, 1, 1), (256, 64, 56, 1, 1), (512, 128, 28, 1, 1), (1024, 256, 14, 1, 1))),
    *(Layer(*shape) for shape in ((512, 2048, 7, 1, 1), (128, 128, 56, 3, 2), (256, 512, 56, 1, 2))),
    *(Layer(*shape) for shape in ((3, 64, 224, 3, 1), (64, 64, 224, 3, 1))),  # VGG-16
    *(Layer(*shape) for shape in ((64, 128, 112, 3, 1), (128, 256, 56, 3, 1), (512, 512, 28, 3, 1), (512, 512, 14, 3, 1))),
    *(Layer(*shape, dims=1) for shape in ((80, 512, 3000, 3, 1), (512, 512, 3000, 3, 2))),  # Whisper-base
)


def ours(layer: Layer, pattern: str, batch: int, target: tvm.target.Target) -> tuple[Kernel, Callable[[], Any]]:
    """Return the kernel that computes a layer on a target, and a call of it, checked against float64."""
    conv = layer.conv
    kernels: tuple[Kernel, ...] = CONV_DENSE_KERNELS if pattern == "dense" else CONV_SPARSE_KERNELS
    kernel = next(kernel for kernel in kernels if kernel.refuses(target, 16, 16, "float32") is None)
    stored = None if pattern == "dense" else BalancedPattern.parse(pattern)
    workload = kernel.workload(batch * conv.pixels, layer.out, conv.depth * conv.taps, stored, conv=conv)
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    main, arguments = build(func, target)["main"], draw(workload)
    y = tvm.runtime.tensor(np.zeros(y_shape(workload), np.float32))
    given = [*map(tvm.runtime.tensor, arguments.given), y]
    main(*given)
    error = relative_error(y.numpy(), arguments.reference())
    if error > 1e-4:
        raise RuntimeError(f"{kernel.name} on {layer} at {pattern} is wrong by {error:.1e}")
    return kernel, lambda: main(*given)


def eager(layer: Layer, batch: int, threads: int) -> Callable[[], Any]:
    """Return a call of PyTorch's convolution in the memory format in which it is faster."""
    formats = (torch.contiguous_format, torch.channels_last) if layer.dims == 2 else (torch.contiguous_format,)
    candidates: list[Callable[[], Any]] = []
    for memory in formats:
        kind = torch.nn.Conv2d if layer.dims == 2 else torch.nn.Conv1d
        module = kind(layer.channels, layer.out, layer.kernel, layer.stride, layer.kernel // 2)
        made = module.eval().requires_grad_(False).to(memory_format=memory)
        x = torch.randn(batch, layer.channels, *[layer.size] * layer.dims).contiguous(memory_format=memory)
        candidates.append(lambda made=made, x=x: made(x))
    return min(candidates, key=lambda call: min(timed(call, threads)() for _ in range(4)))


def timed(call: Callable[[], Any], threads: int) -> Callable[..., Seconds]:
    """Return a call that reports the time that it took: the processor's of one thread, else the wall's."""
    clock = time.process_time if threads == 1 else time.perf_counter

    def run(_call: int = 0) -> Seconds:
        start = clock()
        call()
        return Seconds(clock() - start)

    return run


@dataclass(frozen=True)
class Setting:
    """How layers are measured: by images, threads and target."""

    batch: int
    threads: int
    target: str


def measure_layer(layer: Layer, setting: Setting, seconds: float) -> list[dict[str, Any]]:
    """Time a layer and return a row for each pattern."""
    batch, threads = setting.batch, setting.threads
    use_threads(threads)
    torch.set_num_threads(threads)
    facts = environment.describe()
    lanes = LANES[setting.target]
    rates, loading = measure(threads, lanes), loads(threads, lanes, layer.kernel)
    calls = {pattern: ours(layer, pattern, batch, parse_target(setting.target)) for pattern in PATTERNS}
    rivals = {name: timed(call, threads) for name, (_, call) in calls.items()}
    rivals["torch"] = timed(eager(layer, batch, threads), threads)
    timing = measure_paired(rivals, seconds=seconds, pause=PAUSE if threads > 1 else 0.0)
    rows = []
    for pattern, (kernel, _) in calls.items():
        share = 1.0 if pattern == "dense" else BalancedPattern.parse(pattern).nnz / 16
        ratio = timing.speedup(pattern, "torch")
        row: dict[str, Any] = {"date": datetime.now(UTC).date(), "cpu": facts["cpu"], "tvm": facts["versions"]["apache-tvm"]}
        row |= {"torch": torch.__version__, "layer": str(layer), **asdict(setting), "pattern": pattern, "kernel": kernel.name}
        row |= {"us": round(timing.microseconds(pattern), 1), "torch_us": round(timing.microseconds("torch"), 1)}
        work = batch * layer.macs * share / 1e3  # so that divided by 10^9 a second it is in microseconds
        row |= {"bound_us": round(work / rates.gmacs, 1), "loads_us": "" if pattern == "dense" else round(work / loading, 1)}
        row |= {"memory_us": round(layer.nbytes(batch, share) / 1e3 / rates.gbytes, 1)}
        rows.append(row | {name: round(getattr(ratio, name), 3) for name in ("p20", "p50", "p80")})
    return rows


def main() -> None:
    """Time the layers, print a table for each setting and append to the CSV."""
    parser = argparse.ArgumentParser("python -m benchmarks.conv", description=__doc__)
    parser.add_argument("--only", nargs="+", default=["*"], help="layers, as shell patterns")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each layer")
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--target", choices=TARGETS, default="cpu")
    parser.add_argument("--out", type=Path, default=DATA, help="the CSV; %(default)s by default")
    options = parser.parse_args()
    restart_within(options.target)
    layers = [layer for layer in LAYERS if any(fnmatchcase(str(layer), only) for only in options.only)]
    for batch, threads in product(options.batches, options.threads):
        setting = Setting(batch, threads, options.target)
        titles = ("torch, us", *(f"{pattern}: bounds, us; over torch" for pattern in PATTERNS))
        table = Table("layer", *titles, title=f"batch {batch}, threads {threads}, {options.target}")
        gains: dict[str, list[float]] = {pattern: [] for pattern in PATTERNS}
        for layer in layers:
            with torch.inference_mode():
                rows = measure_layer(layer, setting, options.seconds)
            append(options.out, COLUMNS, rows)
            for row in rows:
                gains[row["pattern"]].append(row["p50"])
            bounds = (", ".join(str(row[name]) for name in ("bound_us", "loads_us") if row[name]) for row in rows)
            cells = (f"{b}; {row['p50']:.2f} ({row['p20']:.2f} to {row['p80']:.2f})" for b, row in zip(bounds, rows, strict=True))
            table.add_row(str(layer), str(rows[0]["torch_us"]), *cells)
        table.add_row("geometric mean", "", *(geometric_mean(gains[pattern]) for pattern in PATTERNS))
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
