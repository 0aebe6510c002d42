"""What does prefetching gain? `python -m benchmarks.prefetch_ablation [--only 'weights *'] [--seconds S]`.

The tables of docs/measurements/prefetch.md and rows_of_x.md. Each kernel alternates with itself without the
prefetches of `schedules/tir/prefetch.py` (layers of up to 16 rows of x) or of `schedules/tir/prefetch_rows.py`: once on one copy
of the arguments (hot), once rotating through copies, as the layers of a model have them. Rows are appended to data/far.csv;
geometric means are printed.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import tvm
from rich.console import Console
from rich.table import Table

from benchmarks.bootstrap import geometric_mean
from benchmarks.cell import append
from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.caches import LARGE_BYTES
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import runs_here
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.tir import prefetch, prefetch_rows
from tvm_balanced.testing.operands import Arguments, draw
from tvm_balanced.timing.paired import Implementation, Timing, measure_paired
from tvm_balanced.timing.rotating import empty_result

DATA = Path(__file__).parent / "data" / "far.csv"
COLUMNS = (
    *("date", "cpu", "tvm", "what", "kernel", "n", "k", "m", "pattern", "residual", "target"),
    *("place", "us", "p20", "p50", "p80"),
)
TURN_BYTES = {"weights": 12 << 20, "rows": 10 << 20}  # size of the rotating operands
PLACES = ("hot", "in turn")
SMALL = ((384, 384), (1536, 384), (768, 768), (768, 3072), (3072, 768))  # N x K
MANY_ROWS = ((384, 384), (1536, 384), (384, 1536))


@dataclass(frozen=True)
class Set:
    """A column of a table: one kernel at one M, over several sizes and patterns."""

    what: str  # "weights" or "rows": which operands are in memory
    kernel: str
    m: int
    patterns: tuple[str, ...] = ("2:16", "4:16")
    residual: bool = False
    target: str = "cpu"

    def __str__(self) -> str:
        residual = " residual" if self.residual else ""
        return f"{self.what} {self.kernel} m{self.m} {','.join(self.patterns)}{residual}"

    def workloads(self) -> Iterator[Workload]:
        """Yield the layers of the set."""
        for (n, k), text in product(SMALL if self.what == "weights" else MANY_ROWS, self.patterns):
            pattern = BalancedPattern.parse(text)
            dtype = "bfloat16" if self.kernel.endswith("bf16") else "float32"
            yield Workload(self.kernel, self.m, n, k, pattern.nnz, pattern.block, dtype, residual=self.residual)

    def runs_here(self) -> bool:
        """Whether this machine can run the kernel."""
        target, layer = parse_target(self.target), next(self.workloads())
        return runs_here(target) and KERNELS[self.kernel].refuses(target, layer.n, layer.k, layer.dtype) is None


SETS = (
    *(Set("weights", "cpu_avx512", m, ("1:16", "4:16")) for m in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)),
    *(Set("weights", "cpu_avx512_bf16", m, ("1:16", "4:16")) for m in (1, 4, 8, 16)),
    *(Set("weights", "cpu_avx512_i8", m, ("1:16", "4:16")) for m in (1, 4, 8, 12, 16)),
    *(Set("weights", "cpu_dense", m, ("1:1",)) for m in (1, 8, 16)),
    *(Set("rows", kernel, 1024, residual=residual) for kernel in ("cpu_avx512", "cpu_avx512_spmm") for residual in (False, True)),
    Set("rows", "cpu_avx512", 1024, ("4:32", "3:16")),
    *(Set("rows", kernel, 1024) for kernel in ("cpu_avx512_w8", "cpu_avx512_bf16", "cpu_avx512_i8")),
    Set("rows", "cpu_dense", 1024, ("1:1",)),
    Set("rows", "cpu_portable", 1024, target="cpu/x86-64-v3"),
)


@contextmanager
def without(what: str) -> Iterator[None]:
    """Schedule kernels without the prefetches of `what`."""
    choose = prefetch.choose

    def in_large_layers(workload: Workload, nbytes: int, *shape: Any) -> Any:
        return choose(workload, nbytes, *shape) if nbytes >= LARGE_BYTES else None

    with ExitStack() as stack:
        if what == "rows":
            stack.enter_context(patch.object(prefetch_rows, "are_large", lambda _workload: False))
        else:
            stack.enter_context(patch.object(prefetch, "panel_order", lambda workload, _count: prefetch.Streams(workload.n, 1)))
            stack.enter_context(patch.object(prefetch, "choose", in_large_layers))
        yield


def compiled(workload: Workload, target: tvm.target.Target) -> Any:
    """Return the function of a kernel with its default schedule."""
    kernel = KERNELS[workload.kernel]
    func = kernel.schedule(kernel.prim_func(workload), workload, target)
    return build(func.with_attr("global_symbol", "main"), target)["main"]


def in_turn(workload: Workload, arguments: Arguments, what: str) -> list[list[tvm.runtime.Tensor]]:
    """Return lists of arguments. They share those that stay in cache and have copies of the others,
    TURN_BYTES of them.
    """
    arrays = [*arguments.given, empty_result(workload)]
    ends = {0, len(arrays) - 1, *([len(arrays) - 2] if workload.residual else [])}  # x, y and the residual
    moving = ends if what == "rows" else set(range(len(arrays))) - ends
    count = max(2, TURN_BYTES[what] // sum(arrays[place].nbytes for place in moving))
    near = [tvm.runtime.tensor(array) for array in arrays]
    return [
        [tvm.runtime.tensor(array) if place in moving else near[place] for place, array in enumerate(arrays)]
        for _ in range(count)
    ]


def time_layer(workload: Workload, what: str, target: tvm.target.Target, seconds: float) -> Timing:
    """Time a layer with and without prefetches, hot and rotating, on one thread."""
    functions = {"with": compiled(workload, target)}
    with without(what):
        functions["without"] = compiled(workload, target)
    arguments = draw(workload)
    copies = in_turn(workload, arguments, what)

    def rival(main: Any, place: str) -> Implementation:
        count = len(copies) if place == "in turn" else 1
        return lambda call: main(*copies[call % count])

    use_threads(1)
    _check(functions, copies[0], arguments, KERNELS[workload.kernel].tolerance)
    return measure_paired(
        {f"{how} {place}": rival(main, place) for (how, main), place in product(functions.items(), PLACES)}, 61, seconds
    )


def _check(functions: dict[str, Any], given: list[tvm.runtime.Tensor], arguments: Arguments, tolerance: float | None) -> None:
    """Raise if the result of a function is wrong, before it is timed."""
    expected = arguments.reference()
    for how, main in functions.items():
        main(*given)
        error = np.abs(given[-1].numpy().astype(np.float64) - expected).max() / np.abs(expected).max()
        if not error <= (tolerance or 1e-2):
            raise RuntimeError(f"the kernel {how} fetches is wrong by {error:.1e}; report it")


def main() -> None:
    """Measure the requested sets, print their means, and append each layer to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="pattern of the sets' names")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each layer")
    options = parser.parse_args()
    facts = environment.describe()
    stamp = [datetime.now(UTC).date().isoformat(), facts["cpu"], facts["versions"]["apache-tvm"]]
    table = Table("set", "layers", *(f"{place}: as fast as without" for place in PLACES))
    for chosen in (s for s in SETS if fnmatchcase(str(s), options.only)):
        target = parse_target(chosen.target)
        if not chosen.runs_here():
            continue
        gains: dict[str, list[float]] = {place: [] for place in PLACES}
        for workload in chosen.workloads():
            timing = time_layer(workload, chosen.what, target, options.seconds)
            for place in PLACES:
                ratio = timing.speedup(f"with {place}", f"without {place}")
                gains[place].append(ratio.p50)
                layer = [chosen.what, chosen.kernel, workload.n, workload.k, workload.m, workload.pattern, chosen.residual]
                spread = [f"{value:.3f}" for value in (ratio.p20, ratio.p50, ratio.p80)]
                row = [*stamp, *layer, chosen.target, place, f"{timing.microseconds(f'with {place}'):.1f}", *spread]
                append(DATA, COLUMNS, [dict(zip(COLUMNS, row, strict=True))])
        table.add_row(str(chosen), str(len(gains["hot"])), *(geometric_mean(gains[place]) for place in PLACES))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
