"""ProbeRounding: dense layers and convolutions of which a call says how they round, to measure what rounding costs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.encoding import Array
from tvm_balanced.ops import RECURRENT_STATE, is_call
from tvm_balanced.schedules.layouts.rounded_weight import round_weight
from tvm_balanced.schedules.tir.rounded_rows import SMALLEST, STEPS
from tvm_balanced.transform.attend_in_bfloat16 import FLAG
from tvm_balanced.transform.match_conv import TRANSPOSED, match_conv
from tvm_balanced.transform.match_dense import DenseMatch, constant_value, match_dense


@dataclass
class Probed:
    """What a function of a probe takes after the model's inputs, and gives after its result.

    Parameters
    ----------
    layers : list of str
        In the order of the parameters: for each a flag () float32, which says whether x is rounded; for a dense layer also a
        factor (K,) float32 that x is multiplied by before that, and the weight (K, N) float32. After its result the function
        returns for each dense layer the largest |x| of each column (K,). Its last parameter is the flag of `AttendInBfloat16`.
    dense : list of str
        Those that are dense layers.
    """

    layers: list[str] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)


@tvm.transform.module_pass(opt_level=0, name="ProbeRounding")
class ProbeRounding:
    """Let a call say how dense layers and convolutions round.

    rewrite: `matmul(x, W)` --> `matmul(where(flag > 0, rounded(x * factor), x * factor), weight)`, where flag, factor and weight
    become parameters. `rounded` computes what `rounded_rows.py` does, so that the products are those of a kernel with 8 bits, but
    for the rounding of their float32 sums.
    rewrite: `conv2d(x, W)` --> `where(flag > 0, conv2d(rounded(x), rounded(W)), conv2d(x, W))`, whose x is rounded as
    `rounded_images.py` does, each group's channels by themselves. Both weights are constant, so that our kernels compute both.
    rewrite: `matmul(state, W)` in a recurrence --> `matmul(concat(where(flag > 0, rounded(state), 0), where(flag > 0, 0, state)),
    concat(rounded(W), W))`

    Parameters
    ----------
    names : mapping
        Address of a weight to its layer's name.
    layers : collection of str
        The layers that may round.

    Attributes
    ----------
    functions : dict of Probed
        After the pass, by the name of the function.
    weights : dict
        After the pass, layer to its weight (N, K); of a convolution as well.
    """

    def __init__(self, names: Mapping[int, str], layers: Collection[str], attention: bool = False) -> None:
        self.attention = attention  # whether functions take the flag of AttendInBfloat16, behind all others
        self.names, self.layers = names, layers
        self.functions: dict[str, Probed] = {}
        self.weights: dict[str, Array] = {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        mod = relax.transform.ToNonDataflow()(mod)
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function) and "global_symbol" in (func.attrs or {}):
                prober = _Prober(mod, self.names, self.layers, self.attention)
                mod[var] = _with_peaks(prober.visit_expr(func), prober)
                self.functions[var.name_hint] = Probed(list(prober.params), list(prober.peaks))
                self.weights |= prober.weights
        return relax.transform.ConvertToDataflow()(mod)


def _with_peaks(func: relax.Function, prober: "_Prober") -> relax.Function:
    """Return a function with the prober's parameters and results behind its own."""
    given = [var for params in prober.params.values() for var in params]
    result = relax.Tuple([func.body.body, *prober.peaks.values()])
    body = relax.BlockBuilder().normalize(relax.SeqExpr(func.body.blocks, result))
    flags = [relax.Var(FLAG, relax.TensorType((), "float32"))] if prober.attention else []
    probe = relax.Function([*func.params, *given, *flags], body, None, func.is_pure, func.attrs)
    return relax.analysis.remove_all_unused(probe)


@mutator
class _Prober(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, names: Mapping[int, str], layers: Collection[str], attention: bool) -> None:
        super().__init__(mod)
        self.attention = attention
        self.names, self.layers = names, layers
        self.params: dict[str, tuple[relax.Var, ...]] = {}
        self.peaks: dict[str, relax.Expr] = {}
        self.weights: dict[str, Array] = {}

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        match = match_dense(call, self.lookup_binding) or match_conv(call, self.lookup_binding)
        name = None if match is None else next((self.names[a] for a in match.addresses if a in self.names), None)
        if match is None or name not in self.layers:
            return call
        assert name is not None
        if match.conv is not None or self._is_state(match.x):
            return self._both(call, name, match)
        flag, factor, weight = self._params(name, match)
        axes = list(range(len(match.x.ty.shape) - 1))
        peak = relax.op.max(relax.op.abs(match.x), axes) if axes else relax.op.abs(match.x)
        known = self.peaks.get(name)
        self.peaks[name] = self.builder_.emit(peak if known is None else relax.op.maximum(known, peak))
        scaled = self.builder_.emit(relax.op.multiply(match.x, factor))
        return relax.op.matmul(self.builder_.emit(_chosen(scaled, flag)), weight)

    def _both(self, call: relax.Call, name: str, match: DenseMatch) -> relax.Expr:
        """Return a layer that is computed both ways, or either, with constant weights."""
        if name not in self.params:
            self.params[name] = (relax.Var(f"flag_{len(self.params)}", relax.TensorType((), "float32")),)
            self.weights[name] = match.weight
        found = constant_value(call.args[1], self.lookup_binding)
        assert found is not None  # else it would be no match
        rounds = self.builder_.emit(relax.op.greater(self.params[name][0], _number(0.0)))
        if match.conv is None:  # a loop must not have one function twice, as two products of one shape would be
            x, nothing = self.builder_.emit(_rounded(match.x, [-1])), relax.const(0.0, "float32")
            parts = [relax.op.where(rounds, x, nothing), relax.op.where(rounds, nothing, match.x)]
            weight = np.concatenate([_rounded_weight(found[0], 1), found[0]])
            joined = relax.op.concat([self.builder_.emit(part) for part in parts], -1)
            return relax.op.matmul(self.builder_.emit(joined), _constant(weight))
        x = self._rounded_images(match.x, match.conv.groups)
        weight = _constant(_rounded_weight(found[0], match.conv.groups if call.op.name in TRANSPOSED else None))
        both = [self.builder_.emit(relax.Call(call.op, args, call.attrs)) for args in ([x, weight], list(call.args))]
        return relax.op.where(rounds, *both)

    def _rounded_images(self, x: relax.Expr, groups: int) -> relax.Expr:
        """Return images (batch, channels, *size), what a group reads of each rounded by itself."""
        batch, channels, *size = x.ty.shape
        if groups == 1:
            return self.builder_.emit(_rounded(x, list(range(1, 2 + len(size)))))
        parts = self.builder_.emit(relax.op.reshape(x, relax.ShapeExpr([batch, groups, channels // groups, *size])))
        rounded = self.builder_.emit(_rounded(parts, list(range(2, 3 + len(size)))))
        return self.builder_.emit(relax.op.reshape(rounded, x.ty.shape))

    def _params(self, name: str, match: DenseMatch) -> tuple[relax.Var, ...]:
        if name not in self.params:
            n, k = match.weight.shape
            place = len(self.params)
            shapes: dict[str, Any] = {"flag": (), "factor": (k,), "weight": (k, n)}
            flag, factor, weight = (
                relax.Var(f"{part}_{place}", relax.TensorType(shape, "float32")) for part, shape in shapes.items()
            )
            self.params[name], self.weights[name] = (flag, factor, weight), match.weight
        return self.params[name]

    def _is_state(self, x: relax.Expr) -> bool:
        bound = self.lookup_binding(x) if isinstance(x, relax.Var) else x
        return bound is not None and is_call(bound, RECURRENT_STATE)


def _chosen(x: relax.Expr, flag: relax.Expr) -> relax.Expr:
    """Return x, with its rows rounded if the flag says so."""
    return relax.op.where(relax.op.greater(flag, _number(0.0)), _rounded(x, [-1]), x)


def _rounded(x: relax.Expr, axes: list[int]) -> relax.Expr:
    """Return x rounded, with one step for all that lies along `axes`."""
    op, nothing = relax.op, _number(0.0)
    high, low = op.maximum(op.max(x, axes, True), nothing), op.minimum(op.min(x, axes, True), nothing)
    step = op.maximum(op.subtract(op.divide(high, _number(STEPS)), op.divide(low, _number(STEPS))), _number(SMALLEST))
    inverse = op.divide(_number(1.0), step)
    zero = op.floor(op.subtract(_number(0.5), op.multiply(low, inverse)))
    moved = op.floor(op.add(op.multiply(x, inverse), op.add(zero, _number(0.5))))
    whole = op.minimum(moved, _number(STEPS))
    return op.multiply(op.subtract(whole, zero), step)


def _rounded_weight(weight: Array, groups: int | None = None) -> Array:
    """Return a weight (rows, ...) whose rows are rounded to 8 bits; with `groups` it is one of (columns of all groups, rows of a
    group, ...).
    """
    parts = weight[None] if groups is None else weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    rows = parts.reshape(-1, *parts.shape[2:])
    numbers, scales, _ = round_weight(rows)
    rounded = (numbers * scales.reshape(-1, *[1] * (rows.ndim - 1))).reshape(parts.shape)
    return rounded[0] if groups is None else rounded.swapaxes(1, 2).reshape(weight.shape)


def _constant(weight: Array) -> relax.Expr:
    return relax.const(np.ascontiguousarray(weight, np.float32))


def _number(value: float) -> relax.Expr:
    return relax.const(value, "float32")
