"""Machine code of the kernels of the plan, compiled where there is no GPU: `python -m benchmarks.gpu.known_code FILE`.

Compiling takes longer than measuring, and needs no GPU. The archive names code by the digest of its
CUDA source; what it does not hold is compiled as usual. The same command adds what is missing.
"""

import argparse
import hashlib
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import tvm
from tvm import tirx

from benchmarks.gpu.cells import GPU_SHAPES, by_section
from benchmarks.gpu.correctness import cases
from benchmarks.gpu.correctness import scheduled as scheduled_case
from benchmarks.gpu.device import Absent, Device
from benchmarks.gpu.layer import scheduled
from benchmarks.gpu.measuring import own_dense
from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.cuda import cubins, nvcc
from tvm_balanced.schedules.base import cuda_config

ARCH = "sm_90"
BATCH = 8  # kernels between two looks at the clock
SUFFIX = ".cubin"


def write(path: Path, funcs: Iterable[tirx.PrimFunc], target: tvm.target.Target, until: float = float("inf")) -> int:
    """Add the machine code of scheduled functions to an archive, until a time of time.time; return how many it holds then."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as archive, ThreadPoolExecutor() as pool:
        known, waiting = set(archive.namelist()), dict[str, str]()

        def compile_waiting() -> None:
            codes = pool.map(partial(nvcc.cubin, arch=ARCH), waiting.values())
            for name, code in zip(waiting, codes, strict=True):
                archive.writestr(name, code)
            known.update(waiting)
            waiting.clear()

        for func in funcs:
            if time.time() >= until:
                break
            for source in _sources(func, target):
                name = hashlib.sha256(source.encode()).hexdigest() + SUFFIX
                if name not in known:
                    waiting[name] = source
            if len(waiting) >= BATCH:
                compile_waiting()
        compile_waiting()
        return len(known)


def use(path: Path) -> int:
    """Let TVM find the machine code in an archive; return how many kernels it holds."""
    with zipfile.ZipFile(path) as archive:
        codes = {name.removesuffix(SUFFIX): archive.read(name) for name in archive.namelist()}
    cubins.add(codes)
    return len(codes)


def of_plan(device: Device) -> Iterator[tirx.PrimFunc]:
    """Yield the scheduled functions of the plan's cases and cells, in its order."""
    first, later = cases(device)
    sections = by_section(device, GPU_SHAPES)
    yield from (scheduled_case(case, device) for case in first)
    for cells in sections.values():
        for cell in cells:
            yield from (scheduled(each, device) for each in (cell, *own_dense(cell)))
    yield from (scheduled_case(case, device) for case in later)


def _sources(func: tirx.PrimFunc, target: tvm.target.Target) -> list[str]:
    """Return a function's CUDA source, as it is on the machine with the GPU."""
    with target, tvm.transform.PassContext(config=cuda_config.PASS_CONFIG):
        return cubins.sources(build(func.with_attr("global_symbol", "main"), target))


def main() -> int:
    """Compile what the archive lacks of the plan."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.known_code", description=__doc__)
    parser.add_argument("archive", type=Path, help="such as build/gpu_kernels.zip")
    parser.add_argument("--minutes", type=float, default=20, help="begin no kernel after that; %(default)s by default")
    options = parser.parse_args()
    options.archive.parent.mkdir(parents=True, exist_ok=True)
    device = Absent()
    count = write(options.archive, of_plan(device), device.target, time.time() + 60 * options.minutes)
    print(f"{count} kernels, {options.archive.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
