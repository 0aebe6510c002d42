"""BitcastNaN: a bfloat16 that is not a number, or infinite, on a GPU --> its bits.

TVM 0.27 prints the constant as `nanf`, which names a function of C, and infinity as `inff`, so that nvcc and NVRTC refuse the
source:

    @T.prim_func(s_tir=True)
    def main(y: T.Buffer((32,), "bfloat16")):
        for i in T.thread_binding(32, thread="threadIdx.x"): y[i] = T.bfloat16(float("nan"))

Issue: not reported yet. May go when `test_plain_tvm_prints_the_name_of_a_function` fails.
"""

import math

import tvm
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.transform.prim_funcs import map_body, rewrite_prim_funcs

BITS = 0x7FC0  # a quiet NaN
INFINITY, SIGN = 0x7F80, 0x8000


@tvm.transform.module_pass(opt_level=0, name="BitcastNaN")
class BitcastNaN:
    """Replace the constants: NaN is in every embedding in bfloat16 that CheckLookups made safe, infinity in every mask.

    rewrite: `T.bfloat16(float("nan"))` --> `T.reinterpret("bfloat16", T.uint16(0x7FC0))`
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewrite_prim_funcs(mod, lambda _name, func: map_body(func, tirx.FloatImm, _spelled))


def _spelled(constant: tirx.FloatImm) -> tirx.Expr:
    if str(constant.ty.dtype) != "bfloat16" or math.isfinite(constant.value):
        return constant
    bits = BITS if math.isnan(constant.value) else INFINITY | (SIGN if constant.value < 0 else 0)
    return T.reinterpret("bfloat16", tirx.const(bits, "uint16"))
