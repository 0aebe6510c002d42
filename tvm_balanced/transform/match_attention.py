"""Recognise attention: softmax of a product, scaled and masked, times the values, however the model wrote it."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import relax, tirx
from tvm.ir import GenericConst, Op
from tvm.relax.dpl import DFPattern, is_op, wildcard

Bound = Mapping[relax.Var, relax.Expr]
AROUND = ("relax.multiply", "relax.divide", "relax.add", "relax.where")  # a product, in scores


@dataclass(frozen=True)
class AttentionMatch:
    """Attention whose last product is `call`: matmul(softmax(scores (..., rows, length)), values (..., length, columns)).

    Parameters
    ----------
    call : relax.Call
    chain : list of relax.Var
        The scores, and what they are made of one by one, down to the product of queries and keys.
    safe : bool
        Whether the softmax is PyTorch's safe one, whose rows are 0 where all scores are -inf.
    shared : bool
        Whether something else reads the scores, or what they are made of.
    """

    call: relax.Call
    chain: list[relax.Var]
    safe: bool
    shared: bool

    @property
    def scores(self) -> relax.Var:
        """The product of queries and keys, scaled and masked."""
        return self.chain[0]

    @property
    def sizes(self) -> tuple[Any, Any, Any]:
        """Rows, length and columns, constants or expressions."""
        *_, rows, length = self.scores.ty.shape
        return rows, length, self.call.ty.shape[-1]


def match_attention(call: relax.Call, uses: Counter[relax.Var], bound: Bound) -> AttentionMatch | None:
    """Return the attention whose last product is `call`, None where it is none.

    Probabilities that something else reads too are no match, nor are scores with a mask that is made of them, as those of a
    threshold. `uses` counts the readers of each variable, `bound` has its value.
    """
    if op_name(call) != "relax.matmul" or str(call.ty.dtype.dtype) != "float32" or not _are_matrices(call):
        return None
    probabilities = call.args[0]
    safe = bool(SAFE_SOFTMAX.match(probabilities, bound))
    if uses[probabilities] != 1 or not (safe or SOFTMAX.match(probabilities, bound)):
        return None
    softmax = bound[probabilities]
    if safe:
        if not _is_safe(softmax, bound):
            return None
        softmax = bound[softmax.args[2]]
    scores, axis = softmax.args[0], int(softmax.attrs.axis)
    if axis not in (-1, len(scores.ty.shape) - 1):
        return None
    chain, masks = _chain(scores, bound)
    if not _are_matrices(bound[chain[-1]]) or any(_is_made_of(mask, set(chain), bound) for mask in masks):
        return None
    shared = uses[scores] != 1 + safe or any(uses[var] != 1 for var in chain[1:])
    return AttentionMatch(call, chain, safe, shared)


def _are_matrices(product: relax.Call) -> bool:
    return all(len(arg.ty.shape) >= 2 for arg in product.args)


def _chain(scores: relax.Var, bound: Bound) -> tuple[list[relax.Var], list[relax.Expr]]:
    """Return the variables from scores down to the product, and the other arguments of what is done with it."""
    chain: list[relax.Var] = [scores]
    masks: list[relax.Expr] = []
    while op_name(bound[chain[-1]]) != "relax.matmul":
        args = list(bound[chain[-1]].args)
        # as scores_pattern has it: the second argument of where, the first of the others, but for a mask that comes first
        place = 1 if op_name(bound[chain[-1]]) == "relax.where" else 0 if leads_to_product(args[0], bound) else 1
        chain.append(args.pop(place))
        masks += args
    return chain, masks


def leads_to_product(arg: relax.Expr, bound: Bound) -> bool:
    """Whether an argument is a product of matrices, scaled or masked or not."""
    call = bound.get(arg) if isinstance(arg, relax.Var) else None
    if not isinstance(call, relax.Call):
        return False
    around = op_name(call) in AROUND and any(leads_to_product(inner, bound) for inner in call.args)
    return around or op_name(call) == "relax.matmul"


def _is_made_of(expr: relax.Expr, parts: set[relax.Var], bound: Bound) -> bool:
    waiting, seen = [expr], set()
    while waiting:
        for var in relax.analysis.free_vars(waiting.pop()):
            if var in parts:
                return True
            if var not in seen and var in bound:
                seen.add(var)
                waiting.append(bound[var])
    return False


def op_name(expr: relax.Expr) -> str:
    """Return the name of the operator that an expression calls, empty where it calls none."""
    return expr.op.name if isinstance(expr, relax.Call) and isinstance(expr.op, Op) else ""


def scale_and_mask(match: AttentionMatch, bound: Bound) -> tuple[float, relax.Expr | None] | None:
    """Return what scales the product, and then is added to it; None if something else is done with it."""
    scale, mask = 1.0, None
    for var, inner in zip(match.chain[:-1], match.chain[1:], strict=True):
        call = bound[var]
        other = call.args[1] if call.args[0].same_as(inner) else call.args[0]
        if op_name(call) == "relax.add" and mask is None and scale == 1:
            mask = other
            continue
        factor = factor_of(call, other, call.args[0].same_as(inner))
        if factor is None:
            return None
        scale *= factor
    return scale, mask


def factor_of(call: relax.Call, other: relax.Expr, first: bool) -> float | None:
    """Return the number that an operator of `other`, which is not its `first` argument, multiplies by; None if it is another."""
    if not isinstance(other, GenericConst) or any(int(size) != 1 for size in other.value.shape):
        return None
    number = float(other.value.numpy().item())
    if op_name(call) == "relax.multiply":
        return number
    return 1 / number if op_name(call) == "relax.divide" and first and number else None


def unrepeated(operand: relax.Expr, bound: Bound) -> relax.Expr:
    """Return keys or values before each matrix was repeated for several heads: reshape(broadcast_to(x[:, :, None]))."""
    reshaped: Any = bound.get(operand) if isinstance(operand, relax.Var) else None
    repeated: Any = bound.get(reshaped.args[0]) if op_name(reshaped) == "relax.reshape" else None
    inserted: Any = bound.get(repeated.args[0]) if op_name(repeated) == "relax.broadcast_to" else None
    if op_name(inserted) not in ("relax.expand_dims", "relax.reshape"):
        return operand
    source = inserted.args[0]
    shapes = [shape_of(x) for x in (source, repeated.args[0], reshaped.args[0], operand)]
    if any(shape is None for shape in shapes) or len(shapes[0] or ()) != 4 or len(shapes[2] or ()) != 5:
        return operand
    (batch, matrices, length, depth), one, many, whole = (tuple(shape or ()) for shape in shapes)
    group = many[2]
    fits = one == (batch, matrices, 1, length, depth) and many == (batch, matrices, group, length, depth)
    return source if fits and whole == (batch, matrices * group, length, depth) else operand


def with_dimensions(builder: relax.BlockBuilder, mask: relax.Expr, shape: tuple[int, ...] | None) -> relax.Expr:
    """Return a mask in the shape that `mask_shape` gave it, itself if it has as many dimensions."""
    return builder.emit(relax.op.reshape(mask, shape)) if len(mask.ty.shape) < len(shape or ()) else mask


def shape_of(expr: relax.Expr) -> tuple[int, ...] | None:
    """Return the shape of a tensor as numbers, None if a size is known only at the call."""
    return known_sizes(expr.ty.shape)


def known_sizes(sizes: Any) -> tuple[int, ...] | None:
    """Return sizes as numbers, None if one is known only at the call."""
    return tuple(map(int, sizes)) if all(isinstance(size, (int, tirx.IntImm)) for size in sizes) else None


def mask_shape(mask: relax.Expr, scores: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Return the shape of a mask in four dimensions; None if it has not a number for each key, or another dtype."""
    shape = shape_of(mask)
    if not shape or len(shape) > 4 or str(mask.ty.dtype.dtype) != "float32":
        return None
    first, second, third, last = (1,) * (4 - len(shape)) + shape
    fits = last == scores[3] and all(size in (1, own) for size, own in zip((first, second, third), scores, strict=False))
    return (first, second, third, last) if fits else None


def scores_pattern(operand: Callable[[], DFPattern]) -> DFPattern:
    """Return what scores look like: a product of `operand`s, scaled, masked once or twice, and with PadAttention's tail."""
    product = is_op("relax.matmul")(operand(), operand())
    scaled = is_op("relax.multiply")(product, wildcard()) | is_op("relax.divide")(product, wildcard()) | product
    added = is_op("relax.add")(scaled, wildcard()) | is_op("relax.add")(wildcard(), scaled)
    masked = is_op("relax.where")(wildcard(), scaled, wildcard()) | added | scaled
    again = is_op("relax.add")(masked, wildcard()) | masked
    return is_op("relax.add")(again, wildcard()) | again


def _softmax(scores: DFPattern) -> DFPattern:
    return is_op("relax.nn.softmax")(scores)


def _safe_softmax(scores: DFPattern) -> DFPattern:
    """PyTorch's: `where(not any(scores != -inf), 0, softmax(scores))`."""
    some = is_op("relax.logical_not")(is_op("relax.equal")(scores, wildcard()))
    some = is_op("relax.astype")(is_op("relax.max")(is_op("relax.astype")(some)))
    softmax = _softmax(scores)
    zero = is_op("relax.full_like")(softmax, wildcard())
    return is_op("relax.where")(is_op("relax.logical_not")(some), zero, softmax)


def _is_safe(where: relax.Call, bound: Bound) -> bool:
    """Whether a match of SAFE_SOFTMAX looks for -inf along rows and gives 0."""
    condition = bound[where.args[0]]
    while op_name(condition) != "relax.equal":
        if op_name(condition) == "relax.max":
            last = len(condition.args[0].ty.shape) - 1
            if [int(axis) % (last + 1) for axis in condition.attrs.axis or ()] != [last] or not condition.attrs.keepdims:
                return False
        condition = bound[condition.args[0]]
    looked_for, given = condition.args[1], bound[where.args[1]].args[1]
    return scalar_value(looked_for) == -math.inf and scalar_value(given) == 0


def scalar_value(expr: relax.Expr) -> float | None:
    """Return the value of a scalar constant, None of another expression."""
    if not isinstance(expr, GenericConst) or math.prod(expr.value.shape) != 1:
        return None
    return float(expr.value.numpy().item())


SOFTMAX, SAFE_SOFTMAX = _softmax(scores_pattern(wildcard)), _safe_softmax(scores_pattern(wildcard))
