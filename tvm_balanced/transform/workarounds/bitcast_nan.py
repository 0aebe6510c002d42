"""BitcastNaN: a bfloat16 that is not a number, on a GPU --> its bits."""

import math

import tvm
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.transform.prim_funcs import map_body, rewrite_prim_funcs

BITS = 0x7FC0  # a quiet NaN


@tvm.transform.module_pass(opt_level=0, name="BitcastNaN")
class BitcastNaN:
    """Replace the constant, which TVM 0.27 prints as `nanf`, a function's name: no embedding in bfloat16 could be compiled.

    rewrite: `T.bfloat16(float("nan"))` --> `T.reinterpret("bfloat16", T.uint16(0x7FC0))`
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewrite_prim_funcs(mod, lambda _name, func: map_body(func, tirx.FloatImm, _spelled))


def _spelled(constant: tirx.FloatImm) -> tirx.Expr:
    if str(constant.ty.dtype) != "bfloat16" or not math.isnan(constant.value):
        return constant
    return T.reinterpret("bfloat16", tirx.const(BITS, "uint16"))
