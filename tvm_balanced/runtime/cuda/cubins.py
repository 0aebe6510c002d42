"""Machine code of a GPU's kernels: written on a machine without a GPU, and read on a machine with one.

Without CUDA's driver, TVM can only keep CUDA source in the library that it writes. It compiles that
source on first use by calling the global function `tvm_callback_cuda_compile`. This file answers
the call from the artifact.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.runtime.cuda.device import gpu_arch
from tvm_balanced.runtime.cuda.toolchain import CALLBACK, choose, for_own_arch

_known: dict[str, bytes] = {}  # machine code by the digest of its source


def write(executable: Any, arch: str, folder: Path) -> None:
    """Compile every CUDA module in `executable` for `arch` and write it to `folder`; do nothing if
    nvcc is not installed.
    """
    if not nvcc.available():
        return
    for source in sources(executable):
        folder.mkdir(exist_ok=True)
        write_source(source, arch, folder)


def write_source(source: str, arch: str, folder: Path) -> None:
    """Compile CUDA source for `arch` and write it to the existing `folder`, under the name that `load` knows it by."""
    (folder / f"{_digest(source)}.cubin").write_bytes(nvcc.cubin(source, arch))


def add(codes: Mapping[str, bytes]) -> None:
    """Let TVM find machine code, by the digest of its source, the next time it compiles that source.

    Unknown source is compiled with what works on this machine. If nothing does, TVM passes on the
    EnvironmentFaultError.
    """
    _known.update(codes)
    _answer_from_known()


def sources(executable: Any) -> list[str]:
    """Return the CUDA source of every module of a compiled model."""
    found, waiting = [], [executable.mod if hasattr(executable, "mod") else executable]
    while waiting:
        module = waiting.pop()
        waiting.extend(module.imports)
        if module.kind == "cuda":
            found.append(str(module.inspect_source()))
    return found


def _this_gpu() -> tvm.target.Target:
    return tvm.target.Target({"kind": "cuda", "arch": gpu_arch()})


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _answer_from_known() -> None:
    compiler = for_own_arch(tvm_ffi.get_global_func(CALLBACK))
    if getattr(_answer_from_known, "installed", False):
        return

    def compile_or_find(source: str) -> Any:
        found = _known.get(_digest(str(source)))
        if found is None:
            choose(tvm.target.Target.current(allow_none=True) or _this_gpu())
        return found or compiler(source)

    tvm_ffi.register_global_func(CALLBACK, compile_or_find, override=True)
    _answer_from_known.installed = True  # type: ignore[attr-defined]
