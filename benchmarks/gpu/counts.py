"""The figures of docs/cuda.md that nobody measured: `python -m benchmarks.gpu.counts [PART ...]`.

Needs no GPU. Bytes and times come from layouts and cost models. Instructions are
those of the machine code's loop, for which nvcc and nvdisasm must be on the PATH
(`pip install nvidia-cuda-nvdisasm` has the latter).
"""

import argparse
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np

from benchmarks.gpu.cells import GPU_SHAPES
from benchmarks.gpu.device import Absent
from benchmarks.gpu.layer import Cell, scheduled
from benchmarks.gpu.report import table
from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import EnvironmentFaultError, TvmBalancedError
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules.base.gpu_specs import H200
from tvm_balanced.schedules.kernels import cuda_decode_mma
from tvm_balanced.schedules.kernels.cuda_decode_mma import CUDA_DECODE_MMA
from tvm_balanced.schedules.kernels.cuda_decode_wgmma import CUDA_DECODE_WGMMA
from tvm_balanced.schedules.kernels.cuda_gemv import slot_bytes
from tvm_balanced.schedules.kernels.cuda_gemv_w8 import CUDA_GEMV_W8
from tvm_balanced.schedules.layouts.warp_panels import BYTES

ARCH = "sm_90"
COUNTED = (  # kernels, rows of x, and patterns
    *product(("cuda_gemv",), (1, 2, 4), ("8:16", "2:16")),
    ("cuda_gemv_w8", 1, "8:16"),
)
PATTERNS = ("8:16", "4:16", "2:16", "4:32", "8:32", "3:64", "8:64")
CLUSTERS = (  # N, K and pattern of small layers at 16 rows of x
    (4096, 4096, "2:16"),
    (5120, 5120, "2:16"),
    (5120, 5120, "8:16"),
    (4096, 14336, "2:16"),
    (4096, 14336, "8:16"),
    (8192, 28672, "2:16"),
    (1024, 8192, "8:16"),
)
ROWS = 16
LANES = H200.multiprocessors * 128 * 1.755e9  # instructions of lanes that an H200 starts in a second
READ = 4.4e12  # bytes a second that a read reached on one
LABEL, BRANCH = re.compile(r"^(\.L_\w+):"), re.compile(r"\bBRA\b.*`\((\.L_\w+)\)")
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")


def instructions() -> Iterator[str]:
    """Yield the lines of a table of instructions for each nonzero, in float16."""
    rows = []
    for kernel, m, pattern in COUNTED:
        cell = Cell(*GPU_SHAPES.large, m, pattern, "float16", kernel)
        found = loop(machine_code(cell), multiply_adds)
        scaled = kernel == CUDA_GEMV_W8.name  # then a multiply-add makes each value
        nonzeros = multiply_adds(found) / (m + scaled)
        time = slot_bytes(cell.workload, "int8" if scaled else "float16") / READ
        rows.append((kernel, m, pattern, int(nonzeros), f"{len(found) / nonzeros:.1f}", f"{time * LANES:.1f}"))
    yield from table(("kernel", "M", "pattern", "nonzeros of a lane", "instructions a nonzero", "time for"), rows)


def shared_loads() -> Iterator[str]:
    """Yield the lines of a table of what `cuda_decode_mma` reads of shared memory in its loop, in instructions of a warp."""
    rows = []
    for m, pattern in product((16, 64), ("8:16", "2:16")):
        found = loop(machine_code(Cell(*GPU_SHAPES.large, m, pattern, "float16", "cuda_decode_mma")), products)
        loads = [name for name in found if name.startswith("LDS")]
        whole = sum(name.startswith("LDS.128") for name in loads)
        rows.append((m, pattern, products(found), whole, len(loads) - whole, len(found)))
    yield from table(("M", "pattern", "mma", "loads of 512 bytes", "smaller loads", "instructions"), rows)


def many_rows() -> Iterator[str]:
    """Yield the lines of a table of what decoding in registers and to shared memory take of 28672x8192, at 64 and 256 rows."""
    rows = []
    weights = math.prod(GPU_SHAPES.large)
    for kernel, m, pattern in product((CUDA_DECODE_MMA, CUDA_DECODE_WGMMA), (64, 256), ("8:16", "2:16")):
        cell = Cell(*GPU_SHAPES.large, m, pattern, "float16", kernel.name)
        found = loop(machine_code(cell), products)
        turns, wide = -(-m // kernel.rows), kernel is CUDA_DECODE_WGMMA
        # of a warp: 16 rows of the weight by 16 columns for all rows of x, or for eight of them
        decoded = products(found) * 16 * 16 // (1 if wide else kernel.rows // 8)
        each = len(found) * 32 / decoded * turns
        efficiency = 1 if wide else cuda_decode_mma.TENSOR
        tensor = efficiency * weights * m / (H200.half_gmacs * 1e9)
        # a warpgroup stores and reads 64 rows of the weight, and reads x once for them; 16 rows of a warp read x otherwise
        shared = (4 + m * 2 / 64 if wide else m * 2 / 16) * weights
        times = (f"{1e6 * weights * each / LANES:.0f}", f"{1e6 * tensor:.0f}", f"{shared / 1e9:.1f}")
        rows.append((kernel.name, m, pattern, f"{each:.1f}", *times))
    header = ("kernel", "M", "pattern", "instructions a weight", "us to start them", "us of tensor cores", "GB of shared memory")
    yield from table(header, rows)


def machine_code(cell: Cell) -> str:
    """Return the text of the machine code of a cell's kernel in its default schedule."""
    return disassembled(nvcc.cubin(cuda_source(scheduled(cell, Absent()), ARCH), ARCH))


def disassembled(cubin: bytes) -> str:
    """Return the text of machine code; raises EnvironmentFaultError if nvdisasm is not installed."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        try:
            return subprocess.run(["nvdisasm", "-c", file.name], capture_output=True, text=True, check=True).stdout
        except FileNotFoundError:
            raise EnvironmentFaultError(
                "nvdisasm was not found; pip install nvidia-cuda-nvdisasm, and put it on the PATH"
            ) from None


def loop(text: str, counted: Callable[[list[str]], int]) -> list[str]:
    """Return the instructions of the loop with most of what is counted; of equals that of the fewest instructions."""
    names: list[str] = []
    labels: dict[str, int] = {}
    loops = []
    for line in text.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(names)
        elif found := INSTRUCTION.match(line):
            names.append(found[1])
            branch = BRANCH.search(line)
            if branch and branch[1] in labels:  # backwards
                loops.append(names[labels[branch[1]] :])
    return max(loops, key=lambda names: (counted(names), -len(names)), default=[])


def multiply_adds(names: list[str]) -> int:
    """Count multiply-adds of floating-point numbers."""
    return sum(name.startswith("FFMA") for name in names)


def products(names: list[str]) -> int:
    """Count products of matrices on tensor cores."""
    return sum(name.startswith(("HMMA", "HGMMA")) for name in names)


def stored_bytes() -> Iterator[str]:
    """Yield the lines of a table of bytes for each weight in float16, and the us of 28672x8192 that READ bounds."""
    rows = []
    for text in PATTERNS:
        pattern, cell = BalancedPattern.parse(text), Cell(*GPU_SHAPES.large, 1, text, "float16", "cuda_gemv")
        row: list[object] = [text]
        for stored in ("float16", "int8"):
            nbytes = pattern.density * slot_bytes(cell.workload, stored)
            row += [f"{nbytes:.3f}", f"{BYTES['float16'] / nbytes:.1f}", f"{1e6 * cell.n * cell.k * nbytes / READ:.0f}"]
        rows.append(row)
    yield from table(("pattern", "bytes a weight", "bound over dense", "us", "`cuda_gemv_w8`", "bound", "us"), rows)


def rounding() -> Iterator[str]:
    """Yield the lines of a table of what normally distributed rows lose of their norm in 8 bits."""
    row = np.random.default_rng(0).standard_normal((64, 4096)).astype(np.float32)
    scale = np.abs(row).max(1, keepdims=True)
    forms = {
        "whole numbers": np.round(row / scale * 127) * scale / 127,
        "e4m3": (row / scale * 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale / 448,
    }
    norm = np.linalg.norm(row, axis=1)
    losses = {name: (np.linalg.norm(form - row, axis=1) / norm).mean() for name, form in forms.items()}
    yield from table(("values in 8 bits", "lost of the norm"), [(name, f"{100 * loss:.1f}%") for name, loss in losses.items()])


def tensor_cores() -> Iterator[str]:
    """Yield a line of the time of tensor cores in 28672x8192 at 64 rows, as the cost model of `cuda_decode_mma` has it."""
    peak = math.prod(GPU_SHAPES.large) * 64 / (H200.half_gmacs * 1e9) * 1e6
    yield f"{cuda_decode_mma.TENSOR * peak:.0f} us by mma, {peak:.0f} us at the peak"


def clusters() -> Iterator[str]:
    """Yield the lines of a table of the modelled times of small layers whose thread blocks share K, and before."""
    rows = []
    for n, k, pattern in CLUSTERS:
        workload = Cell(n, k, ROWS, pattern, "float16", "cuda_decode_mma").workload
        whole, cut = cuda_decode_mma.planned(workload, whole=True), cuda_decode_mma.planned(workload)
        before, after = (cuda_decode_mma.modelled(workload, ROWS, cuda_decode_mma.H200_RATES, c) for c in (whole, cut))
        times = (f"{1e6 * before:.1f}", f"{cut.blocks}, {cut.slices}", f"{1e6 * after:.1f}")
        rows.append((f"{n}x{k}", pattern, whole.blocks, *times))
    yield from table(("N x K", "pattern", "blocks before", "us", "blocks along N, and along K", "us"), rows)


PARTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "bytes": stored_bytes,
    "clusters": clusters,
    "rounding": rounding,
    "tensor-cores": tensor_cores,
    "instructions": instructions,
    "shared-loads": shared_loads,
    "many-rows": many_rows,
}


def main() -> int:
    """Print the tables; return 2 if a tool is missing."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.counts", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which tables; all by default")
    options = parser.parse_args()
    try:
        for part in options.parts or PARTS:
            print(f"{part}:", *PARTS[part](), "", sep="\n")
    except TvmBalancedError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
