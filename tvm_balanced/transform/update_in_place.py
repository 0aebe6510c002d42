"""UpdateInPlace: what a model writes to a donated input is written where that lies, if nothing reads the old values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir import put_in_place
from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.match_attention import op_name
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

Donated = Mapping[str, Mapping[int, int]]  # function to place of an input to place of the output that takes its place


@tvm.transform.module_pass(opt_level=0, name="UpdateInPlace")
class UpdateInPlace:
    """Write a cache where it lies, on a CPU.

    rewrite: `scatter_elements(cache, i, new)` --> `call_tir_inplace(put, (cache, i, new), inplace_indices=0)`, the same for
    index_put and slice_scatter, where cache is a donated input, or such a result in its turn, nothing else reads it, and the
    result is the output that takes its place.

    Parameters
    ----------
    donated : mapping
    """

    def __init__(self, donated: Donated) -> None:
        self.donated = donated

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        updating = _Updating(mod, self.donated)
        return rewrite_relax_funcs(mod, updating, updating.start) if any(self.donated.values()) else mod


@mutator
class _Updating(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, donated: Donated) -> None:
        super().__init__(mod)
        self.donated = donated
        self.bound: Mapping[relax.Var, relax.Expr] = {}
        self.updates: list[relax.Call] = []

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        uses, self.bound, self.updates = count_uses(func), relax.analysis.get_var2val(func), []
        places = self.donated.get(str((func.attrs or {}).get("global_symbol")), {})
        results = self.results(func.body.body)
        for source, result in places.items():
            self.updates += self.chain(func.params[source], results[result], uses)

    def results(self, body: relax.Expr) -> Sequence[relax.Expr]:
        """Return what a function returns, one by one."""
        body = self.resolved(body)
        return list(body.fields) if isinstance(body, relax.Tuple) else [body]

    def resolved(self, expr: relax.Expr) -> relax.Expr:
        """Return the value of a variable, that of another name of it too."""
        while isinstance(expr, relax.Var) and expr in self.bound:
            expr = self.bound[expr]
        return expr

    def chain(self, source: relax.Var, result: relax.Expr, uses: Counter[relax.Var]) -> list[relax.Call]:
        """Return the calls that lead from an input to an output, each an update of what nothing else reads; or none."""
        calls = []
        while not result.same_as(source):
            call = self.resolved(result)
            if not _is_update(call) or uses[call.args[0]] != 1:
                return []
            calls.append(call)
            result = call.args[0]
        return calls

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        found = any(call.same_as(update) for update in self.updates)
        return self.update(call) if found else self.visit_expr_post_order(call)

    def update(self, call: relax.Call) -> relax.Expr:
        """Return a call that writes to its first argument."""
        places, values, at = _parts(call, self.bound)
        arguments = [self.visit_expr(arg) for arg in (call.args[0], *places, values)]
        names = ("data", *(f"places{i}" for i in range(len(places))), "values")
        buffers = [tirx.decl_buffer(list(a.ty.shape), str(a.ty.dtype.dtype), n) for a, n in zip(arguments, names, strict=True)]
        data, *indices, values = buffers
        function = self.builder_.add_func(put_in_place.prim_func(data, indices, values, at(indices)), "put")
        return relax.op.call_tir_inplace(function, arguments, 0, call.ty)


def _is_update(call: relax.Expr) -> bool:
    """Whether an expression is its first argument with some elements replaced."""
    name = op_name(call)
    replaces = (
        (name == "relax.scatter_elements" and call.attrs.reduction == "update")
        or (name == "relax.index_put" and not call.attrs.accumulate)
        or (name == "relax.slice_scatter" and all(_constant(arg) is not None for arg in call.args[2:]))
    )
    return replaces and isinstance(call.args[0], relax.Var) and len(call.args[0].ty.shape) > 0


def _constant(arg: relax.Expr) -> int | None:
    value = getattr(arg, "value", arg)
    return int(value) if isinstance(value, (int, tirx.IntImm)) else None


def _parts(call: relax.Call, bound: Mapping[relax.Var, relax.Expr]) -> tuple[list[relax.Expr], relax.Expr, Any]:
    """Return the tensors of places, the values, and from buffers of the places what `put_in_place.prim_func` takes as `at`."""
    if op_name(call) == "relax.index_put":
        return list(call.args[1].fields), call.args[2], lambda places: lambda i: [place[tuple(i)] for place in places]
    axis = int(call.attrs.axis) % len(call.args[0].ty.shape)

    def along(i: Sequence[Any], place: Any) -> list[Any]:
        return [*i[:axis], place, *i[axis + 1 :]]

    if op_name(call) == "relax.slice_scatter":
        start, _, step = (int(getattr(arg, "value", arg)) for arg in call.args[2:])
        size = call.args[0].ty.shape[axis]
        first = int64(start) if start >= 0 else size + start
        return [], call.args[1], lambda _: lambda i: along(i, first + i[axis] * int64(step))
    row = _row(call.args[1], axis, bound)
    if row is not None:
        return [row], call.args[2], lambda places: lambda i: along(i, places[0][i[axis]])
    return [call.args[1]], call.args[2], lambda places: lambda i: along(i, places[0][tuple(i)])


def _row(places: relax.Expr, axis: int, bound: Mapping[relax.Var, relax.Expr]) -> relax.Expr | None:
    """Return the places along one dimension that were repeated over all others, None if they are of another kind."""
    repeated: Any = bound.get(places)
    reshaped: Any = bound.get(repeated.args[0]) if op_name(repeated) == "relax.broadcast_to" else None
    if op_name(reshaped) != "relax.reshape" or len(reshaped.args[0].ty.shape) != 1:
        return None
    sizes = list(reshaped.ty.shape)
    alone = len(sizes) == len(places.ty.shape) and all(_constant(size) == 1 for a, size in enumerate(sizes) if a != axis)
    return reshaped.args[0] if alone else None
