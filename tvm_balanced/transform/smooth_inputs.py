"""SmoothInputs: x of a dense layer is divided by a factor for each column, and its weight multiplied by it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.encoding import Array
from tvm_balanced.runtime.tensors import address_of
from tvm_balanced.transform.match_dense import match_dense
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs


@tvm.transform.module_pass(opt_level=0, name="SmoothInputs")
class SmoothInputs:
    """Smooth the columns of x before they are rounded (Xiao et al., SmoothQuant, 2023).

    rewrite: `matmul(x, W)` --> `matmul(x * factor, W / factor)`, equal but for rounding. If a few columns of x are far larger
    than the others, a row's step is too coarse for these; the factors move that difference into the weight.

    Parameters
    ----------
    factors : mapping
        Layer to its factors (K,) float32, powers of two, so that the rewrite itself rounds nothing.
    names : dict
        Address of a weight to its layer's name; receives those of the new weights.
    """

    def __init__(self, factors: Mapping[str, Array], names: dict[int, str]) -> None:
        self.factors, self.names = factors, names

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewrite_relax_funcs(mod, _Smoother(mod, self.factors, self.names)) if self.factors else mod


@mutator
class _Smoother(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, factors: Mapping[str, Array], names: dict[int, str]) -> None:
        super().__init__(mod)
        self.factors, self.names = factors, names
        self.made: dict[Any, tuple[relax.Expr, relax.Expr]] = {}

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        match = match_dense(call, self.lookup_binding)
        name = None if match is None else next((self.names[a] for a in match.addresses if a in self.names), None)
        if match is None or name is None or name not in self.factors:
            return call
        if match.key not in self.made:
            factor = self.factors[name]
            weight = relax.const(np.ascontiguousarray((match.weight / factor).T.astype(np.float32)))
            self.names[address_of(weight.value)] = name
            self.made[match.key] = relax.const(factor), weight
        factor, weight = self.made[match.key]
        return relax.op.matmul(self.builder_.emit(relax.op.multiply(match.x, factor)), weight)
