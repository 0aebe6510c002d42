"""Every dense layer of a model with its kernels, before any weight is packed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import tvm
from tvm import relax

from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.layer_plan import LayerPlan
from tvm_balanced.ops import is_dense_op
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.lower_dense_ops import LayerCall
from tvm_balanced.transform.pipeline import plan_passes
from tvm_balanced.transform.rewrite_balanced_dense import RewriteBalancedDense


def planned(imported: ImportedModel, selector: KernelSelector) -> tuple[Sequence[LayerPlan], list[LayerCall]]:
    """Return the plan of every dense layer, and every call of one that a kernel of ours computes, in order; packs no weight."""
    names = dict(imported.weight_names)
    rewrite = RewriteBalancedDense(selector, names, imported.ranges, imported.sizes, imported.experts, deferred={})
    with selector.target:
        mod = tvm.transform.Sequential(plan_passes(rewrite))(imported.mod)
    calls = calls_in(mod)
    places = Counter(call.index for call in calls)
    return rewrite.plans, [replace(call, times=rewrite.plans[call.index].calls // places[call.index]) for call in calls]


def calls_in(mod: tvm.IRModule) -> list[LayerCall]:
    """Return the calls of the two dense operators in a module, in order."""
    found: list[LayerCall] = []

    def visit(expr: relax.Expr) -> None:
        if is_dense_op(expr):
            found.append(LayerCall.of(expr))

    for _, func in mod.functions_items():
        if isinstance(func, relax.Function):
            relax.analysis.post_order_visit(func, visit)
    return found
