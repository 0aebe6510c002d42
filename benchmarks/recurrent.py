"""Whole recurrent layers beside torch.nn: `python -m benchmarks.recurrent [--cases WORD ...] [--seconds 60] [--out FILE]`.

The LSTM of hidden 1500 over 35 steps and the bidirectional LSTM of hidden 1024 over 200 steps of the paper, a GRU of each size,
and smaller ones, at 2:16, float32, one thread. Each is compiled once for any length. Beside eager PyTorch stands the bound: the
kernels alone, that of weight_ih once over all steps and that of weight_hh once for every step, without gates. Times are of the
calling thread's CPU clock, which stands still while something else has the core.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from torch import nn

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.interference import other_load
from tvm_balanced.compiler.build import build
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.report import LayerReport
from tvm_balanced.frontend.pruning.magnitude import keep_mask
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, SparseKernel
from tvm_balanced.timing.paired import Implementation, Seconds, measure_paired

PATTERN = BalancedPattern(2, 16)
COLUMNS = (
    *("date", "cpu", "versions", "case", "steps", "batch"),
    *("rival", "rounds", "us", "p20", "p50", "p80", "compile_s", "others"),
)


@dataclass(frozen=True)
class Case:
    """A recurrent layer whose input is as wide as its state, and how many steps of how many rows it computes."""

    name: str
    cell: Callable[..., nn.Module]
    hidden: int
    steps: int
    batch: int = 1
    bidirectional: bool = False

    def model(self) -> nn.Module:
        """Return the layer at 2:16."""
        torch.manual_seed(0)
        layer = self.cell(self.hidden, self.hidden, bidirectional=self.bidirectional).eval()
        with torch.no_grad():
            for parameter in layer.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(keep_mask(parameter, PATTERN))
        return layer


CASES = (
    Case("LSTM-1500", nn.LSTM, 1500, 35),
    Case("Bi-LSTM-1024", nn.LSTM, 1024, 200, bidirectional=True),
    Case("GRU-1500", nn.GRU, 1500, 35),
    Case("Bi-GRU-1024", nn.GRU, 1024, 200, bidirectional=True),
    Case("LSTM-1500, batch 8", nn.LSTM, 1500, 35, 8),
    Case("LSTM-512", nn.LSTM, 512, 100),
    Case("LSTM-128", nn.LSTM, 128, 100),
)


def kernel_alone(row: LayerReport, weight: torch.Tensor, m: int) -> Callable[[], object]:
    """Return a call of the kernel that computes a layer of a module, alone, with m rows of x."""
    kernel, target = KERNELS[row.kernel], host_target()
    pattern = None if row.stored == "-" else BalancedPattern.parse(row.stored)
    workload = kernel.workload(row.m, row.n, row.k, pattern)
    scheduled = kernel.schedule(kernel.prim_func(workload), workload, target)
    function = build(scheduled.with_attr("global_symbol", "main"), target)["main"]
    array = weight.detach().numpy()
    packed = kernel.pack(encode(array, pattern) if isinstance(kernel, SparseKernel) else array)  # type: ignore[attr-defined]
    x, y = torch.randn(m, row.k).numpy(), np.zeros((m, row.n), np.float32)
    arrays = x, *packed, kernel.pack_bias(np.zeros(row.n, np.float32)), y
    return partial(function, *map(tvm.runtime.tensor, arrays))


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """Time a case and return its rows, ours first."""
    layer, x = case.model(), torch.randn(case.steps, case.batch, case.hidden)
    started = time.process_time()
    ours = tb.compile(layer, (x,), threads=1, dynamic_shapes=({0: torch.export.Dim("steps")},), race=False)
    compiled = time.process_time() - started
    weights, calls = dict(layer.named_parameters()), []
    for row in ours.report.layers:
        times, m = (case.steps, case.batch) if "weight_hh" in row.layer else (1, case.steps * case.batch)
        if row.serves(m):
            calls.append((times, kernel_alone(row, weights[row.layer], m)))

    def bound(_: int) -> None:
        for times, call in calls:
            for _step in range(times):
                call()

    rivals = {"ours": _clocked(lambda _: ours(x)), "eager": _clocked(lambda _: layer(x)), "bound": _clocked(bound)}
    with torch.inference_mode():
        timing = measure_paired(rivals, seconds=seconds)
    rows = []
    for rival in rivals:
        ratio = timing.speedup("ours", rival)
        row: dict[str, Any] = {"case": case.name, "steps": case.steps, "batch": case.batch, "rival": rival}
        row |= {"rounds": len(timing.times[rival]), "us": f"{timing.microseconds(rival):.1f}"}
        row |= {p: f"{getattr(ratio, p):.3f}" for p in ("p20", "p50", "p80")}
        rows.append(row | {"compile_s": f"{compiled:.1f}" if rival == "ours" else ""})
    return rows


def _clocked(rival: Implementation) -> Implementation:
    def run(call: int) -> Seconds:
        start = time.thread_time()
        rival(call)
        return Seconds(time.thread_time() - start)

    return run


def main() -> None:
    """Measure the cases and append their rows."""
    parser = argparse.ArgumentParser("python -m benchmarks.recurrent", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=[""], metavar="WORD", help="only cases whose name has one of these words")
    parser.add_argument("--seconds", type=float, default=60, help="of timing a case; %(default)s by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data/recurrent.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for case in (case for case in CASES if any(word in case.name for word in options.cases)):
        with other_load() as neighbours:
            rows = measure(case, options.seconds)
        append(options.out, COLUMNS, (stamp() | row | {"others": f"{neighbours.share:.2f}"} for row in rows))
        shown = ", ".join(f"{row['rival']} {row['us']} us ({row['p20']} {row['p50']} {row['p80']})" for row in rows)
        print(f"{case.name}: {shown}; compiled in {rows[0]['compile_s']} s of CPU", flush=True)


if __name__ == "__main__":
    main()
