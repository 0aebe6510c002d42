"""CountOperators: find every operator with a constant weight that is no dense layer of ours; changes nothing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst, Op
from tvm.relax.expr_functor import PyExprVisitor, visitor

from tvm_balanced.core.accounting import OperatorUse
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.mapped_files import release
from tvm_balanced.ops import EMBEDDING_BAG
from tvm_balanced.runtime.tensors import address_of, view
from tvm_balanced.schedules.base.expressions import evaluate
from tvm_balanced.transform.match_conv import match_conv
from tvm_balanced.transform.match_dense import is_constant, match_dense, resolve
from tvm_balanced.transform.relax_funcs import entry_point_of

Shape = Sequence[int]
NO_KERNEL = "there is no sparse kernel for a {} yet"
NO_CONV_KERNEL = "kernels take convolutions of images whose size is known, padded by at most what the filter reaches"
FOLDED = "its operands are constant: it is evaluated once, while compiling"
PRODUCTS = "products of activations"


@dataclass(frozen=True)
class Kind:
    """A kind of operators that may have a constant weight.

    Parameters
    ----------
    name : str
        As the report has it.
    weight : int
        Place of the weight among the operands.
    macs : callable
        (shape of x, shape of the weight, shape of y) to the multiply-adds of a call; x is the other operand of the first two.
    reason : str
        Why no sparse kernel computes it.
    """

    name: str
    weight: int
    macs: Callable[[Shape, Shape, Shape], int]
    reason: str


def _convolution_macs(_x: Shape, weight: Shape, y: Shape) -> int:
    """Each element of y is a sum over the taps and channels of one filter (out, in, *kernel)."""
    return math.prod(y) * math.prod(weight[1:])


def _transposed_macs(x: Shape, weight: Shape, _y: Shape) -> int:
    """Each element of x meets all of its channel's filters (in, out, *kernel)."""
    return math.prod(x) * math.prod(weight[1:])


def _product_macs(x: Shape, _weight: Shape, y: Shape) -> int:
    """Each element of y is a sum over the last axis of the left operand, which is as long as the right one's."""
    return math.prod(y) * x[-1]


def _left_product_macs(_x: Shape, weight: Shape, y: Shape) -> int:
    return math.prod(y) * weight[-1]


def _no_macs(_x: Shape, _weight: Shape, _y: Shape) -> int:
    return 0


LOOKUP = Kind("lookup", 0, _no_macs, "a lookup reads rows and multiplies nothing, so zeros cost no time")
# By the operator's name in Relax. To account for another, add a line.
KINDS: dict[str, Kind] = {
    **{f"relax.nn.conv{d}d": Kind(f"convolution {d}d", 1, _convolution_macs, NO_CONV_KERNEL) for d in (1, 2, 3)},
    **{
        f"relax.nn.conv{d}d_transpose": Kind(f"transposed convolution {d}d", 1, _transposed_macs, NO_CONV_KERNEL)
        for d in (1, 2, 3)
    },
    "relax.take": LOOKUP,
    EMBEDDING_BAG: LOOKUP,
    "relax.index_tensor": LOOKUP,
    "relax.gather_elements": LOOKUP,
    "relax.gather_nd": LOOKUP,
}
LEFT = Kind(
    "constant on the left",
    0,
    _left_product_macs,
    "kernels take a weight on the right of x; write W @ x as linear(x.T, W).T",
)
BATCHED = Kind("batched product", 1, _product_macs, NO_KERNEL.format("weight of three or more dimensions"))
VECTOR = Kind("product with a vector", 1, _product_macs, NO_KERNEL.format("weight of one dimension"))
OTHER = Kind("product", 1, _product_macs, "its weight is written in a way that is not recognised")
SUMMED = Kind("summed product", 1, _no_macs, NO_KERNEL.format("product that is summed in another operator"))


@tvm.transform.module_pass(opt_level=0, name="CountOperators")
class CountOperators:
    """Count the operators of a module that have constant weights, with their weights and multiply-adds.

    rewrite: none. Runs right after RewriteBalancedDense, so that the layers that a kernel of ours computes are gone; a matmul
    that matches a dense layer has a plan and is not counted either.

    Parameters
    ----------
    names : mapping
        Address of a weight to its name in the model.
    sizes : mapping
        Symbol of a dimension to its size in the examples.

    Attributes
    ----------
    operators : list of OperatorUse
        After the pass: one for each weight, kind and entry point, in the order they are computed, and one for all products of
        activations of an entry point.
    rest : dict of OperatorUse
        Other floating-point weights by address: biases, scales of norms, tables that are added.
    """

    def __init__(self, names: Mapping[int, str] | None = None, sizes: Mapping[str, int] | None = None) -> None:
        self.names, self.sizes = dict(names or {}), dict(sizes or {})
        self.operators: list[OperatorUse] = []
        self.rest: dict[int, OperatorUse] = {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        counter = _Counter(self.names, self.sizes)
        for _, func in mod.functions_items():
            if isinstance(func, relax.Function):
                counter.begin(func)
                counter.visit_expr(func)
        self.operators = list(counter.operators.values())
        claimed = {address for use in self.operators for address in use.addresses}
        self.rest = {address: use for address, use in counter.constants.items() if address not in claimed}
        return mod


@visitor
class _Counter(PyExprVisitor):
    def __init__(self, names: Mapping[int, str], sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.names, self.sizes = names, sizes
        self.bound: dict[relax.Var, relax.Expr] = {}
        self.operators: dict[tuple[Any, ...], OperatorUse] = {}
        self.constants: dict[int, OperatorUse] = {}
        self.entry_point = "main"

    def begin(self, func: relax.Function) -> None:
        """Note which entry point is visited."""
        self.entry_point = entry_point_of(func, self.entry_point)

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        self.bound[binding.var] = binding.value
        self.visit_expr(binding.value)

    def visit_generic_const_(self, op: GenericConst) -> None:
        address = address_of(op.value) if isinstance(op.ty, relax.TensorType) else 0
        if address not in self.names or not _is_floating(op) or address in self.constants:
            return
        array = view(op.value)
        self.constants[address] = OperatorUse(
            self.names[address], "other", array.shape, (address,), array.size, _zeros(array), 0, 1, "dense", "", self.entry_point
        )

    def visit_call_(self, call: relax.Call) -> None:
        for arg in call.args:
            self.visit_expr(arg)
        if not isinstance(call.op, Op):
            return
        kind = self.kind(call)
        if kind is not None:
            self.count(call, kind)

    def kind(self, call: relax.Call) -> Kind | None:
        """Return what kind of operator a call is; None if it is none that may have a weight, or one with a plan."""
        if call.op.name == "relax.sum":
            return SUMMED if self.summed(call) else None
        if match_dense(call, self.lookup) is not None or match_conv(call, self.lookup) is not None:
            return None
        if call.op.name != "relax.matmul":
            return KINDS.get(call.op.name)
        if self.is_weight(call.args[0]) and not self.is_weight(call.args[1]):
            return LEFT
        return {1: VECTOR, 2: OTHER}.get(len(call.args[1].ty.shape), BATCHED)

    def count(self, call: relax.Call, kind: Kind) -> None:
        operands = list(self.summed(call) or call.args[:2])
        weight, x = operands[kind.weight], operands[1 - kind.weight]
        macs = math.prod(self.shape(call.args[0])) if kind is SUMMED else kind.macs(*map(self.shape, (x, weight, call)))
        if not self.is_weight(weight):
            if macs:
                reason = "both operands depend on the input"
                self.add((PRODUCTS,), OperatorUse(PRODUCTS, PRODUCTS, (), (), 0, 0, macs, 1, "dense", reason, self.entry_point))
            return
        parts = self.parts(weight)
        if kind is LOOKUP and not any(address in self.names and floating for address, _, floating in parts):
            return  # a table of numbers, such as places in a sequence
        folded = is_constant(call, self.lookup)
        addresses = tuple(sorted({address for address, _, _ in parts}))
        shape = tuple(self.shape(weight))
        largest = max((array for _, array, _ in parts), key=lambda array: array.size, default=None)
        elements = math.prod(shape) if largest is None else min(math.prod(shape), largest.size)
        zeros = 0 if largest is None else round(_zeros(largest) * elements / max(1, largest.size))
        name = next((self.names[address] for address in addresses if address in self.names), f"a constant of {kind.name}")
        verdict, reason = ("folded", FOLDED) if folded else ("dense", kind.reason)
        use = OperatorUse(name, kind.name, shape, addresses, elements, zeros, macs, 1, verdict, reason, self.entry_point)
        self.add((kind.name, verdict, addresses or name, shape), use)

    def add(self, key: tuple[Any, ...], use: OperatorUse) -> None:
        known = self.operators.get((self.entry_point, *key))
        if known is not None:
            use = replace(known, calls=known.calls + 1, macs=known.macs + use.macs)
        self.operators[self.entry_point, *key] = use

    def summed(self, call: relax.Call) -> tuple[relax.Expr, relax.Expr] | None:
        """Return (x, weight) of a sum over a product with a constant matrix, as of nn.Bilinear; None for other calls."""
        if call.op.name != "relax.sum":
            return None
        waiting = [call.args[0]]
        while waiting:
            part = resolve(waiting.pop(), self.lookup)
            if not (isinstance(part, relax.Call) and isinstance(part.op, Op) and part.op.name == "relax.multiply"):
                continue
            for weight, x in (part.args, part.args[::-1]):
                dims = [dim for dim in self.shape(weight) if dim > 1]
                if len(dims) > 1 and self.is_weight(weight) and not self.is_weight(x) and self.parts(weight):
                    return x, weight
            waiting.extend(part.args)
        return None

    def is_weight(self, expr: relax.Expr) -> bool:
        return is_constant(expr, self.lookup)

    def parts(self, expr: relax.Expr) -> list[tuple[int, Array, bool]]:
        """Return address, value, and whether it is of a floating point, of each constant that an expression is made of."""
        found: list[tuple[int, Array, bool]] = []
        waiting, seen = [expr], set()
        while waiting:
            part = resolve(waiting.pop(), self.lookup)
            if isinstance(part, GenericConst) and isinstance(part.ty, relax.TensorType) and part.value.shape:
                found.append((address_of(part.value), view(part.value), _is_floating(part)))
            elif isinstance(part, (relax.Call, relax.Tuple)) and part not in seen:
                seen.add(part)
                waiting.extend(part.args if isinstance(part, relax.Call) else part.fields)
        return found

    def lookup(self, var: relax.Var) -> relax.Expr | None:
        return self.bound.get(var)

    def shape(self, expr: relax.Expr) -> list[int]:
        """Return the shape of a tensor at the sizes of the examples; empty if not even the number of its dimensions is known."""
        shape = expr.ty.shape if isinstance(expr.ty, relax.TensorType) else None
        return [evaluate(dim, self.sizes) for dim in shape] if isinstance(shape, relax.ShapeExpr) else []


def _is_floating(constant: GenericConst) -> bool:
    return "float" in str(constant.ty.dtype.dtype)


def _zeros(array: Array) -> int:
    zeros = int(array.size - np.count_nonzero(array))
    release(array)
    return zeros
