"""FuseEpilogue: take bias, residual and activation into the dense operators, where they are applied in registers."""

from collections import Counter
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import GenericConst, Op
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.ops import bias_of, conv_of, is_dense_op, residual_of
from tvm_balanced.transform.match_dense import constant_value
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

ACTIVATION_OPS = {
    "relax.nn.relu": "relu",
    "relax.nn.gelu": "gelu",
    "relax.nn.gelu_tanh": "gelu_tanh",
    "relax.nn.silu": "silu",
}


@tvm.transform.module_pass(opt_level=0, name="FuseEpilogue")
class FuseEpilogue:
    """Fuse what follows a dense operator and has no other reader.

    rewrite: `relu(add(balanced_dense(x, v, i), bias))` --> `balanced_dense(x, v, i, bias, activation="relu")`, the same for
    packed_dense, for the bias on either side of the addition, and for each of `ACTIVATION_OPS`. What is added and has the
    result's shape becomes the residual.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        fuser = _Fuser(mod)
        return rewrite_relax_funcs(mod, fuser, fuser.start)


@mutator
class _Fuser(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.uses: Counter[relax.Var] = Counter()
        self.biases: dict[tuple[Any, ...], relax.Expr] = {}

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.uses = count_uses(func)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        single = [isinstance(arg, relax.Var) and self.uses[arg] == 1 for arg in call.args]
        call = self.visit_expr_post_order(call)
        name = call.op.name if isinstance(call.op, Op) else ""
        if name == "relax.add" and not call.args[0].same_as(call.args[1]):
            for side in (0, 1):
                fused = self.with_bias(call.args[side], call.args[1 - side]) if single[side] else None
                if fused is not None:
                    return fused
            for side in (0, 1):
                fused = self.with_residual(call.args[side], call.args[1 - side]) if single[side] else None
                if fused is not None:
                    return fused
        if name in ACTIVATION_OPS and single[0]:
            fused = self.with_activation(call.args[0], ACTIVATION_OPS[name])
            if fused is not None:
                return fused
        return call

    def with_bias(self, value: relax.Expr, bias: relax.Expr) -> relax.Expr | None:
        dense = self.open_dense(value)
        if dense is None or bias_of(dense) is not None or residual_of(dense) is not None:
            return None
        constant = self.as_bias(dense, bias)
        return None if constant is None else relax.Call(dense.op, [*dense.args, constant], dict(dense.attrs.items()))

    def as_bias(self, dense: relax.Call, bias: relax.Expr) -> relax.Expr | None:
        """Return a constant (N,) for what is added to the result of `dense`, None where it is not one number for each row."""
        if bias.ty.dtype != dense.ty.dtype:
            return None
        if conv_of(dense) is None:
            is_bias = (
                isinstance(bias, GenericConst) and len(bias.ty.shape) == 1 and int(bias.ty.shape[0]) == int(dense.ty.shape[-1])
            )
            return bias if is_bias else None
        rank, n = len(dense.ty.shape), int(dense.ty.shape[1])
        known = constant_value(bias, self.lookup_binding)
        if known is None or (1,) * (rank - known[0].ndim) + known[0].shape != (1, n, *(1,) * (rank - 2)):
            return None
        key = known[1]
        if key not in self.biases:
            self.biases[key] = relax.const(np.ascontiguousarray(known[0].reshape(n)))
        return self.biases[key]

    def with_residual(self, value: relax.Expr, residual: relax.Expr) -> relax.Expr | None:
        dense = self.open_dense(value)
        if dense is None or residual_of(dense) is not None or not tvm_ffi.structural_equal(dense.ty, residual.ty):
            return None
        return relax.Call(dense.op, [*dense.args, residual], {**dict(dense.attrs.items()), "has_residual": True})

    def open_dense(self, value: relax.Expr) -> Any:
        """Return the dense operator that `value` is the result of, None where it is none or ends in an activation."""
        dense = self.lookup_binding(value) if isinstance(value, relax.Var) else value
        return dense if is_dense_op(dense) and str(dense.attrs["activation"]) == "none" else None

    def with_activation(self, value: relax.Expr, activation: str) -> relax.Expr | None:
        dense = self.open_dense(value)
        if dense is None:
            return None
        return relax.Call(dense.op, list(dense.args), {**dict(dense.attrs.items()), "activation": activation})


def count_uses(func: relax.Function) -> Counter[relax.Var]:
    """Count in how many bindings (and results) of `func` each variable is read."""
    uses: Counter[relax.Var] = Counter()
    for block in func.body.blocks:
        for binding in block.bindings:
            uses.update(relax.analysis.free_vars(binding.value))
    uses.update(relax.analysis.free_vars(func.body.body))
    return uses
