"""UnvectorizeBooleans: vectorized loops that touch booleans in memory --> unrolled ones.

TVM 0.27 reads two booleans, which are two bytes in memory, as the four bytes of a `ushort2` in CUDA:

    def main(mask: T.Buffer((64,), "bool"), y: T.Buffer((64,), "float32")):
        for i in T.thread_binding(32, thread="threadIdx.x"):
            for j in T.vectorized(2): y[i * 2 + j] = T.Select(mask[i * 2 + j], T.float32(1), T.float32(0))

Issue: not reported yet. May go when `test_plain_tvm_reads_four_bytes_for_two_booleans` fails.
"""

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

from tvm_balanced.schedules import Workload
from tvm_balanced.transform.prim_funcs import map_body, rewrite_prim_funcs


@tvm.transform.module_pass(opt_level=0, name="UnvectorizeBooleans")
class UnvectorizeBooleans:
    """Let each element of a boolean buffer be read and written by itself on a GPU.

    rewrite: `for i in T.vectorized(2): y[i] = T.Select(mask[i], ...)` --> the same with T.unroll. A masked attention stopped with
    a misaligned address on an H200, and would have read the mask of other columns if it had not.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        def unvectorize(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            return map_body(func, tirx.For, _unrolled) if Workload.of(func) is None else None

        return rewrite_prim_funcs(mod, unvectorize)


def _unrolled(loop: tirx.For) -> tirx.For:
    if loop.kind != tirx.ForKind.VECTORIZED or not _touches_booleans(loop.body):
        return loop
    return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.UNROLLED, loop.body)


def _touches_booleans(body: tirx.Stmt) -> bool:
    found: list[object] = []

    def load(read: TensorLoad) -> None:
        found.extend([read] * (str(read.ty.dtype) == "bool"))

    def store(write: tirx.BufferStore) -> None:
        found.extend([write] * (str(write.buffer.dtype) == "bool"))

    tvm_ffi.structural_walk(body, (TensorLoad, load))
    tvm_ffi.structural_walk(body, (tirx.BufferStore, store))
    return bool(found)
