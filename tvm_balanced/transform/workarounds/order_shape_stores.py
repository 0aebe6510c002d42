"""OrderShapeStores: what a function on shapes computes, in the order of its places.

TVM 0.27 collects the sizes that it can compute in a set ordered by addresses, so the order is another one each time:

    shape[3] = shape[0] * 4                 shape[2] = shape[0] * shape[1]
    shape[2] = shape[0] * shape[1]    -->   shape[3] = shape[0] * 4

Issue: not reported yet. May go when VMShapeLower orders them.
"""

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs


@tvm.transform.module_pass(opt_level=0, name="OrderShapeStores")
class OrderShapeStores:
    """Order the stores of functions that compute shapes on the host, so that one model gives the same code each time.

    Stores of which one reads what another has written stay as they are.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewrite_prim_funcs(mod, lambda _name, func: ordered(func) if "tirx.is_host_func" in func.attrs else None)


def ordered(func: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Return a function whose body is nothing but stores with these in order; None if it is another, or they have to wait."""
    if len(func.params) != 1 or not isinstance(func.body, tirx.SeqStmt):
        return None
    stores = list(func.body.seq)
    if not all(isinstance(store, tirx.BufferStore) and place(store) is not None for store in stores):
        return None
    read: list[int | None] = []
    for store in stores:
        tvm_ffi.structural_walk(store.value, (TensorLoad, lambda load: read.append(place(load))), order="post")
    written = [place(store) for store in stores]
    if None in read or set(read) & set(written) or len(set(written)) < len(written):
        return None
    return func.with_body(tirx.SeqStmt(sorted(stores, key=place)))


def place(access: Any) -> Any:
    """Return the element that a load or a store of a vector names, if it is constant."""
    (index,) = access.indices
    return int(index) if isinstance(index, tirx.IntImm) else None
