"""Recognise attention: softmax of a product, scaled and masked, times the values, however the model wrote it."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import relax
from tvm.ir import GenericConst, Op
from tvm.relax.dpl import DFPattern, is_op, wildcard

Bound = Mapping[relax.Var, relax.Expr]


@dataclass(frozen=True)
class AttentionMatch:
    """Attention whose last product is `call`: matmul(softmax(scores (..., rows, length)), values (..., length, columns)).

    Parameters
    ----------
    call : relax.Call
    scores : relax.Var
        The product of queries and keys, scaled and masked.
    safe : bool
        Whether the softmax is PyTorch's safe one, whose rows are 0 where all scores are -inf.
    """

    call: relax.Call
    scores: relax.Var
    safe: bool

    @property
    def sizes(self) -> tuple[Any, Any, Any]:
        """Rows, length and columns, constants or expressions."""
        *_, rows, length = self.scores.ty.shape
        return rows, length, self.call.ty.shape[-1]


def match_attention(call: relax.Call, uses: Counter[relax.Var], bound: Bound) -> AttentionMatch | None:
    """Return the attention whose last product is `call`, None where it is none.

    Probabilities that something else reads too are no match. `uses` counts the readers of each variable, `bound` has its value.
    """
    if op_name(call) != "relax.matmul" or str(call.ty.dtype.dtype) != "float32":
        return None
    probabilities = call.args[0]
    safe = SAFE_SOFTMAX.match(probabilities, bound)
    if uses[probabilities] != 1 or not (safe or SOFTMAX.match(probabilities, bound)):
        return None
    softmax = bound[probabilities]
    if safe:
        if not _is_safe(softmax, bound):
            return None
        softmax = bound[softmax.args[2]]
    scores, axis = softmax.args[0], int(softmax.attrs.axis)
    return AttentionMatch(call, scores, bool(safe)) if axis in (-1, len(scores.ty.shape) - 1) else None


def op_name(expr: relax.Expr) -> str:
    """Return the name of the operator that an expression calls, empty where it calls none."""
    return expr.op.name if isinstance(expr, relax.Call) and isinstance(expr.op, Op) else ""


def scores_pattern(operand: Callable[[], DFPattern]) -> DFPattern:
    """Return what scores look like: a product of `operand`s, scaled, masked, and with PadAttention's tail."""
    product = is_op("relax.matmul")(operand(), operand())
    scaled = is_op("relax.multiply")(product, wildcard()) | is_op("relax.divide")(product, wildcard()) | product
    added = is_op("relax.add")(scaled, wildcard()) | is_op("relax.add")(wildcard(), scaled)
    masked = is_op("relax.where")(wildcard(), scaled, wildcard()) | added | scaled
    return is_op("relax.add")(masked, wildcard()) | masked


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
    """Whether a match of SAFE_SOFTMAX looks for -inf and gives 0."""
    condition = bound[where.args[0]]
    while op_name(condition) != "relax.equal":
        condition = bound[condition.args[0]]
    looked_for, given = condition.args[1], bound[where.args[1]].args[1]
    return _value(looked_for) == -math.inf and _value(given) == 0


def _value(expr: relax.Expr) -> float | None:
    """Return the value of a scalar constant, None of another expression."""
    if not isinstance(expr, GenericConst) or math.prod(expr.value.shape) != 1:
        return None
    return float(expr.value.numpy().item())


SOFTMAX, SAFE_SOFTMAX = _softmax(scores_pattern(wildcard)), _safe_softmax(scores_pattern(wildcard))
