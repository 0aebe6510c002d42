"""LowerRecurrence: recurrence --> call_tir of one loop over time around the scheduled functions of its products."""

from collections.abc import Mapping
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.ops import RECURRENCE, RECURRENT_STATE, is_call
from tvm_balanced.runtime.target_features import is_gpu
from tvm_balanced.schedules import recurrent_loop
from tvm_balanced.schedules.base.expressions import substitute
from tvm_balanced.schedules.recurrent_loop import STATE, Call, Product, Recurrence
from tvm_balanced.schedules.tir.recurrent_cells import GATES
from tvm_balanced.transform.match_dense import resolve
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

CALL_TIR = "relax.call_tir"


@tvm.transform.module_pass(opt_level=0, name="LowerRecurrence")
class LowerRecurrence:
    """Make a loop of every recurrent layer, after everything is scheduled.

    rewrite: `recurrence(gates, h, c, call_tir(cpu_avx512, (recurrent_state(h, gates), *packed)))` -->
    `call_tir(lstm, (gates, h, c, *packed))`, whose TensorIR is a loop around that of cpu_avx512 and a cell. So the size of the
    module does not depend on the number of steps, and the state stays in the caches.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        lowering = _Lowering(mod)
        return rewrite_relax_funcs(mod, lowering, lowering.start)


@mutator
class _Lowering(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.mod = mod
        self.bound: Mapping[relax.Var, relax.Expr] = {}

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.bound = relax.analysis.get_var2val(func)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if not is_call(call, RECURRENCE):
            return self.visit_expr_post_order(call)
        states = 2 if call.attrs["cell"] == "lstm" else 1
        gates, *initial = call.args[: 1 + states]
        products: list[Product] = []
        outside: list[relax.Expr] = []
        for product in call.args[1 + states :]:
            calls, tensors = self.calls(product)
            products.append(calls)
            outside += tensors
        func = recurrent_loop.prim_func(_layer(call), products, is_gpu(tvm.target.Target.current()))
        arguments = [self.visit_expr(arg) for arg in (gates, *initial, *outside)]
        results = [*call.ty.fields, *_scratch(func, call, len(arguments) + len(call.ty.fields))]
        return relax.call_tir(self.builder_.add_func(func, str(call.attrs["cell"])), arguments, results)

    def calls(self, product: relax.Expr) -> tuple[list[Call], list[relax.Expr]]:
        """Return the calls of functions that make a product of the state, in order, and the tensors that they read besides."""
        calls: list[Call] = []
        tensors: list[relax.Expr] = []
        places: dict[relax.Var, str | int | None] = {}

        def place(expr: relax.Expr) -> str | int | None:
            value = resolve(expr, self.bound.get)
            if is_call(value, RECURRENT_STATE):
                return STATE
            if not is_call(value, CALL_TIR):
                return None
            if expr not in places:
                operands = tuple(map(place, value.args[1].fields))
                places[expr] = None
                if any(operand is not None for operand in operands):
                    places[expr] = len(calls)
                    pairs = zip(value.args[1].fields, operands, strict=True)
                    tensors.extend(arg for arg, operand in pairs if operand is None)
                    calls.append(Call(self.mod[value.args[0]], operands))
            return places[expr]

        place(product)
        return calls, tensors


def _layer(call: relax.Call) -> Recurrence:
    gates, h = (arg.ty for arg in call.args[:2])
    cell, batch_first = str(call.attrs["cell"]), bool(call.attrs["batch_first"])
    batch, length = (_known(gates.shape[axis]) for axis in ((0, 1) if batch_first else (1, 0)))
    units, width = int(gates.shape[2]) // GATES[cell], int(h.shape[1])
    reverse = bool(call.attrs["reverse"])
    return Recurrence(cell, length, batch, units, width, str(gates.dtype.dtype), reverse, batch_first)


def _known(size: Any) -> int | None:
    return int(size) if isinstance(size, tirx.IntImm) else None


def _scratch(func: tirx.PrimFunc, call: relax.Call, first: int) -> list[relax.TensorType]:
    """Return the types of a function's parameters from the `first` on, in the caller's symbols."""
    symbols = [
        (symbol, size)
        for symbol, size in zip(func.params[0].shape, call.args[0].ty.shape, strict=True)
        if isinstance(symbol, tirx.Var)
    ]
    return [relax.TensorType([substitute(size, symbols) for size in p.shape], p.dtype) for p in func.params[first:]]
