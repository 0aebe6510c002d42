"""ExactMath: pow, tanh, sin, cos and tan on a GPU --> arithmetic that fast math cannot spoil.

TVM 0.27 has all CUDA source compiled with `--use_fast_math`, by nvcc and by NVRTC, whatever the model computes:

    @T.prim_func(s_tir=True)
    def main(x: T.Buffer((32,), "float32")):
        for i in T.thread_binding(32, thread="threadIdx.x"): x[i] = T.pow(x[i], T.float32(2))  # NaN for every x < 0

The variable TVM_CUDA_NVCC_NO_FAST_MATH turns it off for nvcc, not for NVRTC, and for exp and division too.
Issue: not reported yet. May go when `test_plain_tvm_compiles_a_square_to_a_logarithm` fails.
"""

from collections.abc import Callable

import tvm
from tvm import tirx
from tvm.ir import Call, Op
from tvm.script import tirx as T

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.tir import activations
from tvm_balanced.transform.prim_funcs import map_body, rewrite_prim_funcs

LARGEST_PRODUCT = 4  # exponents up to it are multiplied out
FUNCTIONS: dict[str, Callable[[tirx.Expr], tirx.Expr]] = {
    "tirx.tanh": activations.tanh,
    "tirx.sin": activations.sin,
    "tirx.cos": activations.cos,
    "tirx.tan": lambda x: activations.sin(x) / activations.cos(x),
}


@tvm.transform.module_pass(opt_level=0, name="ExactMath")
class ExactMath:
    """Replace functions on float32 and half precision that `--use_fast_math`, with which TVM has CUDA compiled, makes wrong.

    rewrite: `T.pow(x, 2)` --> x * x. Fast math computes exp2(y * log2(x)), which is NaN for every negative x; this took all
    models with an RMSNorm. tanh would be off by 5e-4, and sin and cos of thousands, as in rotary embeddings, by anything.
    exp, log, division and roots lose a unit or two in the last place and stay.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        def exact(_name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            return map_body(func, Call, _replace) if Workload.of(func) is None else None

        return rewrite_prim_funcs(mod, exact)


def _replace(call: Call) -> tirx.Expr:
    name = call.op.name if isinstance(call.op, Op) else ""
    dtype = str(call.ty.dtype) if name == "tirx.pow" or name in FUNCTIONS else ""
    if dtype not in ("float32", "float16", "bfloat16"):
        return call
    x = tirx.Var("x", "float32")
    result = FUNCTIONS[name](x) if name in FUNCTIONS else _power(x, T.cast(call.args[1], "float32"))
    # Bound once: what is inlined into x would be copied as often as it is read. T.cast leaves a float32 as it is.
    return T.cast(tirx.Let(x, T.cast(call.args[0], "float32"), result), dtype)


def _power(x: tirx.Var, y: tirx.Expr) -> tirx.Expr:
    """Return x to the power of y, which may be negative, as torch and C define it."""
    if isinstance(y, tirx.FloatImm):
        return _constant_power(x, float(y.value))
    exponent = tirx.Var("y", "float32")
    size = T.pow(T.abs(x), exponent)
    odd = T.floor(exponent * T.float32(0.5)) * T.float32(2) != exponent
    whole = T.floor(exponent) == exponent
    negative = T.Select(whole, T.Select(odd, -size, size), T.float32(float("nan")))
    result = T.Select(exponent == T.float32(0), T.float32(1), T.Select(x < T.float32(0), negative, size))
    return tirx.Let(exponent, y, result)


def _constant_power(x: tirx.Var, y: float) -> tirx.Expr:
    if y == 0:
        return T.float32(1)
    if abs(y) == 0.5:
        return T.sqrt(x) if y > 0 else T.rsqrt(x)
    if y != int(y):  # NaN of a negative x, as it must be
        return T.pow(x, T.float32(y))
    if abs(y) <= LARGEST_PRODUCT:
        product: tirx.Expr = x
        for _ in range(int(abs(y)) - 1):
            product = product * x
        return product if y > 0 else T.float32(1) / product
    size = T.pow(T.abs(x), T.float32(y))
    return T.Select(x < T.float32(0), -size, size) if y % 2 else size
