"""The pipeline: the table of contents of what happens between import and machine code."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import tvm
from tvm import relax
from tvm.relax.backend.cpu_generic import pipeline as cpu
from tvm.relax.backend.cuda import pipeline as cuda
from tvm.s_tir import dlight as dl

from tvm_balanced import ops
from tvm_balanced.core.accounting import FunctionUse, OperatorUse
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import Range
from tvm_balanced.core.layer_plan import LayerPlan
from tvm_balanced.runtime.target_features import is_gpu
from tvm_balanced.schedules.base.kernel import Tuned, built_once
from tvm_balanced.selection.kernel_choice import EXACT, KernelSelector
from tvm_balanced.transform.align_constants import AlignConstants
from tvm_balanced.transform.approximate_math import ApproximateMath
from tvm_balanced.transform.attend_by_library import AttendByLibrary
from tvm_balanced.transform.attend_few_queries import AttendFewQueries
from tvm_balanced.transform.attend_in_bfloat16 import AttendInBfloat16
from tvm_balanced.transform.collapse_views import CollapseViews
from tvm_balanced.transform.count_operators import CountOperators
from tvm_balanced.transform.estimate_functions import EstimateFunctions
from tvm_balanced.transform.fold_batch_norm import FoldBatchNorm
from tvm_balanced.transform.fold_constant import fold_constant
from tvm_balanced.transform.fuse_attention import FuseAttention
from tvm_balanced.transform.fuse_epilogue import FuseEpilogue
from tvm_balanced.transform.legalize import LEGALIZE, LEGALIZE_GPU
from tvm_balanced.transform.lift_weights import LiftedWeight, LiftWeights
from tvm_balanced.transform.lower_dense_ops import LayerCall, LowerDenseOps
from tvm_balanced.transform.lower_recurrence import LowerRecurrence
from tvm_balanced.transform.narrow_convolutions import NarrowConvolutions
from tvm_balanced.transform.note_variables import NoteVariables
from tvm_balanced.transform.pad_attention import PadAttention
from tvm_balanced.transform.prefer_attention_library import PreferAttentionLibrary
from tvm_balanced.transform.rewrite_balanced_dense import Decide, RewriteBalancedDense
from tvm_balanced.transform.schedule_kernels import ScheduleKernels
from tvm_balanced.transform.schedule_remainder import ScheduleRemainder
from tvm_balanced.transform.unflatten_matmul import UnflattenMatmul
from tvm_balanced.transform.update_in_place import Donated, UpdateInPlace
from tvm_balanced.transform.workarounds.bitcast_nan import BitcastNaN
from tvm_balanced.transform.workarounds.check_lookups import CheckLookups
from tvm_balanced.transform.workarounds.exact_math import ExactMath
from tvm_balanced.transform.workarounds.keep_shapes_apart import KeepShapesApart
from tvm_balanced.transform.workarounds.mark_noalias import MarkNoalias
from tvm_balanced.transform.workarounds.order_shape_stores import OrderShapeStores
from tvm_balanced.transform.workarounds.propagate_nan import PropagateNaN
from tvm_balanced.transform.workarounds.unvectorize_booleans import UnvectorizeBooleans
from tvm_balanced.transform.workarounds.unvectorize_broadcasts import UnvectorizeBroadcasts

NAME = "tvm_balanced"
DUMP = "TVM_BALANCED_DUMP"  # the environment variable that names a folder for the module after every phase
log = logging.getLogger(__name__)
Phase = tuple[str, list[tvm.transform.Pass]]


@dataclass(frozen=True)
class Lowered:
    """An imported model as the virtual machine runs it, and what was decided on the way.

    Parameters
    ----------
    mod : tvm.IRModule
    plans : sequence of LayerPlan
        Every dense layer, in the order they are computed.
    calls : sequence of LayerCall
        Every call of a dense layer that a kernel of ours computes, in order.
    weights : sequence of LiftedWeight
        Parameters of the functions, after their inputs.
    operators : sequence of OperatorUse
        Every other operator with a constant weight, in the order they are computed, and products of activations.
    rest : sequence of OperatorUse
        Every other weight: biases, scales of norms, tables that are added.
    functions : sequence of FunctionUse
        Every function of TVM's own operators.
    variables : mapping
        Name of a function to those of the imported model's variables that it computes.
    """

    mod: tvm.IRModule
    plans: Sequence[LayerPlan]
    calls: Sequence[LayerCall]
    weights: Sequence[LiftedWeight]
    operators: Sequence[OperatorUse]
    rest: Sequence[OperatorUse]
    functions: Sequence[FunctionUse]
    variables: Mapping[str, Set[str]]


def lower(
    mod: tvm.IRModule,
    target: tvm.target.Target,
    decide: Decide | None = None,
    names: Mapping[int, str] | None = None,
    ranges: Mapping[str, Range] | None = None,
    tuned: Tuned | None = None,
    lift: bool = True,
    progress: Callable[[str], None] | None = None,
    sizes: Mapping[str, int] | None = None,
    pack: bool = True,
    donated: Donated | None = None,
    experts: Mapping[int, int] | None = None,
    attention: str = EXACT,
) -> Lowered:
    """Lower an imported model for a target.

    Parameters
    ----------
    mod : tvm.IRModule
        Relax functions whose weights are constants.
    target : tvm.target.Target
    decide : callable, optional
        From a DenseLayer to its buckets; by default a KernelSelector of the target.
    names : mapping, optional
        Address of a constant to its name in the model.
    ranges : mapping, optional
        Symbol of a dimension to the sizes that it may have.
    tuned : callable, optional
        From a workload to its tuned decisions; by default all kernels have their default decisions.
    lift : bool
        Whether weights become parameters of a CompiledModule's library; else they stay constants, and no function of this
        package is called at run time.
    progress : callable, optional
        Is told the name of each phase when it begins.
    sizes : mapping, optional
        Symbol of a dimension to its size in the examples, for what is counted at those sizes.
    pack : bool
        Whether dense layers are lowered, too. If not, they stay operators, no weight is packed, and the module cannot be built:
        enough to know what would be done.
    donated : mapping, optional
        Name of a function to the places of its donated inputs, each with that of the output that takes its place.
    experts : mapping, optional
        As ImportedModel has it, for what is counted.
    attention : str
        What attention is computed in: "float32", or "bfloat16" where the target has it.
    """
    names = dict(names or {})
    deferred: dict[int, Array] = {}
    rewrite = RewriteBalancedDense(decide or KernelSelector.of(target), names, ranges, sizes, experts, deferred)
    counting, estimating = CountOperators(names, sizes), EstimateFunctions(sizes)
    lowering, lifting, noting = LowerDenseOps(names, deferred), LiftWeights(names), NoteVariables()
    backend = cuda if is_gpu(target) else cpu
    asks = is_gpu(target) and lift and pack  # somebody of this package is there at run time to answer
    dense_ops = list(ops.WEIGHT_ARGS)
    scheduled: set[str] = set()

    @tvm.transform.module_pass(opt_level=0, name="NoteScheduled")
    def note_scheduled(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        scheduled.update(var.name_hint for var, func in mod.functions_items() if "tirx.is_scheduled" in (func.attrs or {}))
        return mod

    phases: list[Phase] = [
        ("dense layers become operators with kernels", plan_passes(rewrite, counting)),
        (
            "the rest becomes TensorIR, constants are folded before our kernels are there",
            [
                *backend.library_dispatch_passes(target),
                relax.transform.DecomposeOpsForInference(),
                relax.transform.CanonicalizeBindings(),
                CollapseViews(),
                UnflattenMatmul(),
                relax.transform.CanonicalizeBindings(),
                *([] if is_gpu(target) else [UpdateInPlace(donated or {}), *attention_passes(attention)]),
                *([AttendByLibrary()] if asks else []),
                relax.transform.LegalizeOps(LEGALIZE_GPU if is_gpu(target) else LEGALIZE, skip_ops=dense_ops),
                AlignConstants(names, folded=True),
                fold_constant,
                *([lowering] if pack else []),
                CollapseViews(),
                relax.transform.LegalizeOps(skip_ops=dense_ops),
                relax.transform.AnnotateTIROpPattern(),
                KeepShapesApart(),
            ],
        ),
        ("weights leave the library", [*([AlignConstants(names)] if pack else []), *([lifting] if lift and pack else [])]),
        (
            "the rest is fused, all is scheduled",
            [
                noting,
                relax.transform.FuseOps(),
                noting,
                relax.transform.FuseTIR(),
                relax.transform.DeadCodeElimination(),
                ScheduleKernels(tuned, library=lift),
                *([] if is_gpu(target) else [ApproximateMath()]),
                estimating,
                *(gpu_remainder() if is_gpu(target) else [ScheduleRemainder()]),
                note_scheduled,
                *([LowerRecurrence(), relax.transform.DeadCodeElimination()] if pack else []),
                *([] if is_gpu(target) else [PropagateNaN(), UnvectorizeBroadcasts()]),
                *([PreferAttentionLibrary()] if asks else []),
            ],
        ),
        (
            "memory and calls of the virtual machine",
            [*backend.dataflow_lower_passes(target), *backend.finalize_passes(target), MarkNoalias(), OrderShapeStores()]
            if pack
            else [],
        ),
    ]
    with target, built_once():
        for number, (name, passes) in enumerate(phases, 1):
            mod = _run_phase(mod, number, name, passes, progress)
    functions = [replace(use, scheduled=use.name in scheduled) for use in estimating.functions.values()]
    rest = list(counting.rest.values())
    return Lowered(mod, rewrite.plans, lowering.calls, lifting.weights, counting.operators, rest, functions, noting.variables)


def plan_passes(rewrite: RewriteBalancedDense, *counting: tvm.transform.Pass) -> list[tvm.transform.Pass]:
    """Return the passes after which every dense layer is an operator that says its kernels, bias, activation and residual.

    `rewrite` keeps the plans; `counting` looks at what it leaves.
    """
    return [CheckLookups(), FoldBatchNorm(rewrite.names), NarrowConvolutions(), rewrite, *counting, FuseEpilogue()]


def _run_phase(
    mod: tvm.IRModule,
    number: int,
    name: str,
    passes: list[tvm.transform.Pass],
    progress: Callable[[str], None] | None,
) -> tvm.IRModule:
    """Run one phase, and write the module to the folder that TVM_BALANCED_DUMP names."""
    log.info("phase %d: %s", number, name)
    if progress is not None:
        progress(name)
    mod = tvm.transform.Sequential(passes)(mod)
    folder = os.environ.get(DUMP)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"phase{number}.py").write_text(f"# {name}\n{mod.script()}\n")
    return mod


def tvm_balanced_pipeline(decide: Decide | None = None, tuned: Tuned | None = None) -> tvm.transform.Pass:
    """Return the pass from an imported model to what the virtual machine runs, for the current target.

    For `tvm.compile(mod, target, relax_pipeline="tvm_balanced")`; weights stay constants of the library. Parameters as for
    `lower`.
    """

    @tvm.transform.module_pass(opt_level=0, name=NAME)
    def run(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return lower(mod, tvm.target.Target.current(), decide, tuned=tuned, lift=False).mod

    return run


def attention_passes(precision: str = EXACT) -> list[tvm.transform.Pass]:
    """Return the passes that make attention one function on a CPU; afterwards masks that each of them made anew are one."""
    rounded = [] if precision == EXACT else [AttendInBfloat16()]
    return [*rounded, AttendFewQueries(), PadAttention(), FuseAttention(), relax.transform.EliminateCommonSubexpr()]


def gpu_remainder() -> list[tvm.transform.Pass]:
    """Return the passes that schedule what no kernel of ours computes on a GPU, by TVM's own rules, and mend what comes of it."""
    rules = dl.gpu.Matmul(), dl.gpu.GEMV(), dl.gpu.Reduction(), dl.gpu.GeneralReduction(), dl.gpu.Fallback()
    return [dl.ApplyDefaultSchedule(*rules), ExactMath(), UnvectorizeBooleans(), PropagateNaN(gpu=True), BitcastNaN()]


def register() -> None:
    """Register the pipeline with TVM under the name "tvm_balanced"; further calls do nothing."""
    from tvm.relax.pipeline import PIPELINE_MAP

    if NAME not in PIPELINE_MAP:
        relax.register_pipeline(NAME)(tvm_balanced_pipeline)
