"""CollapseViews: no reshape of a reshape and no transpose of a transpose."""

from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import Op
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs


@tvm.transform.module_pass(opt_level=0, name="CollapseViews")
class CollapseViews:
    """Collapse what PyTorch's decompositions and our own lowering put around matmuls and layers.

    rewrite: `reshape(reshape(x, a), b)` --> `reshape(x, b)`, `permute_dims(permute_dims(x, a), b)` --> `permute_dims(x, ab)`,
    and each to `x` where it changes nothing. A reshape alone is a view of the same memory, where FuseOps makes a copy of two.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewrite_relax_funcs(mod, _Collapse(mod))


@mutator
class _Collapse(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        name = call.op.name if isinstance(call.op, Op) else ""
        if name not in COLLAPSE:
            return call
        source = call.args[0]
        inner = self.lookup_binding(source) if isinstance(source, relax.Var) else source
        if isinstance(inner, relax.Call) and isinstance(inner.op, Op) and inner.op.name == name:
            return COLLAPSE[name](inner.args[0], call, inner)
        return COLLAPSE[name](source, call, None)


def _reshape(x: relax.Expr, outer: relax.Call, _inner: relax.Call | None) -> relax.Expr:
    if x.ty.shape is not None and tvm_ffi.structural_equal(x.ty.shape, outer.ty.shape):
        return x
    return relax.op.reshape(x, outer.ty.shape)


def _permute(x: relax.Expr, outer: relax.Call, inner: relax.Call | None) -> relax.Expr:
    axes = _axes(outer) if inner is None else [_axes(inner)[axis] for axis in _axes(outer)]
    return x if axes == sorted(axes) else relax.op.permute_dims(x, axes)


def _axes(call: relax.Call) -> list[int]:
    rank = len(call.ty.shape)
    return [int(axis) % rank for axis in call.attrs.axes] if call.attrs.axes is not None else list(range(rank))[::-1]


Collapsed = Callable[[relax.Expr, relax.Call, relax.Call | None], relax.Expr]
COLLAPSE: dict[str, Collapsed] = {"relax.reshape": _reshape, "relax.permute_dims": _permute}
