"""RewriteBalancedDense: matmul(x, W^T) --> balanced_dense or packed_dense, as the plan of each layer says; convolutions alike."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import tvm
from tvm import relax, sym, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.detection import Detection, detect
from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import Array, check_finite, encode
from tvm_balanced.core.imported_model import Range
from tvm_balanced.core.layer_plan import Bucket, DenseLayer, LayerPlan, buckets_to_attr
from tvm_balanced.core.mapped_files import release
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.core.weight_map import BLOCK, WeightMap
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST
from tvm_balanced.errors import WeightError
from tvm_balanced.ops import RECURRENT_STATE, balanced_conv, balanced_dense, is_call, packed_conv, packed_dense
from tvm_balanced.runtime.tensors import address_of, unwritten
from tvm_balanced.schedules.base.expressions import evaluate, variables
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.match_conv import match_conv, reordered
from tvm_balanced.transform.match_dense import DenseMatch, Lookup, match_dense
from tvm_balanced.transform.relax_funcs import entry_point_of, rewrite_relax_funcs

NO_LIMIT = sym.ConstIntBound.POS_INF
Decide = Callable[[DenseLayer], tuple[Bucket, ...]]


@tvm.transform.module_pass(opt_level=0, name="RewriteBalancedDense")
class RewriteBalancedDense:
    """Rewrite dense layers and convolutions with constant weights.

    rewrite: `matmul(x, permute_dims(W))` --> `balanced_dense(x, values, indices)` if all kernels of the layer store one pattern,
    `packed_dense(x, W)` if one is dense or they store several; untouched if no kernel takes it. A weight that several calls
    share is encoded once. conv2d(x, W), and those over one or three dimensions or transposed, become `balanced_conv` or
    `packed_conv`; the columns of their weight are in the order in which its zeros take the fewest slots. Half precision is
    computed in float32.

    Parameters
    ----------
    decide : callable, optional
        From a DenseLayer to its buckets; by default a KernelSelector of the current target.
    names : dict, optional
        Address of a weight to its name in the model.
    ranges : mapping, optional
        Symbol of a dimension to the sizes that it may have.
    sizes : mapping
        Symbol of a dimension to its size in the examples.
    experts : mapping, optional
        As ImportedModel has it, for the multiply-adds.
    deferred : dict, optional
        Receives the weight of each layer by the address of the constant that stands for it, whose own values are never written:
        LowerDenseOps takes the weight from here. So no weight is copied before it is packed, and every operator is packed_dense.

    Attributes
    ----------
    plans : list of LayerPlan
        After the pass: one for each distinct weight and row count, in the order they are computed.
    """

    def __init__(
        self,
        decide: Decide | None = None,
        names: dict[int, str] | None = None,
        ranges: Mapping[str, Range] | None = None,
        sizes: Mapping[str, int] | None = None,
        experts: Mapping[int, int] | None = None,
        deferred: dict[int, Array] | None = None,
    ) -> None:
        self.deferred = deferred
        self.decide, self.names = decide, {} if names is None else names
        self.ranges, self.sizes, self.experts = ranges or {}, sizes or {}, experts or {}
        self.plans: list[LayerPlan] = []

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        decide = self.decide or KernelSelector.of(tvm.target.Target.current())
        rewriter = _Rewriter(mod, decide, self.names, self.ranges, self.sizes, self.experts, self.deferred)
        mod = rewrite_relax_funcs(mod, rewriter, rewriter.begin)
        self.plans = list(rewriter.plans.values())
        return mod


@mutator
class _Rewriter(PyExprMutator):
    def __init__(
        self,
        mod: tvm.IRModule,
        decide: Decide,
        names: dict[int, str],
        ranges: Mapping[str, Range],
        sizes: Mapping[str, int],
        experts: Mapping[int, int],
        deferred: dict[int, Array] | None,
    ) -> None:
        super().__init__(mod)
        self.deferred = deferred
        self.decide, self.names, self.ranges, self.sizes, self.experts = decide, names, ranges, sizes, experts
        self.found: dict[tuple[Any, ...], Detection] = {}
        self.maps: dict[Any, WeightMap] = {}
        self.checked: set[tuple[Any, ...]] = set()
        self.encoded: dict[tuple[Any, ...], tuple[relax.Expr, relax.Expr]] = {}
        self.dense: dict[tuple[Any, ...], relax.Expr] = {}
        self.plans: dict[tuple[Any, ...], LayerPlan] = {}
        self.entry_point = "main"

    def begin(self, func: relax.Function) -> None:
        """Note which entry point is visited."""
        self.entry_point = entry_point_of(func, self.entry_point)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        match = match_dense(call, self.lookup_binding)
        match = match or self.conv(call)
        if match is None:
            return call
        index, plan = self.plan(match, str(match.x.ty.dtype.dtype))
        if any(bucket.kernel is None for bucket in plan.buckets):
            return call
        attrs: dict[str, Any] = {"buckets": buckets_to_attr(plan.buckets), "layer": plan.layer.name, "index": index}
        packed: Callable[..., relax.Call] = packed_dense
        balanced: Callable[..., relax.Call] = balanced_dense
        if match.conv is not None:
            packed, balanced, attrs["conv"] = packed_conv, balanced_conv, match.conv.to_attr()
        patterns = {bucket.pattern for bucket in plan.buckets}
        pattern = patterns.pop() if len(patterns) == 1 else None
        if pattern is None or self.deferred is not None:
            return packed(match.x, self.dense_weight(match), **attrs)
        values, indices = self.encoded_weight(match, pattern)
        k = match.weight.shape[1]
        return balanced(match.x, values, indices, nnz=pattern.nnz, block=pattern.block, in_features=k, **attrs)

    def conv(self, call: relax.Call) -> DenseMatch | None:
        """Return the convolution that `call` is, with its columns in the best order and x in the result's dtype."""
        match = match_conv(call, self.lookup_binding)
        if match is None:
            return None
        assert match.conv is not None
        if match.conv.taps > 1 and match.conv.depth > 1:
            orders = [reordered(match, order) for order in (TAPS_FIRST, CHANNELS_FIRST)]
            match = min(orders, key=lambda other: self.slots(other))
        dtype = str(call.ty.dtype.dtype)
        if str(match.x.ty.dtype.dtype) == dtype:
            return match
        x = self.builder_.emit(relax.op.astype(match.x, dtype))
        return replace(match, x=x, weight=match.weight.astype(numpy_dtype(dtype)), key=("astype", dtype, match.key))

    def slots(self, match: DenseMatch) -> int:
        """Return how many slots a weight takes at least."""
        found = self.detection(match)
        return found.stored(found.pattern) if found.pattern else match.weight.size

    def detection(self, match: DenseMatch) -> Detection:
        """Return what the zeros of a weight look like."""
        if match.key not in self.found:
            self.found[match.key] = detect(match.weight)
        return self.found[match.key]

    def weight_map(self, match: DenseMatch, name: str) -> WeightMap:
        """Return what the zeros of a weight look like to the eye."""
        if match.key not in self.maps:
            pattern = self.detection(match).pattern
            self.maps[match.key] = WeightMap.of(name, match.weight, pattern.block if pattern else BLOCK)
        return self.maps[match.key]

    def plan(self, match: DenseMatch, dtype: str) -> tuple[int, LayerPlan]:
        """Return the plan of a layer, which counts this call, and its place among the model's."""
        rows = EVERY_M if match.m is not None else self.rows(match.leading)
        key = (self.entry_point, match.key, match.m, rows, match.conv)
        if key not in self.plans:
            known = (self.names[address] for address in match.addresses if address in self.names)
            name = next(known, f"{'conv' if match.conv else 'dense'}_{len(self.checked)}")
            if match.key not in self.checked:
                _check(match.weight, name)
                self.checked.add(match.key)
            n, k = match.weight.shape
            found = self.detection(match)
            seen = self.weight_map(match, name)
            experts = max((self.experts.get(address, 1) for address in match.addresses), default=1)
            in_loop = _state(match.x, self.lookup_binding) is not None
            layer = DenseLayer(
                name, match.m, n, k, dtype, found, rows, tuple(match.addresses), match.conv, seen, experts, in_loop
            )
            self.plans[key] = LayerPlan(layer, self.decide(layer), 0, self.entry_point)
            release(match.weight)
        plan, m = self.plans[key], match.m
        steps, example_steps = (_steps(match.x, self.lookup_binding, sizes) for sizes in ({}, self.sizes))
        if m is None:
            m = math.prod(evaluate(dim, self.sizes) for dim in match.leading)
        of_a_row = plan.layer.k if match.conv is None else match.conv.macs / match.conv.pixels
        macs = round(example_steps * m * plan.layer.n * of_a_row / plan.layer.experts)
        self.plans[key] = replace(plan, calls=plan.calls + steps, example_m=m, macs=plan.macs + macs)
        return list(self.plans).index(key), plan

    def rows(self, shape: list[Any]) -> RowRange:
        """Return the range of M for leading dimensions of which some are known only at the call."""
        analyzer = sym.Analyzer()
        for var in {var for dim in shape for var in tirx.analysis.undefined_vars(dim)}:
            low, high = self.ranges.get(var.name, (1, None))
            analyzer.update(var, sym.ConstIntBound(max(1, low), NO_LIMIT if high is None else high))
        bound = analyzer.const_int_bound(math.prod(shape, start=tirx.IntImm("int64", 1)))
        return RowRange(max(1, bound.min_value), None if bound.max_value == NO_LIMIT else bound.max_value)

    def encoded_weight(self, match: DenseMatch, pattern: BalancedPattern) -> tuple[relax.Expr, relax.Expr]:
        key = (match.key, pattern)
        if key not in self.encoded:
            weight = encode(match.weight, pattern)
            self.encoded[key] = (relax.const(weight.values), relax.const(weight.indices, "uint8"))
        return self.encoded[key]

    def dense_weight(self, match: DenseMatch) -> relax.Expr:
        if match.key not in self.dense:
            self.dense[match.key] = relax.const(match.weight) if self.deferred is None else self.stand_in(match.weight)
        return self.dense[match.key]

    def stand_in(self, weight: Array) -> relax.Expr:
        """Return a constant for a weight that takes no memory, because nobody writes to its pages."""
        assert self.deferred is not None
        constant = relax.const(unwritten(weight.shape, weight.dtype))
        self.deferred[address_of(constant.value)] = weight
        return constant


def _state(x: relax.Expr, lookup: Lookup) -> relax.Call | None:
    """Return the state of a recurrence that x is, None if it is something else."""
    state = lookup(x) if isinstance(x, relax.Var) else x
    return state if state is not None and is_call(state, RECURRENT_STATE) else None


def _steps(x: relax.Expr, lookup: Lookup, sizes: Mapping[str, int]) -> int:
    """Return how often a layer runs in a call of the model: once, or in every step of a recurrence if `sizes` say how many."""
    state = _state(x, lookup)
    if state is None:
        return 1
    batch, *gates = state.args[0].ty.shape[0], *list(state.args[1].ty.shape)[:2]
    if any(var.name not in sizes for dim in (batch, *gates) for var in variables(dim)):
        return 1
    batch, *gates = (evaluate(dim, sizes) for dim in (batch, *gates))
    return math.prod(gates) // batch if batch else 1


def _check(weight: Any, name: str) -> None:
    try:
        check_finite(weight)
    except WeightError as error:
        raise WeightError(f"layer {name}: {error}") from None
