"""The paper's three models on this CPU, layer by layer: `python -m benchmarks.paper_models [--parts vgg recurrent]`.

The 13 convolutions and 3 dense layers of VGG-16, each at the kernel's sparsity nearest to the paper's, beside PyTorch's dense
layer in the memory format in which that is faster; the LSTM of hidden 1500 over 35 steps and the bidirectional LSTM of hidden
1024 over 200 steps whole, and GRUs of these sizes, beside eager PyTorch. One thread; times are the process's own. Rows go to
data/paper_models.csv and a table beside the paper's own times to data/paper_models.md. The paper's GPU has no name: compare
ratios.
"""

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm

from benchmarks import recurrent
from benchmarks.cell import append, stamp
from benchmarks.conv import Layer, eager, ours, timed
from benchmarks.interference import other_load
from benchmarks.paper_cases import CASES
from tvm_balanced.compiler.build import build
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import SPARSE_KERNELS
from tvm_balanced.testing.operands import draw, relative_error, y_shape
from tvm_balanced.timing.paired import measure_paired

DATA = Path(__file__).parent / "data"
PARTS = ("vgg", "recurrent")
COLUMNS = (
    *("date", "cpu", "versions", "part", "layer", "sparsity", "pattern", "kernel"),
    *("us", "torch_us", "p20", "p50", "p80", "paper_dense_us", "paper_us", "others"),
)


@dataclass(frozen=True)
class Convolution:
    """One of VGG-16: its name, shape, the sparsity that the paper prunes it to, and the paper's times in microseconds."""

    name: str
    layer: Layer
    sparsity: float
    dense: float
    balanced: float


def _vgg() -> tuple[Convolution, ...]:
    sizes = ((3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), *((256, 256, 56),) * 2)
    sizes += ((256, 512, 28), *((512, 512, 28),) * 2, *((512, 512, 14),) * 3)
    names = "1_1 1_2 2_1 2_2 3_1 3_2 3_3 4_1 4_2 4_3 5_1 5_2 5_3".split()
    sparsities = (0.34, 0.68, 0.65, 0.71, 0.45, 0.79, 0.88, 0.86, 0.91, 0.88, 0.86, 0.90, 0.95)
    dense = (144.0, 612.5, 393.5, 588.2, 305.0, 584.4, 584.4, 333.3, 623.0, 623.0, 211.0, 211.0, 211.0)
    balanced = (254.7, 1018.4, 474.4, 557.0, 371.4, 396.5, 355.7, 295.4, 366.2, 396.5, 129.9, 126.4, 110.2)
    layers = (Layer(depth, out, size, 3, 1) for depth, out, size in sizes)
    rows = zip(names, layers, sparsities, dense, balanced, strict=True)
    return tuple(Convolution(f"conv{name}", *rest) for name, *rest in rows)


VGG = _vgg()
DENSE_LAYERS = tuple(case for case in CASES if case.name.startswith("VGG-16"))
# sparsity, dense and balanced time; the paper has no GRU
RECURRENT: Mapping[str, tuple[Any, ...]] = {
    "LSTM-1500": (0.8, 294.1, 120.2),
    "Bi-LSTM-1024": (0.875, 117.9, 83.9),
    "GRU-1500": (0.875, "", ""),
    "Bi-GRU-1024": (0.875, "", ""),
}


@dataclass(frozen=True)
class Measured:
    """What was timed: microseconds of ours and of PyTorch's, and the percentiles of the paired ratios."""

    pattern: str
    kernel: str
    times: Mapping[str, Any] = field(default_factory=dict)


def nearest(sparsity: float) -> str:
    """Return the pattern in blocks of 16 whose sparsity is the nearest."""
    return f"{min(range(1, 16), key=lambda nnz: abs(1 - nnz / 16 - sparsity))}:16"


def dense_layer(n: int, k: int, pattern: str) -> tuple[str, Callable[[], Any]]:
    """Return the kernel of a dense layer of one row here, and a call of it, checked against float64."""
    target, stored = host_target(), BalancedPattern.parse(pattern)
    kernel = next(one for one in SPARSE_KERNELS if one.refuses(target, stored.nnz, stored.block, "float32") is None)
    workload = kernel.workload(1, n, k, stored)
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    main, arguments = build(func, target)["main"], draw(workload)
    given = [*map(tvm.runtime.tensor, arguments.given), tvm.runtime.tensor(np.zeros(y_shape(workload), np.float32))]
    main(*given)
    if (error := relative_error(given[-1].numpy(), arguments.reference())) > 1e-4:
        raise RuntimeError(f"{kernel.name} at {n}x{k}, {pattern} is wrong by {error:.1e}")
    return kernel.name, lambda: main(*given)


def compared(pattern: str, kernel: str, call: Callable[[], Any], theirs: Callable[[], Any], seconds: float) -> Measured:
    """Return the times of a call beside PyTorch's."""
    timing = measure_paired({"ours": timed(call, 1), "torch": timed(theirs, 1)}, seconds=seconds)
    ratio = timing.speedup("ours", "torch")
    times = {"us": f"{timing.microseconds('ours'):.1f}", "torch_us": f"{timing.microseconds('torch'):.1f}"}
    return Measured(pattern, kernel, times | {name: f"{getattr(ratio, name):.3f}" for name in ("p20", "p50", "p80")})


def vgg_rows(seconds: float) -> list[dict[str, Any]]:
    """Time the layers of VGG-16."""
    rows = []
    for one in VGG:
        pattern = nearest(one.sparsity)
        kernel, call = ours(one.layer, pattern, 1, host_target())
        found = compared(pattern, kernel.name, call, eager(one.layer, 1, 1), seconds)
        rows.append(_row("VGG-16", one.name, one.sparsity, found, one.dense, one.balanced))
        print(rows[-1]["layer"], pattern, rows[-1]["us"], rows[-1]["p50"], flush=True)
    for case in DENSE_LAYERS:
        ((n, k),), pattern = case.layers, nearest(case.sparsity)
        name, call = dense_layer(n, k, pattern)
        linear, x = torch.nn.Linear(k, n).requires_grad_(False), torch.randn(1, k)
        found = compared(pattern, name, call, lambda linear=linear, x=x: linear(x), seconds)
        published = case.published
        rows.append(_row("VGG-16", case.name.split()[-1], case.sparsity, found, published["dense"], published["balanced"]))
        print(rows[-1]["layer"], pattern, rows[-1]["us"], rows[-1]["p50"], flush=True)
    return rows


def recurrent_rows(seconds: float) -> list[dict[str, Any]]:
    """Time the recurrent layers whole, at 2:16."""
    rows = []
    for case in (case for case in recurrent.CASES if case.name in RECURRENT):
        first, second, *_ = recurrent.measure(case, seconds)
        times = {"us": first["us"], "torch_us": second["us"], **{name: second[name] for name in ("p20", "p50", "p80")}}
        found = Measured("2:16", "", times)
        sparsity, *published = RECURRENT[case.name]
        rows.append(_row("recurrent", f"{case.name}, {case.steps} steps", sparsity, found, *published))
        print(rows[-1]["layer"], rows[-1]["us"], rows[-1]["p50"], flush=True)
    return rows


def _row(part: str, layer: str, sparsity: float, found: Measured, dense: Any, balanced: Any) -> dict[str, Any]:
    own = {"part": part, "layer": layer, "sparsity": sparsity, "pattern": found.pattern, "kernel": found.kernel}
    return stamp() | own | dict(found.times) | {"paper_dense_us": dense, "paper_us": balanced}


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the last measurement of each layer, and the sums of VGG-16's."""
    last = {(row["part"], row["layer"]): row for row in rows}
    lines = [
        "# The paper's models on this CPU, beside the paper",
        "",
        "One thread, float32. Ours is a sparse kernel, as sparse as the nearest pattern; recurrent layers are whole, at 2:16.",
        "The paper's times are of a GPU without a name, its LSTMs' of one step. Written by `python -m benchmarks.paper_models`.",
        "",
        "| layer | zeros in the paper | ours | us | over PyTorch | paper, us | paper, over dense |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in last.values():
        over = f"{row['p50']} ({row['p20']} to {row['p80']})"
        theirs = f"{float(row['paper_dense_us']) / float(row['paper_us']):.2f}" if row["paper_us"] else "-"
        zeros = f"{float(row['sparsity']):.0%}"
        lines.append(
            f"| {row['layer']} | {zeros} | {row['pattern']} | {row['us']} | {over} | {row['paper_us'] or '-'} | {theirs} |"
        )
    layers = [row for (part, _), row in last.items() if part == "VGG-16"]
    if layers:
        us, torch_us, dense, balanced = (
            sum(float(row[name]) for row in layers) for name in ("us", "torch_us", "paper_dense_us", "paper_us")
        )
        lines.append(
            f"| VGG-16, {len(layers)} layers | | | {us:.0f} | {torch_us / us:.2f} | {balanced:.0f} | {dense / balanced:.2f} |"
        )
    return "\n".join([*lines, "", f"{', '.join(dict.fromkeys(str(row['cpu']) for row in last.values()))}", ""])


def main() -> None:
    """Measure, append the rows and write the page."""
    parser = argparse.ArgumentParser("python -m benchmarks.paper_models", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing a layer; %(default)s by default")
    parser.add_argument("--out", type=Path, default=DATA, help="the folder; %(default)s by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    use_threads(1)
    path = options.out / "paper_models.csv"
    for part in options.parts:
        with torch.inference_mode(), other_load() as neighbours:
            rows = (vgg_rows if part == "vgg" else recurrent_rows)(options.seconds)
        append(path, COLUMNS, (row | {"others": f"{neighbours.share:.2f}"} for row in rows))
    with path.open(newline="") as file:
        (options.out / "paper_models.md").write_text(page(list(csv.DictReader(file))))


if __name__ == "__main__":
    main()
