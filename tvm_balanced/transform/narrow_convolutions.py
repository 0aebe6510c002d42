"""NarrowConvolutions: on a GPU a convolution in half precision stays in it, so that tensor cores and a library compute it."""

from collections import Counter
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.dtypes import HALF_PRECISION, numpy_dtype
from tvm_balanced.ops import is_call
from tvm_balanced.runtime.target_features import is_gpu
from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.match_conv import match_conv
from tvm_balanced.transform.match_dense import constant_value
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

CONVOLUTIONS = {f"relax.nn.conv{axes}d": getattr(relax.op.nn, f"conv{axes}d") for axes in (1, 2, 3)}


@tvm.transform.module_pass(opt_level=0, name="NarrowConvolutions")
class NarrowConvolutions:
    """Give convolutions of half precision results of half precision, where the current target is a GPU.

    rewrite: `astype(add(conv2d(x, W, out_dtype="float32"), bias), "float16")` --> `add(conv2d(x, W), astype(bias, "float16"))`
    where x is float16 and W and bias are constant; the same without bias. Kernels still sum in float32, but the result is
    rounded before the bias is added where a library computes it, as PyTorch does. CPUs keep float32.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target = tvm.target.Target.current(allow_none=True)
        if target is None or not is_gpu(target):
            return mod
        narrowing = _Narrowing(mod)
        return rewrite_relax_funcs(mod, narrowing, narrowing.start)


@mutator
class _Narrowing(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.uses: Counter[relax.Var] = Counter()

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.uses = count_uses(func)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not is_call(call, "relax.astype"):
            return call
        narrowed = self.narrowed(call.args[0], str(call.ty.dtype.dtype))
        return call if narrowed is None else narrowed

    def narrowed(self, value: relax.Expr, dtype: str) -> relax.Expr | None:
        """Return a convolution, and its bias, in half precision; None where `value` is something else or has other readers."""
        result, bias = self.only(value), None
        if is_call(result, "relax.add"):
            left, right = result.args
            left, right = (left, right) if is_call(self.only(left), *CONVOLUTIONS) else (right, left)
            bias = constant_value(right, self.lookup_binding)
            result = None if bias is None else self.only(left)
        conv: Any = result if is_call(result, *CONVOLUTIONS) else None
        if conv is None or dtype not in HALF_PRECISION or any(str(arg.ty.dtype.dtype) != dtype for arg in conv.args):
            return None
        if str(conv.ty.dtype.dtype) != "float32" or match_conv(conv, self.lookup_binding) is None:
            return None
        attrs = conv.attrs
        y = CONVOLUTIONS[conv.op.name](*conv.args, attrs.strides, attrs.padding, attrs.dilation, attrs.groups, out_dtype=dtype)
        if bias is None:
            return y
        return relax.op.add(self.builder_.emit(y), relax.const(bias[0].astype(numpy_dtype(dtype)), dtype))

    def only(self, value: relax.Expr) -> Any:
        """Return what a variable is bound to that is read once, None for others."""
        return self.lookup_binding(value) if isinstance(value, relax.Var) and self.uses[value] == 1 else None
