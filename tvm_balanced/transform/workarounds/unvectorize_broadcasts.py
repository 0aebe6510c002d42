"""UnvectorizeBroadcasts: vectorized loops that store one bfloat16 many times, on a CPU --> loops of single stores.

TVM 0.27 makes such a value a `T.Broadcast`, and stores bfloat16 as uint16, but leaves the dtype of the Broadcast as it was:

    @T.prim_func(s_tir=True)
    def main(y: T.Buffer((8,), "bfloat16")):
        for i in T.vectorized(8): y[i] = T.bfloat16(0)  # "dtype mismatch on BufferStore: buffer's dtype is `T.uint16`"

Issue: not reported yet. May go when `test_plain_tvm_cannot_store_a_broadcast` fails.
"""

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize

from tvm_balanced.schedules import Workload
from tvm_balanced.transform.prim_funcs import map_body, rewrite_prim_funcs


@tvm.transform.module_pass(opt_level=0, name="UnvectorizeBroadcasts")
class UnvectorizeBroadcasts:
    """Store a bfloat16 that is the same for all lanes one at a time; LLVM makes vectors of such loops by itself.

    rewrite: `for i in T.vectorized(8): y[i] = T.bfloat16(0)` --> `for i in range(8): ...`. The first state of a recurrent layer
    and a mask that a row is filled with are of this kind.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        def unvectorize(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            return map_body(func, tirx.For, _serial) if Workload.of(func) is None else None

        return rewrite_prim_funcs(mod, unvectorize)


def _serial(loop: tirx.For) -> tirx.For:
    if loop.kind != tirx.ForKind.VECTORIZED or not _broadcasts(loop):
        return loop
    return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)


def _broadcasts(loop: tirx.For) -> bool:
    """Whether a loop stores a bfloat16 that depends neither on its variable nor on one of a block that is bound to it."""
    lanes: list[tirx.Var] = [loop.loop_var]
    stores: list[tirx.BufferStore] = []

    def bind(realize: SBlockRealize) -> None:
        pairs = zip(realize.block.iter_vars, realize.iter_values, strict=True)
        lanes.extend(iterator.var for iterator, value in pairs if _reads(value, lanes))

    tvm_ffi.structural_walk(loop.body, (SBlockRealize, bind))
    tvm_ffi.structural_walk(loop.body, (tirx.BufferStore, stores.append))
    return any(str(store.buffer.dtype) == "bfloat16" and not _reads(store.value, lanes) for store in stores)


def _reads(value: tirx.Expr, lanes: list[tirx.Var]) -> bool:
    return any(var.same_as(lane) for var in tirx.analysis.undefined_vars(value) for lane in lanes)
