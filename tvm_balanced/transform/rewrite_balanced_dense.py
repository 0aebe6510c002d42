"""RewriteBalancedDense: matmul(x, W^T) --> balanced_dense or packed_dense, as the verdict of each layer says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.detection import Detection, detect
from tvm_balanced.encoding import check_finite, encode
from tvm_balanced.errors import WeightError
from tvm_balanced.op import balanced_dense, packed_dense
from tvm_balanced.transform.match_dense import DenseMatch, match_dense
from tvm_balanced.verdict import DenseLayer, Verdict

Decide = Callable[[DenseLayer], Verdict]


@dataclass(frozen=True)
class RewrittenLayer:
    """One dense layer that the pass met, what its zeros are like, what was decided, and how often it is called."""

    layer: DenseLayer
    verdict: Verdict
    calls: int


@tvm.transform.module_pass(opt_level=0, name="RewriteBalancedDense")
class RewriteBalancedDense:
    """Rewrite dense layers with constant weights.

    rewrite: `matmul(x, permute_dims(W))` --> `balanced_dense(x, values, indices)` where the verdict names a sparse
    kernel, `packed_dense(x, W)` where it names a dense one; untouched where it names none. A weight that several calls
    share is encoded once.

    Parameters
    ----------
    decide : callable
        From a DenseLayer to its Verdict.
    names : dict
        Address of a weight to its name in the model.
    layers : list
        Receives a RewrittenLayer for each distinct weight and row count, in the order they are computed.
    """

    def __init__(self, decide: Decide, names: dict[int, str] | None = None, layers: list[RewrittenLayer] | None = None) -> None:
        self.decide, self.names = decide, names or {}
        self.layers = [] if layers is None else layers

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        rewriter = _Rewriter(mod, self.decide, self.names)
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function):
                rewritten = relax.analysis.remove_all_unused(rewriter.visit_expr(func))
                rewriter.builder_.update_func(var, rewritten)
        self.layers.extend(rewriter.layers())
        return rewriter.builder_.finalize()


@mutator
class _Rewriter(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, decide: Decide, names: dict[int, str]) -> None:
        super().__init__(mod)
        self.decide, self.names = decide, names
        self.found: dict[tuple[Any, ...], Detection] = {}
        self.encoded: dict[tuple[Any, ...], tuple[relax.Expr, relax.Expr]] = {}
        self.dense: dict[tuple[Any, ...], relax.Expr] = {}
        self.met: dict[tuple[Any, ...], tuple[DenseLayer, Verdict, int]] = {}

    def layers(self) -> list[RewrittenLayer]:
        return [RewrittenLayer(*entry) for entry in self.met.values()]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        match = match_dense(call, self.lookup_binding)
        if match is None:
            return call
        layer, verdict = self.judge(match, str(call.args[0].ty.dtype.dtype))
        if verdict.kernel is None:
            return call
        if verdict.pattern is None:
            return packed_dense(match.x, self.dense_weight(match), kernel=verdict.kernel, layer=layer.name)
        values, indices = self.encoded_weight(match, verdict)
        pattern, (_, k) = verdict.pattern, match.weight.shape
        return balanced_dense(
            match.x,
            values,
            indices,
            nnz=pattern.nnz,
            block=pattern.block,
            in_features=k,
            kernel=verdict.kernel,
            layer=layer.name,
        )

    def judge(self, match: DenseMatch, dtype: str) -> tuple[DenseLayer, Verdict]:
        key = (match.key, match.m)
        if key not in self.met:
            known = (self.names[address] for address in match.addresses if address in self.names)
            name = next(known, f"dense_{len(self.found)}")
            if match.key not in self.found:
                _check(match.weight, name)
                self.found[match.key] = detect(match.weight)
            n, k = match.weight.shape
            layer = DenseLayer(name, match.m, n, k, dtype, self.found[match.key])
            self.met[key] = (layer, self.decide(layer), 0)
        layer, verdict, calls = self.met[key]
        self.met[key] = (layer, verdict, calls + 1)
        return layer, verdict

    def encoded_weight(self, match: DenseMatch, verdict: Verdict) -> tuple[relax.Expr, relax.Expr]:
        key = (match.key, verdict.pattern)
        if key not in self.encoded:
            assert verdict.pattern is not None
            weight = encode(match.weight, verdict.pattern)
            self.encoded[key] = (relax.const(weight.values), relax.const(weight.indices, "uint8"))
        return self.encoded[key]

    def dense_weight(self, match: DenseMatch) -> relax.Expr:
        if match.key not in self.dense:
            self.dense[match.key] = relax.const(match.weight)
        return self.dense[match.key]


def _check(weight: Any, name: str) -> None:
    try:
        check_finite(weight)
    except WeightError as error:
        raise WeightError(f"layer {name}: {error}") from None
