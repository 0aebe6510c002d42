"""Tasks: the distinct kernels of a model, each with how often a call of the model runs it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import tvm
from tvm import relax

from tvm_balanced.imported import ImportedModel
from tvm_balanced.op import is_dense_op
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.several import Share
from tvm_balanced.transform.fuse_epilogue import FuseEpilogue
from tvm_balanced.transform.lower_dense_ops import LoweredLayer, shares_of
from tvm_balanced.transform.rewrite_balanced_dense import RewriteBalancedDense, RewrittenLayer
from tvm_balanced.verdict import Judge


@dataclass(frozen=True)
class Task:
    """A kernel to tune.

    Parameters
    ----------
    workload : Workload
        M is known.
    calls : int
        How often a call of the model runs it.
    layers : tuple of str
        The layers that it computes.
    """

    workload: Workload
    calls: int = 1
    layers: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What a person calls it."""
        w = self.workload
        words = [f"{w.kernel} {w.n}x{w.k} M={w.m}", *([] if w.nnz == w.block else [str(w.pattern)])]
        words += [*([] if w.dtype == "float32" else [w.dtype]), *([] if w.activation == "none" else [w.activation])]
        return " ".join(words + (["+residual"] if w.residual else []))


def layers_of(imported: ImportedModel, judge: Judge, layers: list[RewrittenLayer] | None = None) -> list[LoweredLayer]:
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


def tasks_of(layers: Sequence[LoweredLayer]) -> list[Task]:
    """Return the distinct kernels of layers, in the order of their first call.

    A layer whose M is known only at the call is tuned at the M of its kernel's instances for small M; the rest of its M are in
    default tiles, and so are not tuned.
    """
    calls: Counter[Workload] = Counter()
    names: dict[Workload, dict[str, None]] = {}
    for entry in layers:
        for workload in instances(entry.share):
            calls[workload] += 1
            names.setdefault(workload, {})[entry.layer] = None
    return [Task(workload, count, tuple(names[workload])) for workload, count in calls.items()]


def instances(share: Share) -> list[Workload]:
    """Return the workloads with a known M whose decisions a layer's share uses: its own, or its instances for small M."""
    if share.workload.m is not None:
        return [share.workload]
    return [replace(share.workload, m=tile) for tile in share.small_tiles]


def shard(tasks: Sequence[Task], index: int, count: int) -> list[Task]:
    """Return the share of tasks of shard `index`, from 1 up to `count`; shards of one model have all of them together."""
    return [task for place, task in enumerate(tasks) if place % count == index - 1]
