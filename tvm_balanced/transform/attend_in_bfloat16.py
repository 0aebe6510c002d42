"""AttendInBfloat16: attention becomes one function whose products are in bfloat16, where a model's precision allows it."""

from collections import Counter
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.schedules.attention_bf16 import Bfloat16Attention, prim_func, refuses
from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.match_attention import (
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

NAME = "attention_bf16"  # of the functions that it adds
FLAG = "attention_in_bfloat16"  # the parameter () float32 by which a call of a probe chooses
KEPT, TURNED = (0, 1, 2, 3), (0, 2, 1, 3)  # heads and tokens as they are, or exchanged
Parts = tuple[Bfloat16Attention, list[relax.Expr], relax.Expr | None]


@tvm.transform.module_pass(opt_level=0, name="AttendInBfloat16")
class AttendInBfloat16:
    """Compute attention of known sizes by `schedules/attention_bf16.py`, where the current target has AVX-512 BF16.

    rewrite: `permute_dims(matmul(softmax(add(multiply(matmul(q, k), scale), mask)), v))` --> `call_tir(attention_bf16, (q, k, v,
    mask))`, where transposes of tokens and heads, and numbers that queries and keys are multiplied by, become a part of the
    function. In a function with a parameter FLAG the call chooses: `where(FLAG > 0, call_tir(...), what was there)`.
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
        self.turned: list[relax.Expr] = []  # products whose transpose is what is computed
        self.flag: relax.Var | None = None

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.uses, self.bound = count_uses(func), relax.analysis.get_var2val(func)
        self.turned = [inner for call in self.bound.values() if (inner := self.inner(call)) is not None]
        self.flag = next((param for param in func.params if param.name == FLAG), None)

    def inner(self, call: relax.Expr) -> relax.Expr | None:
        """Return the product that a transpose alone reads, None if `call` is something else."""
        if op_name(call) != "relax.permute_dims" or _axes(call) != TURNED or self.uses[call.args[0]] != 1:
            return None
        product = self.bound.get(call.args[0])
        return product if product is not None and op_name(product) == "relax.matmul" else None

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        product = self.inner(call)
        parts = None
        if product is not None or (op_name(call) == "relax.matmul" and not any(call.same_as(one) for one in self.turned)):
            parts = _parts(call if product is None else product, product is not None, self.uses, self.bound)
        if parts is None:
            return self.visit_expr_post_order(call)
        of, operands, mask = parts
        arguments = [self.visit_expr(operand) for operand in operands]
        if mask is not None:
            arguments.append(with_dimensions(self.builder_, self.visit_expr(mask), of.mask))
        function = self.builder_.add_func(prim_func(of), NAME)
        made = relax.call_tir(function, arguments, relax.TensorType(of.result_shape, "float32"))
        if self.flag is None:
            return made
        asked = self.builder_.emit(relax.op.greater(self.flag, relax.const(0.0, "float32")))
        return relax.op.where(asked, self.builder_.emit(made), self.builder_.emit(self.visit_expr_post_order(call)))


def _parts(call: relax.Call, turned: bool, uses: Counter[relax.Var], bound: Bound) -> Parts | None:
    """Return what a function computes, its queries, keys and values, and its mask; None if the attention is for another one."""
    match = match_attention(call, uses, bound)
    outer = None if match is None or match.shared else scale_and_mask(match, bound)
    shape = None if match is None else known_sizes(call.ty.shape)
    if match is None or outer is None or shape is None or len(shape) != 4:
        return None
    scale, mask = outer
    product: Any = bound[match.chain[-1]]
    origins = [_origin(operand, bound) for operand in (*product.args, call.args[1])]
    orders = [order for _, _, order in origins]
    swapped = tuple(_swap(order) for order in (KEPT, TURNED))
    if orders[0] not in (KEPT, TURNED) or orders[1] not in swapped or orders[2] not in (KEPT, TURNED) or origins[2][1] != 1:
        return None
    first = [orders[0] == TURNED, orders[1] == swapped[1], orders[2] == TURNED]
    operands = [operand if turns else unrepeated(operand, bound) for (operand, _, _), turns in zip(origins, first, strict=True)]
    batch, heads, rows, columns = shape
    held = [_of_heads(operand, turns) for operand, turns in zip(operands, first, strict=True)]
    lengths = known_sizes([match.sizes[1]])
    if lengths is None or held[0] is None or held[1] is None or held[2] is None:
        return None
    (length,), depth, matrices = lengths, held[0][3], held[1][1]
    wanted = [(batch, heads, rows, depth), (batch, matrices, length, depth), (batch, matrices, length, columns)]
    of_mask = None if mask is None else mask_shape(mask, (batch, heads, rows, length))
    if held != wanted or heads % matrices or (mask is not None and of_mask is None):
        return None
    if refuses(rows, length, depth, columns, tvm.target.Target.current()) is not None:
        return None
    q, k, v = first
    scale *= origins[0][1] * origins[1][1]
    sizes = batch, heads, rows, length, depth, columns, matrices
    return Bfloat16Attention(*sizes, of_mask, scale, match.safe, (q, k, v, turned)), operands, mask


def _origin(operand: relax.Expr, bound: Bound) -> tuple[relax.Expr, float, tuple[int, ...]]:
    """Return what an operand is a transposed and scaled form of, the number, and where each of its dimensions is there."""
    scale, order = 1.0, tuple(range(len(operand.ty.shape)))
    while isinstance(operand, relax.Var) and operand in bound:
        call: Any = bound[operand]
        if op_name(call) == "relax.permute_dims":
            axes = _axes(call)
            order = tuple(axes[place] for place in order)
        else:
            number = factor_of(call, call.args[1], True) if op_name(call) in ("relax.multiply", "relax.divide") else None
            if number is None:
                break
            scale *= number
        operand = call.args[0]
    return operand, scale, order


def _axes(call: relax.Call) -> tuple[int, ...]:
    """Return the order of a transpose."""
    rank = len(call.args[0].ty.shape)
    axes = call.attrs.axes
    return tuple(reversed(range(rank))) if axes is None else tuple(int(axis) % rank for axis in axes)


def _swap(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return an order with its last two exchanged, as keys are multiplied."""
    return (*order[:2], order[3], order[2])


def _of_heads(operand: relax.Expr, tokens_first: bool) -> tuple[int, ...] | None:
    """Return (batch, heads, tokens, columns) of an operand in float32; None of another, or if a size is not known."""
    shape = shape_of(operand)
    if shape is None or len(shape) != 4 or str(operand.ty.dtype.dtype) != "float32":
        return None
    return tuple(shape[place] for place in TURNED) if tokens_first else shape
