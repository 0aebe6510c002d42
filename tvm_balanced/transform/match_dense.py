"""Recognise a dense layer: a matmul whose right side is a constant, however the model wrote it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.weight_matrix import weight_matrix
from tvm_balanced.ops import is_call
from tvm_balanced.runtime.tensors import address_of, view

Lookup = Callable[[relax.Var], relax.Expr | None]
RESHAPES = ("relax.reshape", "relax.expand_dims", "relax.squeeze")


@dataclass(frozen=True)
class DenseMatch:
    """x (..., K) @ weight (N, K)^T, where equal keys mean the same weight.

    Parameters
    ----------
    x : relax expression
    weight : array (N, K)
        May share memory with the constant it was read from.
    key : tuple
        Identity of the weight: addresses of the constants it is made of, and how.
    m : int or None
        Rows: the product of x's leading dimensions, None where one is symbolic.
    conv : Convolution or None
        What x is for each pixel of the result, if the layer is a convolution; x and the result are then images.
    """

    x: relax.Expr
    weight: Array
    key: tuple[Any, ...]
    m: int | None
    conv: Convolution | None = None

    @property
    def leading(self) -> list[Any]:
        """Dimensions whose product are the rows."""
        shape = list(self.x.ty.shape)
        return shape[:-1] if self.conv is None else [shape[0], tvm.tirx.IntImm("int64", self.conv.pixels)]

    @property
    def addresses(self) -> list[int]:
        """Addresses of the constants that the weight is made of: itself, or for instance a mask and what it masks."""
        return addresses_of(self.key)


def match_dense(call: relax.Expr, lookup: Lookup) -> DenseMatch | None:
    """Return the dense layer that `call` is, None where it is something else.

    Recognised: matmul(x, C) where C is a constant (K, N), or permute_dims, a reshape, astype or a product of constants, as
    torch's linear, addmm, and pruning masks in an exported program are written.
    """
    if not (is_call(call, "relax.matmul") and call.args[0].ty.dtype == call.args[1].ty.dtype):
        return None
    empty = any(isinstance(d, tvm.tirx.IntImm) and int(d) == 0 for arg in call.args for d in arg.ty.shape)
    if len(call.args[1].ty.shape) != 2 or empty or is_constant(call.args[0], lookup):
        return None
    right = constant_value(call.args[1], lookup)
    if right is None:
        return None
    value, key = right
    m = 1
    for dim in list(call.args[0].ty.shape)[:-1]:
        if not isinstance(dim, tvm.tirx.IntImm):
            return DenseMatch(call.args[0], weight_matrix(value.T), key, None)
        m *= int(dim)
    return DenseMatch(call.args[0], weight_matrix(value.T), key, m)


def is_constant(expr: relax.Expr, lookup: Lookup) -> bool:
    """Whether an expression depends on no input, as a recurrent network's first state.

    Such a layer is left for TVM to fold: it would run our kernel while compiling, built for a CPU without its instructions,
    over which LLVM ends the process.
    """
    waiting, seen = [expr], set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, relax.Var):
            bound = lookup(part)
            if bound is None:
                return False
            if part not in seen:
                seen.add(part)
                waiting.append(bound)
        elif isinstance(part, relax.Call):
            waiting.extend(part.args)
        elif isinstance(part, relax.Tuple):
            waiting.extend(part.fields)
        elif isinstance(part, relax.TupleGetItem):
            waiting.append(part.tuple_value)
    return True


def constant_value(expr: relax.Expr, lookup: Lookup) -> tuple[Array, tuple[Any, ...]] | None:
    """Return (value, identity) of an expression of constants, None where it is not one."""
    expr = _resolve(expr, lookup)
    if isinstance(expr, GenericConst):
        value = view(expr.value)
        return value, (Constant(address_of(expr.value)), value.shape)
    if is_call(expr, "relax.permute_dims"):
        inner = constant_value(expr.args[0], lookup)
        axes = None if expr.attrs.axes is None else tuple(int(a) for a in expr.attrs.axes)
        return None if inner is None else (inner[0].transpose(axes), ("permute", axes, inner[1]))
    if any(is_call(expr, name) for name in RESHAPES) and all(isinstance(d, tvm.tirx.IntImm) for d in expr.ty.shape):
        inner, shape = constant_value(expr.args[0], lookup), tuple(int(d) for d in expr.ty.shape)
        return None if inner is None else (inner[0].reshape(shape), ("reshape", shape, inner[1]))
    if is_call(expr, "relax.multiply"):
        left, right = (constant_value(arg, lookup) for arg in expr.args)
        return None if left is None or right is None else (left[0] * right[0], ("multiply", left[1], right[1]))
    if is_call(expr, "relax.astype"):
        inner = constant_value(expr.args[0], lookup)
        dtype = np.dtype(str(expr.attrs.dtype))
        return None if inner is None else (inner[0].astype(dtype, copy=False), ("astype", str(dtype), inner[1]))
    return None


@dataclass(frozen=True)
class Constant:
    """A constant in the identity of a weight: where its first byte is."""

    address: int


def _resolve(expr: relax.Expr, lookup: Lookup) -> relax.Expr:
    while isinstance(expr, relax.Var):
        bound = lookup(expr)
        if bound is None:
            return expr
        expr = bound
    return expr


def addresses_of(key: tuple[Any, ...]) -> list[int]:
    """Return the addresses of the constants in the identity of a weight."""
    return [part.address for part in _flatten(key) if isinstance(part, Constant)]


def _flatten(key: Any) -> list[Any]:
    return [leaf for part in key for leaf in _flatten(part)] if isinstance(key, tuple) else [key]
