"""64-bit ARM without one: code that LLVM writes for it, and bundles that qemu runs.

TVM_BALANCED_AARCH64 names a folder with the packages tvm and tvm_ffi of aarch64, as `make test-arm` makes it.
"""

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tvm

from tvm_balanced.compiler.build import build
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.bundle import package
from tvm_balanced.schedules import KERNELS, Workload

CXX, QEMU, JSON = "aarch64-linux-gnu-g++", "qemu-aarch64", Path("/usr/include/nlohmann")
PACKAGES = os.environ.get("TVM_BALANCED_AARCH64")
on_qemu = pytest.mark.skipif(
    not (PACKAGES and shutil.which(CXX) and shutil.which(QEMU) and JSON.exists()),
    reason=f"{CXX}, {QEMU}, nlohmann-json3-dev and TVM_BALANCED_AARCH64 (make test-arm) are needed",
)


def target(cpu):
    return tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": cpu, "num-cores": 1})


def loop_of(name, cpu, instruction, m, pattern, n=3072, k=768):
    """The instructions of the innermost loop of a layer: that with the most of one instruction a line."""
    kernel, parsed = KERNELS[name], BalancedPattern.parse(pattern)
    workload = Workload(name, m, n, k, parsed.nnz, parsed.block)
    function = kernel.schedule(kernel.prim_func(workload), workload, target(cpu)).with_attr("global_symbol", "main")
    lines = build(function, target(cpu)).mod.inspect_source("asm").splitlines()
    labels = {line.split(":")[0]: at for at, line in enumerate(lines) if line.startswith(".L")}
    jumps = [
        (labels.get(j[1], at), at)
        for at, line in enumerate(lines)
        if (j := re.match(r"\t(?:b[.\w]*|cbn?z\t\w+,)\s*(\.L\w+)", line))
    ]
    loops = [lines[start:end] for start, end in jumps if start < end]
    return max(loops, key=lambda loop: sum(f"\t{instruction}\t" in line for line in loop) / len(loop))


def count(loop, *instructions):
    """How often each instruction stands in a loop."""
    return {word: sum(f"\t{word}\t" in line for line in loop) for word in instructions}


@functools.cache
def _programs():
    """The program of the first bundle, which runs every artifact."""
    return []


def bundled(artifact):
    """A program for artifacts, from a bundle of this one if there is none yet."""
    if not _programs():
        folder = Path(tempfile.mkdtemp(prefix="tvm_balanced-aarch64-"))
        (folder / "json").mkdir()
        (folder / "json" / "nlohmann").symlink_to(JSON)
        bundle = package(artifact, folder / "bundle", cxx=CXX, packages=PACKAGES, json_include=folder / "json")
        _programs().append(bundle.path / "bin" / "run")
    return _programs()[0]


def ran(artifact, *arguments):
    """Run an artifact under qemu and return what was printed."""
    command = [QEMU, "-L", "/usr/aarch64-linux-gnu", bundled(artifact), artifact, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def called(artifact, module, arrays, folder):
    """Call an artifact under qemu with arrays; return its outputs in order."""
    files = [folder / f"x{i}.npy" for i in range(len(arrays))]
    for file, array in zip(files, arrays, strict=True):
        np.save(file, array)
    ran(artifact, *files, "-o", folder)
    return [np.load(folder / f"{spec.name}.npy") for spec in module.facts.outputs]
