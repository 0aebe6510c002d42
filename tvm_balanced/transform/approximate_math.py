"""ApproximateMath: exp, erf, tanh and sigmoid --> polynomials that stay in vector registers."""

import tvm
from tvm import tirx
from tvm.ir import Call, Op

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.tir import activations
from tvm_balanced.transform.prim_funcs import map_body, rewrite_prim_funcs, rounds_to_bfloat16

FUNCTIONS = {
    "tirx.exp": activations.exp,
    "tirx.erf": activations.erf,
    "tirx.tanh": activations.tanh,
    "tirx.sigmoid": activations.sigmoid,
}


@tvm.transform.module_pass(opt_level=0, name="ApproximateMath")
class ApproximateMath:
    """Replace calls of transcendental functions on float32 in TVM's own operators.

    rewrite: `T.exp(x)` --> polynomial of x, accurate to 4e-7; see `schedules/tir/activations.py`. Functions that
    round to bfloat16 stay, for a polynomial binds a variable.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        def approximate(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            if Workload.of(func) is not None or rounds_to_bfloat16(func):
                return None
            return map_body(func, Call, _replace)

        return rewrite_prim_funcs(mod, approximate)


def _replace(call: Call) -> tirx.Expr:
    name = call.op.name if isinstance(call.op, Op) else ""
    if name in FUNCTIONS and str(call.ty.dtype) == "float32":
        # Bound once: a polynomial reads its argument twenty times, and what is inlined into it would be copied as often.
        x = tirx.Var("x", "float32")
        return tirx.Let(x, call.args[0], FUNCTIONS[name](x))
    return call
