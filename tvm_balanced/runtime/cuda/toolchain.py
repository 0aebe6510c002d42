"""The compiler that TVM uses for CUDA source: NVRTC, its default, or nvcc."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tvm
import tvm_ffi
from tvm.support.nvcc import compile_cuda

from tvm_balanced.errors import EnvironmentFaultError, first_line, last_line
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.runtime.cuda.nvcc import arch_of

CALLBACK = "tvm_callback_cuda_compile"  # what TVM calls to compile CUDA source
MODE = "TVM_CUDA_COMPILE_MODE"  # the variable that TVM reads, and that a user may set
FORMATS = {"nvrtc": "cubin", "nvcc": "fatbin"}  # the output that TVM requests from each
_installed = False
_ours: set[str] = set()  # modes that were chosen here, not by a user
_refuses_spills: ContextVar[bool] = ContextVar("refuses_spills", default=False)
# Includes the headers of TVM's own source: NVRTC may be installed without them, or with another version of them.
SOURCE = """
#ifdef __CUDACC_RTC__
#include <cuda/std/cstdint>
#include <cuda/std/type_traits>
#else
#include <cuda.h>
#endif
#include <cuda_fp16.h>
#include <cuda_bf16.h>
extern "C" __global__ void twice(half* x, __nv_bfloat16* y) { x[0] = __hadd(x[0], x[0]); y[0] = __hadd(y[0], y[0]); }
"""
tvm_ffi.register_error("EnvironmentFaultError", EnvironmentFaultError)  # so that TVM passes it on under its own type


def compiles() -> bool:
    """Whether TVM compiles CUDA source at all; without CUDA's driver it keeps the source."""
    return tvm_ffi.get_global_func("ffi.Module.create.cuda", allow_missing=True) is not None


@contextmanager
def without_spills() -> Iterator[None]:
    """Let nvcc, where it is what compiles, refuse a kernel that spills; TVM passes its ValueError on, whose message says so."""
    token = _refuses_spills.set(True)
    try:
        yield
    finally:
        _refuses_spills.reset(token)


def for_own_arch(compiler: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a compiler of CUDA source that compiles it for "sm_90a" where it has instructions that no other architecture has.

    Without a current target TVM asks the GPU, and adds the letter itself.
    """

    def compile_source(source: str) -> Any:
        target = tvm.target.Target.current(allow_none=True)
        arch = "" if target is None else str(target.attrs["arch"])
        if arch and _refuses_spills.get() and os.environ.get(MODE) == "nvcc":
            return nvcc.cubin_without_spills(str(source), arch)
        if target is None or arch_of(str(source), arch) == arch:
            return compiler(source)
        with tvm.target.Target({**target.export(), "arch": arch_of(str(source), arch)}):
            return compiler(source)

    return compile_source


def choose(target: tvm.target.Target, at_once: bool = False) -> None:
    """Let TVM compile for a GPU with a compiler that works on this machine. A user's choice stays.

    Parameters
    ----------
    target : target
        Target of a GPU.
    at_once : bool
        Whether many kernels are compiled at the same time. NVRTC compiles one after another, so two
        kernels take 1.6 times as long as one; nvcc uses all cores (docs/measurements/runtime.md).

    Raises
    ------
    EnvironmentFaultError
        If TVM is about to compile and no compiler works.
    """
    if compiles():
        _install()
    given = os.environ.get(MODE)
    if not compiles() or (given is not None and not (at_once and given in _ours)):
        return
    why = {}
    for mode, form in sorted(FORMATS.items(), reverse=not at_once):  # nvcc, nvrtc
        try:
            with target:  # sets its arch
                compile_cuda(SOURCE, target_format=form, compiler=mode)
        except Exception as error:  # a missing package or program, or a page of what the compiler says
            why[mode] = (first_line(error) if mode == "nvrtc" else last_line(error)).rstrip(".")
        else:
            os.environ[MODE] = mode
            _ours.add(mode)
            return
    raise EnvironmentFaultError(
        f"TVM cannot compile for {target.attrs['arch']}, neither with NVRTC ({why['nvrtc']}) nor with nvcc ({why['nvcc']}); "
        "install the CUDA toolkit with nvcc on the PATH, or pip install 'tvm-balanced[cuda]' and set CUDA_PATH to CUDA's headers"
    )


def _install() -> None:
    """Let TVM compile by `for_own_arch`, from now on."""
    global _installed
    if not _installed:
        tvm_ffi.register_global_func(CALLBACK, for_own_arch(tvm_ffi.get_global_func(CALLBACK)), override=True)
        _installed = True
