"""AttendFewQueries: attention of a few queries, as a step of decoding, becomes one function that reads keys where they lie."""

from collections import Counter
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.schedules.few_queries import FewQueries, prim_func
from tvm_balanced.schedules.rules.cpu_attention import LEAST
from tvm_balanced.schedules.tir.statements import LANES
from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.match_attention import (
    AttentionMatch,
    Bound,
    factor_of,
    known_sizes,
    mask_shape,
    match_attention,
    op_name,
    scale_and_mask,
    shape_of,
    unrepeated,
    with_dimensions,
)
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

NAME = "few_queries"  # of the functions that it adds


@tvm.transform.module_pass(opt_level=0, name="AttendFewQueries")
class AttendFewQueries:
    """Compute attention of fewer queries than the rule cpu_attention takes by `schedules/few_queries.py`.

    rewrite: `matmul(softmax(add(multiply(matmul(q, permute_dims(k)), scale), mask)), v)` --> `call_tir(few_queries, (q, k, v,
    mask))`. Keys and values of which each serves several heads of queries are not repeated; those of half precision that are
    converted only for the products are read as they are. Sizes must be known.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        attending = _Attending(mod)
        return rewrite_relax_funcs(mod, attending, attending.start)


@mutator
class _Attending(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.uses: Counter[relax.Var] = Counter()
        self.bound: dict[relax.Var, relax.Expr] = {}

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.uses, self.bound = count_uses(func), relax.analysis.get_var2val(func)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        match = match_attention(call, self.uses, self.bound)
        parts = None if match is None or match.shared else _parts(match, self.bound)
        if parts is None:
            return self.visit_expr_post_order(call)
        of, operands, mask = parts
        arguments = [self.visit_expr(operand) for operand in operands]
        if mask is not None:
            arguments.append(with_dimensions(self.builder_, self.visit_expr(mask), of.mask))
        function = self.builder_.add_func(prim_func(of), NAME)
        return relax.call_tir(function, arguments, relax.TensorType(call.ty.shape, call.ty.dtype))


def _parts(match: AttentionMatch, bound: Bound) -> tuple[FewQueries, list[relax.Expr], relax.Expr | None] | None:
    """Return what a function computes, its queries, keys and values, and its mask; None if it is for another one."""
    outer = scale_and_mask(match, bound)
    if outer is None or not _is_small(match.sizes[0]):
        return None
    scale, mask = outer
    queries, transposed = bound[match.chain[-1]].args
    keys = _keys(transposed, bound)
    shape = shape_of(queries)
    if keys is None or shape is None or len(shape) != 4 or shape[3] % LANES:
        return None
    keys, scale = keys[0], scale * keys[1]
    keys, values = _as_held(keys, match.call.args[1], bound)
    keys, values = _as_held(unrepeated(keys, bound), unrepeated(values, bound), bound)
    batch, heads, count, depth = shape
    length, held = known_sizes([match.sizes[1]]), shape_of(keys)
    if length is None or held is None or held != shape_of(values) or held[:1] + held[2:] != (batch, *length, depth):
        return None
    of_mask = None if mask is None else mask_shape(mask, (batch, heads, count, *length))
    if (mask is not None and of_mask is None) or _dtypes(queries) != {"float32"} or len(_dtypes(keys, values)) > 1:
        return None
    of = FewQueries(batch, heads, count, length[0], depth, held[1], of_mask, scale, match.safe, *_dtypes(keys))
    return of, [queries, keys, values], mask


def _as_held(keys: relax.Expr, values: relax.Expr, bound: Bound) -> tuple[relax.Expr, relax.Expr]:
    """Return keys and values as they are held: half precision is widened where it is read, not before."""
    calls = [bound.get(x) if isinstance(x, relax.Var) else None for x in (keys, values)]
    if all(op_name(call) == "relax.astype" for call in calls):
        narrow: list[relax.Expr] = [call.args[0] for call in calls]  # type: ignore[union-attr]
        if _dtypes(*narrow) in ({"bfloat16"}, {"float16"}):
            return narrow[0], narrow[1]
    return keys, values


def _dtypes(*operands: relax.Expr) -> set[str]:
    return {str(operand.ty.dtype.dtype) for operand in operands}


def _is_small(rows: Any) -> bool:
    return isinstance(rows, (int, tirx.IntImm)) and int(rows) < LEAST


def _keys(transposed: relax.Expr, bound: Bound) -> tuple[relax.Expr, float] | None:
    """Return keys (..., length, depth) of what is multiplied as (..., depth, length), and the number they are scaled by."""
    scale, swapped = 1.0, False
    while True:
        call: Any = bound.get(transposed) if isinstance(transposed, relax.Var) else None
        if op_name(call) == "relax.permute_dims" and not swapped and _swaps(call):
            swapped, transposed = True, call.args[0]
            continue
        factor = None
        if op_name(call) in ("relax.multiply", "relax.divide"):
            factor = factor_of(call, call.args[1], True)
        if factor is None:
            return (transposed, scale) if swapped else None
        scale, transposed = scale * factor, call.args[0]


def _swaps(call: relax.Call) -> bool:
    """Whether a transpose exchanges the last two dimensions alone."""
    order = [] if call.attrs.axes is None else [int(axis) for axis in call.attrs.axes]
    own = list(range(len(order)))
    return len(own) > 1 and order == [*own[:-2], own[-1], own[-2]]
