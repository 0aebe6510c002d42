"""SpellNan: a bfloat16 that is not a number, on a GPU --> its bits."""

import math

import tvm
import tvm_ffi
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs

BITS = 0x7FC0  # a quiet NaN


@tvm.transform.module_pass(opt_level=0, name="SpellNan")
class SpellNan:
    """Replace the constant, which TVM 0.27 prints as `nanf`, a function's name: no embedding in bfloat16 could be compiled.

    rewrite: `T.bfloat16(float("nan"))` --> `T.reinterpret("bfloat16", T.uint16(0x7FC0))`
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        def spell(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            body = tvm_ffi.structural_map(func.body, (tirx.FloatImm, _spelled))
            return None if body.same_as(func.body) else func.with_body(body)

        return rewrite_prim_funcs(mod, spell)


def _spelled(constant: tirx.FloatImm) -> tirx.Expr:
    if str(constant.ty.dtype) != "bfloat16" or not math.isnan(constant.value):
        return constant
    return T.reinterpret("bfloat16", tirx.const(BITS, "uint16"))
