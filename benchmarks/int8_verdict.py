"""Is the faster of a dense and a sparse kernel of 8 bits the one that the verdict takes? `python -m benchmarks.int8_verdict`.

The kernels of one target take turns on one layer, in seconds of this thread's CPU: `cpu_dense_i8`, and the sparse kernel of the
target at several patterns. Targets are those that this machine runs: its own, AVX2 with AVX-VNNI, and AVX2. The model's ratio
stands beside the measured one; verdicts rest on which side of 1 it lies.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from rich.console import Console
from rich.table import Table

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target, runs_here
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import ALL_KERNELS, KERNELS, Workload
from tvm_balanced.selection.rooflines import roofline_of
from tvm_balanced.testing.operands import draw, y_shape

SHAPES, ROWS, PATTERNS = ((384, 384), (768, 3072)), (1, 8, 128), ((8, 16), (6, 16), (4, 16), (2, 16))
DENSE, ROUNDS, SHORTEST = "cpu_dense_i8", 25, 2e-4  # turns, and seconds of one


def targets() -> dict[str, tvm.target.Target]:
    """Return the targets that this machine runs, by name."""
    known = {
        "this machine": host_target(),
        "AVX-VNNI": tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3", "mattr": ["+avxvnni"], "num-cores": 1}),
        "AVX2": tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 1}),
    }
    return {name: target for name, target in known.items() if runs_here(target)}


def workloads(target: tvm.target.Target, n: int, k: int, m: int) -> list[Workload]:
    """Return the dense layer, and the sparse ones of the first sparse kernel that the target has."""
    sparse = next(name for name in ("cpu_avx512_i8", "cpu_avx2_i8") if KERNELS[name].refuses(target, n, k, "float32") is None)
    return [Workload(DENSE, m, n, k, 1, 1), *(Workload(sparse, m, n, k, nnz, block) for nnz, block in PATTERNS)]


def call_of(workload: Workload, target: tvm.target.Target) -> Callable[[], Any]:
    """Return a call of a kernel on random operands."""
    kernel = ALL_KERNELS[workload.kernel]
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    main, arguments = build(func, target)["main"], [tvm.runtime.tensor(array) for array in draw(workload).given]
    arguments.append(tvm.runtime.tensor(np.zeros(y_shape(workload), np.float32)))
    return lambda: main(*arguments)


def in_turns(calls: Sequence[Callable[[], Any]], rounds: int) -> np.ndarray[Any, Any]:
    """Return the seconds of each call in each round (rounds, calls), by the clock of this thread."""

    def seconds(call: Callable[[], Any], count: int) -> float:
        start = time.thread_time()
        for _ in range(count):
            call()
        return (time.thread_time() - start) / count

    counts = [max(1, round(SHORTEST / max(seconds(call, 3), 1e-7))) for call in calls]
    return np.array([[seconds(call, count) for call, count in zip(calls, counts, strict=True)] for _ in range(rounds)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    use_threads(1)
    table = Table("target", "N x K, M", "dense, us", *(f"{nnz}:{block} over it (modelled)" for nnz, block in PATTERNS))
    for name, target in targets().items():
        machine = roofline_of(target, 1)
        for n, k in SHAPES:
            for m in ROWS:
                layers = workloads(target, n, k, m)
                times = in_turns([call_of(workload, target) for workload in layers], options.rounds)
                dense, *ratios = np.median(times, axis=0)[0], *np.median(times[:, :1] / times[:, 1:], axis=0)
                modelled = [KERNELS[workload.kernel].seconds(workload, m, machine) for workload in layers]
                cells = [f"{ratio:.2f} ({modelled[0] / own:.2f})" for ratio, own in zip(ratios, modelled[1:], strict=True)]
                table.add_row(name, f"{n}x{k}, {m}", f"{dense * 1e6:.1f}", *cells)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
