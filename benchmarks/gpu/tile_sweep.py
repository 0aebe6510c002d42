"""Which tiling of a kernel is fastest on a GPU? `python -m benchmarks.gpu.tile_sweep --out DIR`, against cuBLAS, on 28672x8192.

This covers what `tvm-balanced tune` searches, and what it cannot change: how many warps, and how many
thread blocks, share K is part of `cuda_decode_mma`'s function. To save GPU time, the machine code may
be compiled in advance on a machine without one: `--compile FILE`, then on the GPU machine `--known FILE`.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tvm
from tvm import tirx

from benchmarks.gpu import known_code
from benchmarks.gpu.device import Absent, Device
from benchmarks.gpu.devices import open_device
from benchmarks.gpu.folder import Folder
from benchmarks.gpu.layer import Cell, Layer
from benchmarks.gpu.measuring import KEY, OURS, kernel_entrant, reported, rival_entrant, stamp
from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.schedules import KERNELS
from tvm_balanced.schedules.base.target_info import shared_bytes
from tvm_balanced.schedules.kernels import cuda_decode_mma, cuda_gemv
from tvm_balanced.schedules.kernels.cuda_decode_mma import Cut, Layout
from tvm_balanced.schedules.kernels.cuda_gemv import Split
from tvm_balanced.schedules.layouts.warp_panels import count_chunks
from tvm_balanced.timing.paired import measure_paired

SIZE = (28672, 8192)
SMALL = ((4096, 14336), (5120, 5120))  # layers whose thread blocks may share K
PATTERNS = ("2:16", "4:16", "8:16")
COLUMNS = ("date", "gpu", "versions", *KEY[:-1], "cut", "us", "cublas_us", "over_cublas", "error")
THREADS = 512  # of a block, at most
ROUNDS, SECONDS = 7, 1.0


@dataclass(frozen=True)
class Candidate:
    """A tiling: replacements for functions of a kernel's module."""

    name: str
    module: Any
    functions: tuple[tuple[str, Any], ...]

    def schedule(self, cell: Cell, target: tvm.target.Target) -> tirx.PrimFunc:
        """Return the cell's kernel with this tiling."""
        kernel = KERNELS[cell.kernel]
        with ExitStack() as patched:
            for name, value in self.functions:
                patched.enter_context(patch.object(self.module, name, lambda *_, value=value: value))
            return kernel.schedule(kernel.prim_func(cell.workload), cell.workload, target)


def decode_cuts(cell: Cell, target: tvm.target.Target) -> Iterator[Candidate]:
    """Yield tilings of `cuda_decode_mma` that divide the layer and fit a GPU's shared memory."""
    workload = cell.workload
    layout = Layout.of(cell.n, cell.k, workload.nnz)
    slices = (1,) if (cell.n, cell.k) == SIZE else (1, 2, 4, 8)
    for slice_, shares, warps, tiles, steps in itertools.product(slices, (1, 2, 4), (4, 7, 8), (1, 2, 4), (1, 2, 4)):
        cut = Cut(shares, layout.tiles // tiles // warps, warps, tiles, slice_)
        divides = layout.tiles % (tiles * warps) == 0 and layout.groups % (slice_ * shares * steps) == 0
        fits = cuda_decode_mma._shared_bytes(workload, shares, warps * tiles, steps) <= shared_bytes(target)
        if divides and fits and 32 * shares * warps <= THREADS:
            name = f"shares={shares} warps={warps} tiles={tiles} steps={steps}" + (f" slices={slice_}" if slice_ > 1 else "")
            yield Candidate(name, cuda_decode_mma, (("_cut", cut), ("_steps", steps)))


def gemv_cuts(cell: Cell, target: tvm.target.Target) -> Iterator[Candidate]:
    """Yield tilings of `cuda_gemv` that divide the layer."""
    chunks = count_chunks(cell.k, cell.parsed.nnz, cell.parsed.block)
    for groups, warps, unrolled, stages in itertools.product((1, 2, 4), (4, 8, 16), (2, 4, 8), (1, 2, 4)):
        steps, left = divmod(chunks, stages * warps * unrolled)
        if steps and not left and 32 * groups * warps <= THREADS and (cell.m > 1 or stages == 1):
            split = Split(groups, stages, warps, steps, unrolled)
            name = f"groups={groups} stages={stages} warps={warps} steps={steps} unrolled={unrolled}"
            yield Candidate(name, cuda_gemv, (("_split", split),))


CUTS = {"cuda_decode_mma": decode_cuts, "cuda_gemv": gemv_cuts}


def cells(patterns: Sequence[str] = ("*",)) -> list[Cell]:
    """Return the cells that match one of `patterns`, by kernel."""
    decode = [Cell(*SIZE, m, pattern, "float16", "cuda_decode_mma") for m in (16, 64, 4) for pattern in PATTERNS]
    decode += [Cell(*size, 16, "2:16", "float16", "cuda_decode_mma") for size in SMALL]
    gemv = [Cell(*SIZE, m, pattern, "float16", "cuda_gemv") for m in (1, 2, 4) for pattern in PATTERNS]
    return [cell for cell in decode + gemv if any(fnmatch(str(cell), pattern) for pattern in patterns)]


def main() -> int:
    """Compile or measure all tilings."""
    options = _parse()
    if options.compile:
        return _compile(options.compile, cells(options.cells))
    try:
        device = open_device("cuda")
    except EnvironmentFaultError as error:
        print(error, file=sys.stderr)
        return 2
    if options.known:
        known_code.use(options.known)
    options.out.mkdir(parents=True, exist_ok=True)
    until = time.time() + 60 * options.minutes
    for cell in cells(options.cells):
        if time.time() < until:
            rows = _measure(cell, device)
            Folder(options.out).append("gpu_cuts.csv", COLUMNS, rows)
            fastest = ", ".join(f"{row['cut']} {row['over_cublas']}" for row in rows[:3])
            print(f"{cell}: {fastest}", flush=True)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu.tile_sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cells", nargs="*", default=["*"], help='such as "* m16 *"; all by default, 1049 kernels')
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of gpu_cuts.csv; %(default)s by default")
    parser.add_argument("--minutes", type=float, default=5, help="begin no cell after that; %(default)s by default")
    parser.add_argument("--compile", type=Path, metavar="FILE", help="make machine code for an H200, and end")
    parser.add_argument("--known", type=Path, metavar="FILE", help="of machine code that was made before")
    return parser.parse_args()


def _compile(archive: Path, chosen: Sequence[Cell]) -> int:
    target = Absent().target
    archive.parent.mkdir(parents=True, exist_ok=True)
    scheduled = (candidate.schedule(cell, target) for cell in chosen for candidate in CUTS[cell.kernel](cell, target))
    print(f"{known_code.write(archive, scheduled, target)} kernels in {archive}")
    return 0


def _measure(cell: Cell, device: Device) -> list[dict[str, object]]:
    """Return a row for each tiling, the fastest first; tilings that cannot be launched are left out."""
    layer = Layer(cell, device)
    racing = {"cublas": rival_entrant("cublas", layer)}
    for candidate in CUTS[cell.kernel](cell, device.target):
        try:
            racing[candidate.name] = kernel_entrant(OURS, layer, candidate.schedule(cell, device.target))
        except Exception as error:  # more registers or shared memory than the GPU has; the error is printed
            print(f"{cell}, {candidate.name}: {str(error).splitlines()[0][:120]}", file=sys.stderr)
    timing = measure_paired({name: reported(entrant.timer) for name, entrant in racing.items()}, ROUNDS, SECONDS, warm=0)
    dense = timing.microseconds("cublas")
    rows = [
        stamp(device)
        | {name: value for name, value in cell.row().items() if name != "schedule"}
        | {"cut": name, "us": f"{timing.microseconds(name):.1f}", "cublas_us": f"{dense:.1f}"}
        | {"over_cublas": f"{dense / timing.microseconds(name):.2f}", "error": f"{racing[name].error:.1e}"}
        for name in racing
        if name != "cublas"
    ]
    return sorted(rows, key=lambda row: float(str(row["us"])))


if __name__ == "__main__":
    sys.exit(main())
