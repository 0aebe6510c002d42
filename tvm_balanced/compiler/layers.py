"""Every dense layer of a model with its kernel, before any weight is packed."""

import tvm
from tvm import relax

from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.ops import is_dense_op
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.fuse_epilogue import FuseEpilogue
from tvm_balanced.transform.lower_dense_ops import LoweredLayer, shares_of
from tvm_balanced.transform.rewrite_balanced_dense import RewriteBalancedDense, RewrittenLayer


def layers_of(imported: ImportedModel, judge: KernelSelector, layers: list[RewrittenLayer] | None = None) -> list[LoweredLayer]:
    """Return every call of a dense layer that a kernel of ours computes, in order, without packing a weight.

    `layers` receives what was decided for each dense layer.
    """
    with judge.target:
        passes = [RewriteBalancedDense(judge, dict(imported.weight_names), layers, imported.ranges), FuseEpilogue()]
        mod = tvm.transform.Sequential(passes)(imported.mod)
    return collect(mod)


def collect(mod: tvm.IRModule) -> list[LoweredLayer]:
    """Return the calls of the two dense operators in a module, in order."""
    found: list[LoweredLayer] = []

    def visit(expr: relax.Expr) -> None:
        if is_dense_op(expr):
            found.extend(LoweredLayer(str(expr.attrs["layer"]), share) for share in shares_of(expr))

    for _, func in mod.functions_items():
        if isinstance(func, relax.Function):
            relax.analysis.post_order_visit(func, visit)
    return found
