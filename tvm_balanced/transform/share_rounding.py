"""Rows of x that several layers would round alike are rounded once, before the first of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import tvm
import tvm_ffi
from tvm import relax, tirx

from tvm_balanced.ops import RECURRENT_STATE, is_call, is_dense_op
from tvm_balanced.schedules import Workload, shared_rounding
from tvm_balanced.transform.dense_calls import matrices_of, variants_of

NAME = "round_rows"  # of the functions that it adds


@dataclass
class SharedRounding:
    """What the layers of a function share.

    Parameters
    ----------
    keys : mapping
        Each call whose rows of x another call rounds alike, to what is equal for both: x, and how its rows are rounded.
    rows : dict
        The rounded rows that there are already.
    """

    keys: Mapping[relax.Call, tuple[relax.Var, int]] = field(default_factory=dict)
    funcs: Mapping[int, tuple[tirx.PrimFunc, Workload]] = field(default_factory=dict)
    rows: dict[tuple[relax.Var, int], list[relax.Expr]] = field(default_factory=dict)

    @classmethod
    def of(cls, func: relax.Function) -> "SharedRounding":
        """Return what the layers of a function share, nothing of which is there yet."""
        bound = relax.analysis.get_var2val(func)
        keys: dict[relax.Call, tuple[relax.Var, int]] = {}
        funcs: dict[int, tuple[tirx.PrimFunc, Workload]] = {}
        for call in bound.values():
            made = _rounding(call, bound)
            if made is not None:
                key = tvm_ffi.structural_hash(made[0])
                keys[call], funcs[key] = (call.args[0], key), made
        count = Counter(keys.values())
        return cls({call: key for call, key in keys.items() if count[key] > 1}, funcs)

    def begin(self) -> None:
        """Forget the rows that there are: a block of bindings begins."""
        self.rows = {}

    def rounded(self, builder: relax.BlockBuilder, call: relax.Call, lowered: relax.Call) -> list[relax.Expr] | None:
        """Return the rounded rows of a call's x, None if its kernel rounds them; `lowered` is the call with new arguments."""
        key = self.keys.get(call)
        if key is None:
            return None
        if key not in self.rows:
            func, workload = self.funcs[key[1]]
            made = shared_rounding.schedule(func, workload, tvm.target.Target.current())
            (shape, _), flat = matrices_of(lowered), len(lowered.ty.shape) == 2
            x = lowered.args[0] if flat else builder.emit(relax.op.reshape(lowered.args[0], relax.ShapeExpr(shape)))
            types = [relax.TensorType([shape[0], *param.shape[1:]], param.dtype) for param in func.params[1:]]
            rows = builder.emit(relax.call_tir(builder.add_func(made, NAME), [x], types))
            self.rows[key] = [builder.emit(relax.TupleGetItem(rows, place)) for place in range(len(types))]
        return self.rows[key]


def _rounding(call: relax.Expr, bound: Mapping[relax.Var, relax.Expr]) -> tuple[tirx.PrimFunc, Workload] | None:
    """Return what rounds x for a call, and its workload; None if its kernel does not, or x is the state of a recurrence."""
    if not is_dense_op(call) or not isinstance(call.args[0], relax.Var) or is_call(bound.get(call.args[0]), RECURRENT_STATE):
        return None
    variants = variants_of(call)
    if len(variants) != 1:
        return None
    workload = variants[0].workload
    func = shared_rounding.prim_func(workload)
    return None if func is None else (func, workload)
