"""Registers, spills and shared memory of the CUDA kernels, by nvcc: `python -m benchmarks.gpu.registers [--arch sm_90 ...]`.

Needs nvcc and no GPU. Each row is a kernel in its default schedule for 28672x8192; warps are those
that fit a multiprocessor by registers alone.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import tvm

from benchmarks.gpu.cells import GPU_SHAPES
from benchmarks.gpu.device import Absent
from benchmarks.gpu.layer import Cell, scheduled
from benchmarks.gpu.report import table
from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.errors import TvmBalancedError
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS

ARCHS = ("sm_80", "sm_90", "sm_100")
REGISTERS, GRANULE, MOST_WARPS = 65536, 256, 64  # of a multiprocessor; a warp's are given out by the granule
CELLS = (  # M, pattern, dtype, kernel
    (1, "2:16", "float16", "cuda_gemv"),
    (1, "8:16", "float16", "cuda_gemv"),
    (1, "4:32", "float16", "cuda_gemv"),
    (4, "2:16", "float16", "cuda_gemv"),
    (1, "2:16", "float32", "cuda_gemv"),
    (1, "2:16", "float16", "cuda_gemv_w8"),
    (1, "8:16", "float16", "cuda_gemv_w8"),
    (4, "2:16", "float16", "cuda_gemv_w8"),
    (64, "2:16", "float32", "cuda_gemm_fp32"),
    (4, "8:16", "float16", "cuda_decode_mma"),
    (16, "2:16", "float16", "cuda_decode_mma"),
    (16, "8:16", "bfloat16", "cuda_decode_mma"),
    (64, "2:16", "float16", "cuda_decode_mma"),
    (64, "8:16", "float16", "cuda_decode_wgmma"),
    (256, "2:16", "float16", "cuda_decode_wgmma"),
    (16, "8:16", "float16", "cuda_dense_mma"),
    (64, "8:16", "float16", "cuda_dense_mma"),
)
HEADER = ("kernel", "M", "pattern", "dtype", "arch", "registers", "spilled bytes", "stack bytes", "warps by registers")


@dataclass(frozen=True)
class Compiled:
    """A cell's CUDA source, and the architecture that it is compiled for."""

    cell: Cell
    arch: str
    source: str

    def row(self) -> tuple[object, ...]:
        """Return the row of the table."""
        (used,) = nvcc.resources(self.source, self.arch).values()
        cell, pattern = self.cell, "dense" if "dense" in self.cell.kernel else self.cell.pattern
        counts = (used.registers, used.spilled, used.stack, warps(used.registers))
        return (cell.kernel, cell.m, pattern, cell.dtype, self.arch, *counts)


def warps(registers: int) -> int:
    """Return how many warps fit a multiprocessor's registers."""
    return min(MOST_WARPS, REGISTERS // (-(-32 * registers // GRANULE) * GRANULE))


def sources(archs: Sequence[str]) -> Iterator[Compiled]:
    """Yield the source of every cell for every architecture that its kernel is for."""
    device = Absent()
    for m, pattern, dtype, kernel in CELLS:
        cell = Cell(*GPU_SHAPES.large, m, pattern, dtype, kernel)
        func = scheduled(cell, device)
        targets = {arch: tvm.target.Target({"kind": "cuda", "arch": arch}) for arch in archs}
        taken = [arch for arch, target in targets.items() if KERNELS[kernel].refuses(target, cell.n, cell.k, dtype) is None]
        yield from (Compiled(cell, arch, cuda_source(func, arch)) for arch in taken)


def main() -> int:
    """Print the table; return 1 if a kernel spills."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.registers", description=__doc__)
    parser.add_argument("--arch", action="append", help=f"such as sm_90; may be repeated; {', '.join(ARCHS)} by default")
    options = parser.parse_args()
    try:
        with ThreadPoolExecutor() as pool:
            rows = list(pool.map(Compiled.row, sources(options.arch or ARCHS)))
    except TvmBalancedError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(table(HEADER, rows)))
    return int(any(row[6] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
