"""The pipeline: the table of contents of what happens between import and machine code."""

from collections.abc import Mapping

import tvm
from tvm import relax
from tvm.relax.backend.cpu_generic import pipeline as cpu
from tvm.relax.backend.cuda import pipeline as cuda
from tvm.s_tir import dlight as dl

from tvm_balanced import ops
from tvm_balanced.core.imported_model import Range
from tvm_balanced.runtime.target_features import is_gpu
from tvm_balanced.schedules.base.kernel import Tuned
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.approximate_math import ApproximateMath
from tvm_balanced.transform.collapse_views import CollapseViews
from tvm_balanced.transform.fuse_attention import FuseAttention
from tvm_balanced.transform.fuse_epilogue import FuseEpilogue
from tvm_balanced.transform.legalize import LEGALIZE, LEGALIZE_GPU
from tvm_balanced.transform.lift_weights import LiftedWeight, LiftWeights
from tvm_balanced.transform.lower_dense_ops import LowerDenseOps, LoweredLayer, left_alone
from tvm_balanced.transform.pad_attention import PadAttention
from tvm_balanced.transform.rewrite_balanced_dense import Decide, RewriteBalancedDense, RewrittenLayer
from tvm_balanced.transform.schedule_kernels import ScheduleKernels
from tvm_balanced.transform.schedule_remainder import ScheduleRemainder
from tvm_balanced.transform.unflatten_matmul import UnflattenMatmul
from tvm_balanced.transform.workarounds.bitcast_nan import BitcastNaN
from tvm_balanced.transform.workarounds.check_lookups import CheckLookups
from tvm_balanced.transform.workarounds.exact_math import ExactMath
from tvm_balanced.transform.workarounds.mark_noalias import MarkNoalias
from tvm_balanced.transform.workarounds.unvectorize_booleans import UnvectorizeBooleans

NAME = "tvm_balanced"


def tvm_balanced_pipeline(
    decide: Decide | None = None,
    names: dict[int, str] | None = None,
    layers: list[RewrittenLayer] | None = None,
    weights: list[LiftedWeight] | None = None,
    lowered: list[LoweredLayer] | None = None,
    tuned: Tuned | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> tvm.transform.Pass:
    """Return the pass from an imported model to what the virtual machine runs, for the current target.

    Parameters
    ----------
    decide : callable, optional
        From a DenseLayer to its Verdict; by default a KernelSelector of the current target.
    names : dict, optional
        Address of a constant to its name in the model.
    layers : list, optional
        Receives what was decided for each dense layer.
    weights : list, optional
        Receives the weights, which become parameters of `main`; without it they stay constants.
    lowered : list, optional
        Receives each call of a dense layer with the workload that it is for its kernel.
    tuned : callable, optional
        From a workload to its tuned decisions; by default all kernels have their default decisions.
    ranges : mapping, optional
        Symbol of a dimension to the sizes that it may have.
    """
    names = {} if names is None else names

    @tvm.transform.module_pass(opt_level=0, name=NAME)
    def run(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target = tvm.target.Target.current()
        backend = cuda if is_gpu(target) else cpu
        return tvm.transform.Sequential(
            [
                # Phase 1: dense layers become operators with a kernel each
                CheckLookups(),
                RewriteBalancedDense(decide or KernelSelector.of(target), names, layers, ranges),
                FuseEpilogue(),
                # Phase 2: everything else becomes TensorIR, and is folded where it is constant, before our kernels are there
                *backend.library_dispatch_passes(target),
                relax.transform.DecomposeOpsForInference(),
                relax.transform.CanonicalizeBindings(),
                CollapseViews(),
                UnflattenMatmul(),
                relax.transform.CanonicalizeBindings(),
                *([] if is_gpu(target) else attention_passes()),
                relax.transform.LegalizeOps(LEGALIZE_GPU if is_gpu(target) else LEGALIZE, skip_ops=list(ops.WEIGHT_ARGS)),
                fold_constant,
                LowerDenseOps(names, lowered),
                CollapseViews(),
                relax.transform.LegalizeOps(),
                relax.transform.AnnotateTIROpPattern(),
                # Phase 3: weights leave the library
                *([] if weights is None else [LiftWeights(names, weights)]),
                # Phase 4: fuse what is left, schedule all of it
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
                relax.transform.DeadCodeElimination(),
                ScheduleKernels(tuned),
                *(gpu_remainder() if is_gpu(target) else [ApproximateMath(), ScheduleRemainder()]),
                # Phase 5: memory and calls of the virtual machine
                *backend.dataflow_lower_passes(target),
                *backend.finalize_passes(target),
                MarkNoalias(),
            ]
        )(mod)

    return run


@tvm.transform.module_pass(opt_level=0, name="FoldConstant")
def fold_constant(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Fold what is constant; TVM's pass legalizes all operators only to look, which packed every weight once in vain."""
    with left_alone():
        return relax.transform.FoldConstant()(mod)


def attention_passes() -> list[tvm.transform.Pass]:
    """Return the passes that make attention one function on a CPU; afterwards masks that each of them made anew are one."""
    return [PadAttention(), FuseAttention(), relax.transform.EliminateCommonSubexpr()]


def gpu_remainder() -> list[tvm.transform.Pass]:
    """Return the passes that schedule what no kernel of ours computes on a GPU, by TVM's own rules, and mend what comes of it."""
    rules = dl.gpu.Matmul(), dl.gpu.GEMV(), dl.gpu.Reduction(), dl.gpu.GeneralReduction(), dl.gpu.Fallback()
    return [dl.ApplyDefaultSchedule(*rules), ExactMath(), UnvectorizeBooleans(), BitcastNaN()]


def register() -> None:
    """Register the pipeline with TVM under the name "tvm_balanced"; further calls do nothing."""
    from tvm.relax.pipeline import PIPELINE_MAP

    if NAME not in PIPELINE_MAP:
        relax.register_pipeline(NAME)(tvm_balanced_pipeline)
