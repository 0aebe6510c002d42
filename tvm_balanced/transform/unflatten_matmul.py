"""UnflattenMatmul: multiply stacks of matrices as they are, where PyTorch flattens them first and back afterwards."""

from collections import Counter

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import Op
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

VIEWS = ("relax.reshape", "relax.broadcast_to")


@tvm.transform.module_pass(opt_level=0, name="UnflattenMatmul")
class UnflattenMatmul:
    """Drop the views around batched matmuls, which keep what follows (scale, mask) from being fused with them.

    rewrite: `reshape(matmul(reshape(a), reshape(b)), shape)` --> `matmul(a, b)` where a, b and the result have the same
    leading dimensions, and `reshape(a)`, `reshape(b)` only flatten those to one. A view that changes nothing goes as well.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        rewriter = _Unflatten(mod)
        return rewrite_relax_funcs(mod, rewriter, rewriter.start)


@mutator
class _Unflatten(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.uses: Counter[relax.Var] = Counter()

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.uses = count_uses(func)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        # a product that something else reads too would be computed twice
        alone = bool(call.args) and isinstance(call.args[0], relax.Var) and self.uses[call.args[0]] == 1
        call = self.visit_expr_post_order(call)
        if _name(call) not in VIEWS:
            return call
        if _same(_shape(call.args[0]), _shape(call)):
            return call.args[0]
        if _name(call) != "relax.reshape":
            return call
        product = self.lookup(call.args[0])
        if not alone or _name(product) != "relax.matmul":
            return call
        a, b = (self.stacked(arg) for arg in product.args)
        if a is None or b is None or not _same(_shape(a)[:-2], _shape(b)[:-2]):
            return call
        shape = [*_shape(a)[:-1], _shape(b)[-1]]
        return relax.op.matmul(a, b, call.ty.dtype.dtype) if _same(shape, _shape(call)) else call

    def lookup(self, value: relax.Expr) -> relax.Expr:
        bound = self.lookup_binding(value) if isinstance(value, relax.Var) else None
        return value if bound is None else bound

    def stacked(self, flat: relax.Expr) -> relax.Expr | None:
        """Return what `flat` is a reshape of, where that only joined the leading dimensions to one."""
        view = self.lookup(flat)
        if _name(view) != "relax.reshape":
            return None
        source = view.args[0]
        joined = len(_shape(flat)) == 3 and len(_shape(source)) > 3 and _same(_shape(source)[-2:], _shape(flat)[-2:])
        return source if joined else None


def _name(expr: relax.Expr) -> str:
    return expr.op.name if isinstance(expr, relax.Call) and isinstance(expr.op, Op) else ""


def _shape(expr: relax.Expr) -> list[relax.Expr]:
    return list(expr.ty.shape) if isinstance(expr.ty, relax.TensorType) and expr.ty.shape is not None else []


def _same(one: list[relax.Expr], other: list[relax.Expr]) -> bool:
    return len(one) == len(other) and all(tvm_ffi.structural_equal(a, b) for a, b in zip(one, other, strict=True))
