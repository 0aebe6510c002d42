"""AttendByLibrary: attention becomes a function of its own, which a library of the process may compute in its place."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar
from tvm.relax.dpl import DFPattern, is_op, wildcard
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.dtypes import HALF_PRECISION
from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.match_attention import (
    AttentionMatch,
    Bound,
    factor_of,
    match_attention,
    op_name,
    scalar_value,
    scale_and_mask,
    unrepeated,
)
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

NAME = "attention"
ATTENTION_ATTR = "tvm_balanced.attention"  # of such a function: what a library is told, as JSON
SAME: tuple[int, ...] = (0, 1, 2, 3)


def _line() -> DFPattern:
    return is_op("relax.expand_dims")(is_op("relax.arange")(wildcard(), wildcard(), wildcard()))


_below = is_op("relax.less_equal")(is_op("relax.subtract")(_line(), _line()), wildcard())
CAUSAL = is_op("relax.logical_and")(_below, is_op("relax.full")(wildcard(), wildcard()))


@tvm.transform.module_pass(opt_level=0, name="AttendByLibrary")
class AttendByLibrary:
    """Put attention into functions of (queries, keys, values[, mask]), on a GPU.

    rewrite: `permute_dims(astype(matmul(softmax(add(matmul(q * scale, k), mask)), v), "float16"))`, where q is
    `astype(permute_dims(queries), "float32")` and so on --> `attention(queries, keys, values, mask)`, a private Relax function
    that computes the same. So a library reads what the layers before wrote, and its result is what the next one reads:
    transposes, casts and repeated keys are within. `PreferAttentionLibrary` puts the choice around it.

    Left alone: attention whose scores or probabilities something else reads, with a mask that is not added, of operands that
    have not four dimensions; a mask without PyTorch's safe softmax, as a row that is masked as a whole is NaN then.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        attending = _Attending(mod)
        return rewrite_relax_funcs(mod, attending, attending.start)


@dataclass(frozen=True)
class _Operand:
    """Queries, keys or values (batch, heads, rows, columns) as they lie: `source` with its dimensions in the order `axes`."""

    source: relax.Expr
    axes: tuple[int, ...]

    @property
    def shape(self) -> list[Any]:
        """Batch, heads, rows and columns."""
        return [self.source.ty.shape[axis] for axis in self.axes]


@dataclass(frozen=True)
class _Attention:
    """One attention: its operands, what is added to its scores, and how its result lies."""

    operands: tuple[_Operand, _Operand, _Operand]
    mask: relax.Expr | None  # booleans where a score counts, or numbers that are added
    causal: bool
    scale: float
    safe: bool
    dtype: str
    order: tuple[int, ...]

    @property
    def arguments(self) -> list[relax.Expr]:
        """What a call of its function is given."""
        return [operand.source for operand in self.operands] + ([] if self.mask is None else [self.mask])

    @property
    def told(self) -> str:
        """What a library is told."""
        axes = [operand.axes for operand in self.operands]
        return json.dumps({"axes": axes, "order": self.order, "scale": self.scale, "causal": self.causal})

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for attention that one function computes."""
        return self.told, self.safe, self.dtype, tuple(str(argument.ty) for argument in self.arguments)


@mutator
class _Attending(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.found: list[tuple[relax.Call, _Attention]] = []
        self.functions: dict[tuple[Any, ...], GlobalVar] = {}

    def start(self, func: relax.Function) -> None:
        """Look for attention in a function, each with the call that is its result."""
        uses, bound, readers = count_uses(func), relax.analysis.get_var2val(func), _readers(func)
        self.found = []
        for var, value in bound.items():
            match = match_attention(value, uses, bound) if op_name(value) == "relax.matmul" else None
            if match is None or match.shared:
                continue
            end, dtype, order = _result(var, uses, bound, readers)
            attention = _attention(match, bound, dtype, order)
            if attention is not None:
                self.found.append((end, attention))

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        found = next((attention for end, attention in self.found if end.same_as(call)), None)
        if found is None:
            return self.visit_expr_post_order(call)
        arguments = [self.visit_expr(argument) for argument in found.arguments]
        if found.key not in self.functions:
            self.functions[found.key] = self.builder_.add_func(_function(found), NAME)
        return relax.Call(self.functions[found.key], arguments)


def _readers(func: relax.Function) -> Mapping[relax.Var, relax.Var]:
    """Return for each variable one of those that are made of it."""
    bindings = [binding for block in func.body.blocks for binding in block.bindings]
    return {var: binding.var for binding in bindings for var in relax.analysis.free_vars(binding.value)}


def _result(
    var: relax.Var, uses: Counter[relax.Var], bound: Bound, readers: Mapping[relax.Var, relax.Var]
) -> tuple[Any, str, tuple[int, ...]]:
    """Return the call that ends an attention with the product `var`, its dtype, and the order of its dimensions."""
    dtype, order = "float32", SAME

    def then() -> Any:
        return bound.get(readers[var]) if uses[var] == 1 and var in readers else None

    if op_name(then()) == "relax.astype" and str(then().ty.dtype.dtype) in HALF_PRECISION:
        var = readers[var]
        dtype = str(bound[var].ty.dtype.dtype)
    if op_name(then()) == "relax.permute_dims" and len(then().ty.shape) == len(SAME):
        var = readers[var]
        order = _axes(bound[var])
    return bound[var], dtype, order


def _attention(match: AttentionMatch, bound: Bound, dtype: str, order: tuple[int, ...]) -> _Attention | None:
    """Return a match as a library has it, None if it has none for it."""
    outer = scale_and_mask(match, bound)
    if outer is None or (outer[1] is not None and not match.safe):
        return None
    queries, keys = bound[match.chain[-1]].args
    peeled = [_peeled(expr, bound, dtype) for expr in (queries, keys, match.call.args[1])]
    mask = outer[1] if outer[1] is None else _mask(outer[1], bound, dtype)
    if any(len(operand.source.ty.shape) != len(SAME) for operand, _ in peeled) or peeled[2][1] != 1:
        return None
    (q, of_q), (k, of_k), (v, _) = peeled
    k = _Operand(k.source, tuple(k.axes[axis] for axis in (0, 1, 3, 2)))
    given = [q.source, k.source, v.source, *([] if mask is None else [mask])]
    if any(str(expr.ty.dtype.dtype) != dtype for expr in given[:3]) or not _fit(q.shape, k.shape, v.shape):
        return None
    if mask is not None and (str(mask.ty.dtype.dtype) not in (dtype, "bool") or len(mask.ty.shape) > len(SAME)):
        return None
    if not all(_is_plain(expr) for expr in given):
        return None
    causal = mask is not None and _is_causal(mask, bound)
    return _Attention((q, k, v), mask, causal, outer[0] * of_q * of_k, match.safe, dtype, order)


def _peeled(expr: relax.Expr, bound: Bound, dtype: str) -> tuple[_Operand, float]:
    """Return an operand without transposes, the cast from the model's dtype, and repeats; and the number that scales it."""
    axes, scale = tuple(SAME[: len(expr.ty.shape)]), 1.0
    while isinstance(expr, relax.Var) and expr in bound:
        call: Any = bound[expr]
        if op_name(call) == "relax.permute_dims":
            inner = _axes(call)
            axes = tuple(inner[axis] for axis in axes)
        elif op_name(call) in ("relax.multiply", "relax.divide") and str(call.ty.dtype.dtype) == "float32":
            factor = factor_of(call, call.args[1], True)
            if factor is None:
                break
            scale *= factor
        elif op_name(call) != "relax.astype" or str(call.args[0].ty.dtype.dtype) != dtype:
            source = unrepeated(expr, bound) if axes in (SAME, (0, 1, 3, 2)) else expr
            if source.same_as(expr):
                break
            expr = source
            continue
        expr = call.args[0]
    return _Operand(expr, axes), scale


def _mask(mask: relax.Expr, bound: Bound, dtype: str) -> relax.Expr:
    """Return a mask before it was cast from the model's dtype, and before it was made of booleans."""
    call: Any = bound.get(mask) if isinstance(mask, relax.Var) else None
    if op_name(call) == "relax.astype" and str(call.args[0].ty.dtype.dtype) == dtype:
        mask = call.args[0]
        call = bound.get(mask) if isinstance(mask, relax.Var) else None
    if op_name(call) == "relax.where" and [scalar_value(arg) for arg in call.args[1:]] == [0.0, -math.inf]:
        return call.args[0]
    return mask


def _is_causal(mask: relax.Expr, bound: Bound) -> bool:
    """Whether a mask is what PyTorch makes of is_causal: each row counts the columns up to its own number."""
    if not CAUSAL.match(mask, bound):
        return False
    below, every = (bound[arg] for arg in bound[mask].args)
    columns, rows = (bound[arg] for arg in bound[below.args[0]].args)
    for line, axis in ((columns, 0), (rows, 1)):
        first, _, step = bound[line.args[0]].args
        if [int(place) % 2 for place in line.attrs.axis] != [axis] or not _is(first, 0) or not _is(step, 1):
            return False
    return scalar_value(below.args[1]) == 0 and scalar_value(every.args[1]) == 1


def _is(size: Any, number: int) -> bool:
    return isinstance(size, tirx.IntImm) and int(size) == number


def _axes(call: relax.Call) -> tuple[int, ...]:
    rank = len(call.ty.shape)
    return tuple(int(axis) % rank for axis in call.attrs.axes) if call.attrs.axes is not None else tuple(range(rank))[::-1]


def _fit(q: list[Any], k: list[Any], v: list[Any]) -> bool:
    """Whether each head of queries has keys and values, of which each may serve several."""
    same = [(q[0], k[0]), (q[0], v[0]), (k[1], v[1]), (k[2], v[2]), (q[3], k[3])]
    known = all(isinstance(size, tirx.IntImm) for size in (q[1], k[1], q[3], v[3]))
    return known and all(tvm_ffi.structural_equal(a, b) for a, b in same) and int(q[1]) % int(k[1]) == 0


def _is_plain(expr: relax.Expr) -> bool:
    """Whether a function may have it as a parameter: each of its sizes is a number or one variable."""
    return all(isinstance(size, (tirx.IntImm, tirx.Var)) for size in expr.ty.shape)


def _function(of: _Attention) -> relax.Function:
    """Return the private function of an attention, in operators of Relax."""
    names, op, builder = ("queries", "keys", "values", "mask"), relax.op, relax.BlockBuilder()
    params = [relax.Var(name, argument.ty) for name, argument in zip(names, of.arguments, strict=False)]
    emit, lowest = builder.emit, relax.const(-math.inf, "float32")

    def wide(x: relax.Expr) -> relax.Expr:
        return x if of.dtype == "float32" else emit(op.astype(x, "float32"))

    def laid(x: relax.Expr, axes: tuple[int, ...]) -> relax.Expr:
        return x if axes == SAME else emit(op.permute_dims(x, list(axes)))

    with builder.function(NAME, params, attrs={ATTENTION_ATTR: of.told}, private=True):
        with builder.dataflow():
            q, k, v = (wide(laid(p, operand.axes)) for p, operand in zip(params, of.operands, strict=False))
            heads = int(q.ty.shape[1])
            k, v = (_repeated(builder, x, heads) for x in (k, v))
            scaled = emit(op.multiply(q, relax.const(of.scale, "float32")))
            scores = emit(op.matmul(scaled, emit(op.permute_dims(k, [0, 1, 3, 2])), "float32"))
            if of.mask is not None and str(of.mask.ty.dtype.dtype) == "bool":
                scores = emit(op.where(params[3], scores, lowest))
            elif of.mask is not None:
                scores = emit(op.add(scores, wide(params[3])))
            probabilities = emit(op.nn.softmax(scores, -1))
            if of.safe:  # not by their maximum, which TVM begins at the lowest finite number
                counts = emit(op.astype(emit(op.logical_not(emit(op.equal(scores, lowest)))), "int8"))
                some = emit(op.astype(emit(op.max(counts, -1, keepdims=True)), "bool"))
                probabilities = emit(op.where(some, probabilities, relax.const(0.0, "float32")))
            y = emit(op.matmul(probabilities, v, "float32"))
            y = y if of.dtype == "float32" else emit(op.astype(y, of.dtype))
            y = builder.emit_output(laid(y, of.order))
        builder.emit_func_output(y)
    return relax.utils.copy_with_new_vars(builder.get()[NAME])  # each function has symbols of its own


def _repeated(builder: relax.BlockBuilder, x: relax.Expr, heads: int) -> relax.Expr:
    """Return keys or values (batch, matrices, length, depth) with one matrix for each head."""
    batch, matrices, length, depth = x.ty.shape
    if int(matrices) == heads:
        return x
    one = builder.emit(relax.op.expand_dims(x, 2))
    many = builder.emit(relax.op.broadcast_to(one, relax.ShapeExpr([batch, matrices, heads // int(matrices), length, depth])))
    return builder.emit(relax.op.reshape(many, relax.ShapeExpr([batch, heads, length, depth])))
