"""What TVM turns CUDA source into machine code with: NVRTC, its default, or nvcc."""

import os

import tvm
import tvm_ffi
from tvm.support.nvcc import compile_cuda

from tvm_balanced.errors import EnvironmentFaultError, first_line, last_line

MODE = "TVM_CUDA_COMPILE_MODE"  # the variable that tells TVM, and that a user may set
FORMATS = {"nvrtc": "cubin", "nvcc": "fatbin"}  # what TVM asks each for
_ours: set[str] = set()  # that were chosen here, not by a user
# With the headers that TVM's own source includes: NVRTC may be there without them, or with those of another version.
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
tvm_ffi.register_error("EnvironmentFaultError", EnvironmentFaultError)  # so that it comes through TVM as what it is


def compiles() -> bool:
    """Whether TVM compiles CUDA source at all; it keeps the source where CUDA's driver is missing."""
    return tvm_ffi.get_global_func("ffi.Module.create.cuda", allow_missing=True) is not None


def choose(target: tvm.target.Target, at_once: bool = False) -> None:
    """Let TVM compile for a GPU with what works on this machine; what a user chose stays.

    Parameters
    ----------
    target : target
        A GPU's.
    at_once : bool
        Whether many kernels are to be compiled at the same time. NVRTC compiles one after another (two kernels 1.6 times as long
        as one), nvcc as many as there are cores: an H200's host of 16 cores compiled 4 to 17 candidates in 30 s by NVRTC.

    Raises
    ------
    EnvironmentFaultError
        Where TVM is about to compile and nothing works.
    """
    given = os.environ.get(MODE)
    if not compiles() or (given is not None and not (at_once and given in _ours)):
        return
    why = {}
    for mode, form in sorted(FORMATS.items(), reverse=not at_once):  # nvcc, nvrtc
        try:
            with target:  # for its arch
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
