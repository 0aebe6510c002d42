"""ProbeRounding: dense layers of which a call says how they round, to measure what rounding costs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.encoding import Array
from tvm_balanced.ops import RECURRENT_STATE, is_call
from tvm_balanced.schedules.tir.rounded_rows import SMALLEST, STEPS
from tvm_balanced.transform.attend_in_bfloat16 import FLAG
from tvm_balanced.transform.match_dense import DenseMatch, match_dense


@dataclass
class Probed:
    """What a function of a probe takes after the model's inputs, and gives after its result.

    Parameters
    ----------
    layers : list of str
        In the order of the parameters: for each a flag () float32, which says whether x is rounded, a factor (K,) float32 that x
        is multiplied by before that, and the weight (K, N) float32. After its result the function returns for each the largest
        |x| of each column (K,). Its last parameter is the flag of `AttendInBfloat16`.
    """

    layers: list[str] = field(default_factory=list)


@tvm.transform.module_pass(opt_level=0, name="ProbeRounding")
class ProbeRounding:
    """Let a call say how dense layers round.

    rewrite: `matmul(x, W)` --> `matmul(where(flag > 0, rounded(x * factor), x * factor), weight)`, where flag, factor and weight
    become parameters. `rounded` computes what `rounded_rows.py` does, so that the products are those of a kernel with 8 bits, but
    for the rounding of their float32 sums.

    Parameters
    ----------
    names : mapping
        Address of a weight to its layer's name.
    layers : collection of str
        The layers that may round. One whose x is the state of a recurrence, which runs in a loop, is left as it is.

    Attributes
    ----------
    functions : dict of Probed
        After the pass, by the name of the function.
    weights : dict
        After the pass, layer to its weight (N, K).
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
                self.functions[var.name_hint] = Probed(list(prober.params))
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
        self.params: dict[str, tuple[relax.Var, relax.Var, relax.Var]] = {}
        self.peaks: dict[str, relax.Expr] = {}
        self.weights: dict[str, Array] = {}

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        match = match_dense(call, self.lookup_binding)
        name = None if match is None else next((self.names[a] for a in match.addresses if a in self.names), None)
        if match is None or name not in self.layers or self._is_state(match.x):
            return call
        assert name is not None
        flag, factor, weight = self._params(name, match)
        axes = list(range(len(match.x.ty.shape) - 1))
        peak = relax.op.max(relax.op.abs(match.x), axes) if axes else relax.op.abs(match.x)
        known = self.peaks.get(name)
        self.peaks[name] = self.builder_.emit(peak if known is None else relax.op.maximum(known, peak))
        scaled = self.builder_.emit(relax.op.multiply(match.x, factor))
        return relax.op.matmul(self.builder_.emit(_chosen(scaled, flag)), weight)

    def _params(self, name: str, match: DenseMatch) -> tuple[relax.Var, relax.Var, relax.Var]:
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

    def number(value: float) -> relax.Expr:
        return relax.const(value, "float32")

    op, nothing = relax.op, number(0.0)
    high, low = op.maximum(op.max(x, -1, True), nothing), op.minimum(op.min(x, -1, True), nothing)
    step = op.maximum(op.subtract(op.divide(high, number(STEPS)), op.divide(low, number(STEPS))), number(SMALLEST))
    inverse = op.divide(number(1.0), step)
    zero = op.floor(op.subtract(number(0.5), op.multiply(low, inverse)))
    moved = op.floor(op.add(op.multiply(x, inverse), op.add(zero, number(0.5))))
    whole = op.minimum(moved, number(STEPS))
    rounded = op.multiply(op.subtract(whole, zero), step)
    return op.where(op.greater(flag, nothing), rounded, x)
