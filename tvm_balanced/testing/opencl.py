"""Run GPU kernels without a GPU: the same thread-bound TensorIR as OpenCL, on the CPU through PoCL, or in Oclgrind.

PoCL executes thread blocks, barriers and shared memory as they are written; it has no float16 and
no tensor cores.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

from tvm_balanced.core.encoding import Array
from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.schedules.tir.cuda_intrinsics import HELD_WORDS, OPENCL

TARGET = {"kind": "opencl", "max_threads_per_block": 1024, "max_num_threads": 1024, "max_shared_memory_per_block": 49152}


def available(platform: str = "Portable") -> bool:
    """Whether an OpenCL platform whose name contains `platform` is installed: "Portable" for PoCL, "Oclgrind"."""
    return _context(platform) is not None


def target() -> tvm.target.Target:
    """Return the target of kernels for `run`."""
    return tvm.target.Target(TARGET, host="llvm")


class Program:
    """A scheduled function of one kernel, which is compiled once for each of the sizes of its symbols.

    Parameters
    ----------
    func : tirx.PrimFunc
        A function of one kernel; its shapes may be symbolic.
    platform : str
        Part of the name of an OpenCL platform, as for `available`.

    Raises
    ------
    EnvironmentFaultError
        If no such platform, or no pyopencl, is installed.
    """

    def __init__(self, func: tirx.PrimFunc, platform: str = "Portable") -> None:
        opened = _context(platform)
        if opened is None:
            raise EnvironmentFaultError(
                f"no OpenCL platform {platform} was found; install pyopencl, and PoCL (Debian: pocl-opencl-icd)"
            )
        self.func = func
        self._context, self._queue = opened
        self._compiled: dict[tuple[tuple[str, int], ...], tuple[Any, ...]] = {}

    def __call__(self, arguments: Sequence[Array]) -> Array:
        """Run the function once.

        Parameters
        ----------
        arguments : sequence of arrays
            One per parameter; bfloat16 as ml_dtypes.bfloat16. The last is the output; it is not changed.

        Returns
        -------
        The output.
        """
        import pyopencl as cl

        symbols = _symbols(self.func, arguments)
        kernel, names, grid, threads = self.compile(symbols)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        memory = {
            str(param.name): cl.Buffer(self._context, flags, hostbuf=_bits(array))
            for param, array in zip(self.func.params, arguments, strict=True)
        }
        given = [memory[n.removesuffix("_ptr")] if n.endswith("_ptr") else np.int64(symbols[n]) for n in names]
        kernel(self._queue, tuple(g * t for g, t in zip(grid, threads, strict=True)), threads, *given)
        out = _bits(arguments[-1]).copy()
        cl.enqueue_copy(self._queue, out, memory[str(self.func.params[-1].name)])
        self._queue.finish()
        return out.view(arguments[-1].dtype)

    def compile(self, symbols: Mapping[str, int]) -> tuple[Any, ...]:
        """Return (the kernel, the names of its parameters, thread blocks, threads of a block) for the sizes of the symbols."""
        import pyopencl as cl

        key = tuple(sorted(symbols.items()))
        if key not in self._compiled:
            source = source_of(self.func, symbols)
            name, names = _signature(source)
            kernel = getattr(cl.Program(self._context, source).build(), name)
            self._compiled[key] = kernel, names, *launch(self.func, symbols)
        return self._compiled[key]


def run(func: tirx.PrimFunc, arguments: Sequence[Array], platform: str = "Portable") -> Array:
    """Compile a scheduled function and run it once; parameters, result and errors are those of `Program`."""
    return Program(func, platform)(arguments)


def source_of(func: tirx.PrimFunc, symbols: Mapping[str, int] | None = None) -> str:
    """Return the OpenCL source of a scheduled function; NVIDIA's instructions are replaced by their definitions."""
    called: list[str] = []

    def replace(call: tvm.ir.Call) -> Any:
        if str(getattr(call.op, "name", "")) != "tirx.cuda.func_call":
            return call
        name, *arguments = list(call.args)[:-1]  # the last is the CUDA source
        called.append(str(name.value))
        dtype = str(call.ty.dtype) if hasattr(call.ty, "dtype") else "int32"  # a call for its side effect has no type
        return tirx.call_extern(dtype, called[-1], *arguments)

    body = tvm_ffi.structural_map(func.body, (tvm.ir.Call, replace))
    func = tirx.PrimFunc(func.params, body, func.ret_type, func.attrs).with_attr("global_symbol", "main")
    source = str(tvm.tirx.build(func, target=target()).imports[0].inspect_source())
    if not called:
        return source
    start = source.index("{", source.rindex("__kernel void")) + 1
    held = f"\n  __local uint held[{math.prod(launch(func, symbols)[1]) * HELD_WORDS}];"
    return OPENCL + source[:start] + held + source[start:]


def launch(func: tirx.PrimFunc, symbols: Mapping[str, int] | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (thread blocks, threads of a block) along x, y and z of a scheduled function.

    Raises
    ------
    ValueError
        If loops of one thread axis have different extents: TVM compiles these without a guard.
    """
    extents: dict[str, set[int]] = {}
    values = dict(symbols or {})

    def note(loop: tirx.For) -> None:
        if loop.thread_binding is not None:
            extents.setdefault(str(loop.thread_binding.thread_tag), set()).add(_evaluate(loop.extent, values))

    tvm_ffi.structural_walk(func.body, (tirx.For, note), order="post")
    uneven = {tag: sorted(sizes) for tag, sizes in extents.items() if len(sizes) > 1}
    if uneven:
        raise ValueError(f"loops of one thread axis differ in extent: {uneven}")

    def sizes(kind: str) -> tuple[int, ...]:
        return tuple(min(extents.get(f"{kind}.{axis}", {1})) for axis in "xyz")

    return sizes("blockIdx"), sizes("threadIdx")


def _evaluate(extent: Any, symbols: Mapping[str, int]) -> int:
    if isinstance(extent, tirx.IntImm):
        return int(extent)

    def replace(var: tirx.Var) -> Any:
        return tirx.IntImm(str(var.ty.dtype), symbols[str(var.name)])

    return int(tvm.sym.Analyzer().simplify(tvm_ffi.structural_map(extent, (type(tirx.Var("v", "int64")), replace))))


def _symbols(func: tirx.PrimFunc, arguments: Sequence[Array]) -> dict[str, int]:
    """Return the values of the symbols in the shapes of a function's parameters."""
    return {
        str(extent.name): size
        for param, array in zip(func.params, arguments, strict=True)
        for extent, size in zip(param.ty.shape, array.shape, strict=True)
        if isinstance(extent, tirx.Var)
    }


def _signature(source: str) -> tuple[str, list[str]]:
    """Return the name of the kernel in OpenCL source, and of its parameters in order."""
    found = re.search(r"__kernel void (?:__attribute__\(\([^)]*\)\)+ )?(\w+)\(([^)]*)\)", source)
    assert found is not None, source
    return found.group(1), [part.split()[-1].lstrip("*") for part in found.group(2).split(",")]


def _bits(array: Array) -> Array:
    array = np.ascontiguousarray(array)
    return array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array


@functools.cache
def _context(platform: str) -> tuple[Any, Any] | None:
    try:
        import pyopencl as cl

        devices = [d for p in cl.get_platforms() if platform in p.name for d in p.get_devices()]
    except Exception:  # not installed, or no driver: pyopencl raises its own kinds
        return None
    if not devices:
        return None
    context = cl.Context(devices[:1])
    return context, cl.CommandQueue(context)
