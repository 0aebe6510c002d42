"""How fast are convolutions beside PyTorch? `python -m benchmarks.conv [--only '3x3 *'] [--seconds S] [--batch B]`.

Layers of ResNet-50 and VGG-16 on one thread: the dense kernel, and the sparse one at 4:16 and 2:16, each in turns with PyTorch
(oneDNN) in the memory format in which that is faster. Times are the process's own, so that other processes count less. Beside
each stands the bound: the time of the multiply-adds that remain, at the peak of this core, measured in the same process. Rows
are appended to data/conv.csv; geometric means are printed.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from rich.console import Console
from rich.table import Table

from benchmarks.bootstrap import geometric_mean
from benchmarks.cell import append
from tvm_balanced.compiler.build import build
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import CONV_DENSE_KERNELS, CONV_SPARSE_KERNELS, Kernel
from tvm_balanced.testing.operands import draw, relative_error, y_shape
from tvm_balanced.timing.paired import Seconds, measure_paired
from tvm_balanced.timing.rates import measure

DATA = Path(__file__).parent / "data" / "conv.csv"
COLUMNS = (
    "date",
    "cpu",
    "tvm",
    "torch",
    "layer",
    "batch",
    "pattern",
    "kernel",
    "us",
    "torch_us",
    "bound_us",
    "p20",
    "p50",
    "p80",
)
PATTERNS = ("dense", "4:16", "2:16")


@dataclass(frozen=True)
class Layer:
    """A convolution of images of `size` x `size` pixels."""

    channels: int
    out: int
    size: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        stride = f" /{self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}x{self.kernel} {self.channels}->{self.out} {self.size}x{self.size}{stride}"

    @property
    def conv(self) -> Convolution:
        """Its geometry, with the padding that keeps the image's size."""
        pad = (0, self.kernel // 2, self.kernel // 2)
        size, kernel, stride = (1, self.size, self.size), (1, self.kernel, self.kernel), (1, self.stride, self.stride)
        return Convolution(self.channels, size, kernel, stride, before=pad, after=pad).flattened()


LAYERS = (
    *(Layer(c, c, size, 3, 1) for c, size in ((64, 56), (128, 28), (256, 14), (512, 7))),  # ResNet-50
    *(Layer(*shape) for shape in ((64, 256, 56, 1, 1), (256, 64, 56, 1, 1), (512, 128, 28, 1, 1), (1024, 256, 14, 1, 1))),
    *(Layer(*shape) for shape in ((512, 2048, 7, 1, 1), (128, 128, 56, 3, 2), (256, 512, 56, 1, 2))),
    *(
        Layer(*shape) for shape in ((64, 128, 112, 3, 1), (128, 256, 56, 3, 1), (512, 512, 28, 3, 1), (512, 512, 14, 3, 1))
    ),  # VGG-16
)


def ours(layer: Layer, pattern: str, batch: int) -> tuple[Kernel, Callable[[], Any]]:
    """Return the kernel that runs here, and a call of it, checked against float64."""
    target, conv = host_target(), layer.conv
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


def eager(layer: Layer, batch: int) -> Callable[[], Any]:
    """Return a call of PyTorch's convolution in the memory format in which it is faster."""
    candidates: list[Callable[[], Any]] = []
    for memory in (torch.contiguous_format, torch.channels_last):
        module = torch.nn.Conv2d(layer.channels, layer.out, layer.kernel, layer.stride, layer.kernel // 2)
        made = module.eval().requires_grad_(False).to(memory_format=memory)
        x = torch.randn(batch, layer.channels, layer.size, layer.size).contiguous(memory_format=memory)
        candidates.append(lambda made=made, x=x: made(x))
    return min(candidates, key=lambda call: min(timed(call)() for _ in range(4)))


def timed(call: Callable[[], Any]) -> Callable[..., Seconds]:
    """Return a call that reports the processor time that it took."""

    def run(_call: int = 0) -> Seconds:
        start = time.process_time()
        call()
        return Seconds(time.process_time() - start)

    return run


def main() -> None:
    """Time the layers, print a table and append to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="layers, as a shell pattern")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each layer")
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts, table = environment.describe(), Table("layer", "bound us", *(f"{pattern} / torch" for pattern in PATTERNS))
    gains: dict[str, list[float]] = {pattern: [] for pattern in PATTERNS}
    use_threads(1)
    with torch.inference_mode():
        peak = measure(1).gmacs * 1e9
        for layer in (layer for layer in LAYERS if fnmatchcase(str(layer), options.only)):
            calls = {pattern: ours(layer, pattern, options.batch) for pattern in PATTERNS}
            rivals = {name: timed(call) for name, (_, call) in calls.items()} | {"torch": timed(eager(layer, options.batch))}
            timing = measure_paired(rivals, seconds=options.seconds)
            macs = options.batch * layer.conv.pixels * layer.out * layer.conv.depth * layer.conv.taps
            rows, cells = [], []
            for pattern, (kernel, _) in calls.items():
                share = 1.0 if pattern == "dense" else BalancedPattern.parse(pattern).nnz / 16
                ratio = timing.speedup(pattern, "torch")
                gains[pattern].append(ratio.p50)
                cells.append(f"{ratio.p50:.2f} ({ratio.p20:.2f} to {ratio.p80:.2f})")
                rows.append(
                    {
                        "date": datetime.now(UTC).date(),
                        "cpu": facts["cpu"],
                        "tvm": facts["versions"]["apache-tvm"],
                        "torch": torch.__version__,
                        "layer": str(layer),
                        "batch": options.batch,
                        "pattern": pattern,
                        "kernel": kernel.name,
                        "us": round(timing.microseconds(pattern), 1),
                        "torch_us": round(timing.microseconds("torch"), 1),
                        "bound_us": round(macs * share / peak * 1e6, 1),
                        "p20": round(ratio.p20, 3),
                        "p50": round(ratio.p50, 3),
                        "p80": round(ratio.p80, 3),
                    }
                )
            append(DATA, COLUMNS, rows)
            table.add_row(str(layer), " ".join(str(row["bound_us"]) for row in rows), *cells)
    table.add_row("geometric mean", "", *(geometric_mean(gains[pattern]) for pattern in PATTERNS))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
