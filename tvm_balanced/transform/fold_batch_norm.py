"""FoldBatchNorm: a normalisation by constant statistics becomes part of the weight and bias of the layer before it."""

from collections import Counter
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.encoding import Array
from tvm_balanced.ops import is_call
from tvm_balanced.runtime.tensors import address_of
from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.match_conv import FORWARD, TRANSPOSED
from tvm_balanced.transform.match_dense import addresses_of, constant_value, is_constant
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs


@tvm.transform.module_pass(opt_level=0, name="FoldBatchNorm")
class FoldBatchNorm:
    """Fold batch normalisations of inference into the convolutions whose results they alone read.

    rewrite: `batch_norm(add(conv2d(x, W), b), gamma, beta, mean, var)[0]` --> `add(conv2d(x, W * scale), (b - mean) * scale +
    beta)`, where scale is gamma / sqrt(var + epsilon); the same without b, and with casts before the normalisation. Zeros of W
    stay zeros.

    Parameters
    ----------
    names : dict
        Address of a weight to its name in the model; receives those of the scaled weights.
    """

    def __init__(self, names: dict[int, str] | None = None) -> None:
        self.names = {} if names is None else names

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        folding = _Folding(mod, self.names)
        return rewrite_relax_funcs(mod, folding, folding.start)


@mutator
class _Folding(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, names: dict[int, str]) -> None:
        super().__init__(mod)
        self.names = names
        self.uses: Counter[relax.Var] = Counter()
        self.scaled: dict[tuple[Any, ...], relax.Expr] = {}

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.uses = count_uses(func)

    def visit_tuple_getitem_(self, item: relax.TupleGetItem) -> relax.Expr:
        norm = self.lookup_binding(item.tuple_value) if isinstance(item.tuple_value, relax.Var) else None
        folded = self.fold(norm) if item.index == 0 and is_call(norm, "relax.nn.batch_norm") else None
        return self.visit_expr_post_order(item) if folded is None else folded

    def fold(self, norm: relax.Call) -> relax.Expr | None:
        """Return what a normalisation is with the convolution before it, None where there is none, or it has other readers."""
        if bool(norm.attrs.training) or int(norm.attrs.axis) != 1:
            return None
        x = value = norm.args[0]
        bias: relax.Expr | None = None
        cast: Any = True
        while cast is not None:  # in half precision to it, and from it to float32 again
            cast, value = self.past(value, "relax.astype")
        added = self.past(value, "relax.add")[0]
        if added is not None:
            left, right = (self.past(side, *FORWARD, *TRANSPOSED)[0] for side in added.args)
            conv, bias = (left, added.args[1]) if left is not None else (right, added.args[0])
        else:
            conv, _ = self.past(value, *FORWARD, *TRANSPOSED)
        if conv is None or is_constant(conv.args[0], self.lookup_binding):
            return None
        made = self.scale(conv, bias, norm)
        if made is None:
            return None
        emit, (weight, shift) = self.builder_.emit, made
        y = relax.op.add(emit(relax.Call(conv.op, [conv.args[0], weight], conv.attrs)), shift)
        return y if conv.ty.dtype == x.ty.dtype else relax.op.astype(emit(y), x.ty.dtype)

    def past(self, value: relax.Expr, *names: str) -> tuple[relax.Call | None, relax.Expr]:
        """Return (call, its first argument) where `value` is the result of one of these operators and has no other reader."""
        bound = self.lookup_binding(value) if isinstance(value, relax.Var) and self.uses[value] == 1 else None
        if bound is None or not is_call(bound, *names):
            return None, value
        return bound, bound.args[0]

    def scale(self, conv: relax.Call, bias: relax.Expr | None, norm: relax.Call) -> tuple[relax.Expr, relax.Expr] | None:
        """Return weight and bias of a convolution with what follows it, None where they are not constant."""
        values = [constant_value(arg, self.lookup_binding) for arg in (conv.args[1], *norm.args[1:5])]
        known = [value for value in values if value is not None]
        before = None if bias is None else constant_value(bias, self.lookup_binding)
        n = int(conv.ty.shape[1])
        if len(known) < len(values) or (bias is not None and (before is None or before[0].size != n)):
            return None
        gamma, beta, mean, variance = (found[0].astype(np.float64) for found in known[1:])
        factor = (gamma if bool(norm.attrs.scale) else 1) / np.sqrt(variance + float(norm.attrs.epsilon))
        shift = ((0 if before is None else before[0].reshape(n).astype(np.float64)) - mean) * factor
        shift = shift + beta if bool(norm.attrs.center) else shift
        shape = [1, n, *[1] * (len(conv.ty.shape) - 2)]
        kind = str(conv.ty.dtype.dtype)  # without it, a constant of float64 would be float32
        return self.scaled_weight(conv, known[0], factor), relax.const(shift.reshape(shape).astype(kind), kind)

    def scaled_weight(self, conv: relax.Call, known: tuple[Array, tuple[Any, ...]], factor: Array) -> relax.Expr:
        """Return the weight of a convolution times a factor for each channel of its result; one for all that share both."""
        weight, identity = known
        key = (identity, conv.op.name, int(conv.attrs.groups), factor.tobytes())
        if key not in self.scaled:
            dtype = weight.dtype
            scaled = relax.const(_scaled(weight.astype(np.float64), factor, conv).astype(dtype), str(dtype))
            name = next((self.names[address] for address in addresses_of(identity) if address in self.names), None)
            if name is not None:
                self.names[address_of(scaled.value)] = name
            self.scaled[key] = scaled
        return self.scaled[key]


def _scaled(weight: Array, factor: Array, conv: relax.Call) -> Array:
    """Return a convolution's weight times a factor for each channel of its result."""
    if conv.op.name in FORWARD:
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    parts = weight.reshape(int(conv.attrs.groups), -1, *weight.shape[1:])
    return (parts * factor.reshape(len(parts), 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)
