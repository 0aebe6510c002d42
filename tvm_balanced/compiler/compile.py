"""The compiler: ImportedModel --> CompiledModule, checked against the original model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tvm

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.compare import check
from tvm_balanced.compiler.layers import layers_of
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel, Range
from tvm_balanced.core.report import LayerReport, Report
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.core.validation import check_count, check_kernels, check_tolerance
from tvm_balanced.errors import ModelError, TvmBalancedError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.cuda import toolchain as cuda_compiler
from tvm_balanced.runtime.host import cores, runs_here
from tvm_balanced.runtime.metadata import EntryPointSpec, ModuleMetadata
from tvm_balanced.runtime.target_features import is_gpu, required_features
from tvm_balanced.runtime.tensors import address_of, view
from tvm_balanced.schedules.base.cuda_config import PASS_CONFIG
from tvm_balanced.selection.kernel_choice import KernelSelector, Verdict
from tvm_balanced.transform.lift_weights import LiftedWeight, places_of
from tvm_balanced.transform.lower_dense_ops import LoweredLayer
from tvm_balanced.transform.pipeline import tvm_balanced_pipeline
from tvm_balanced.transform.rewrite_balanced_dense import RewrittenLayer


@dataclass(frozen=True)
class Options:
    """How to compile.

    Parameters
    ----------
    target : str, dict, tvm.target.Target or None
        As `targets.parse_target` takes it; None is this machine.
    threads : int or None
        Threads of a call, all cores by default.
    tolerance : float or None
        Largest allowed difference to the original model, relative to the largest output (or 1 if that is less); None
        chooses by the outputs' dtype, see TOLERANCE.
    kernels : mapping
        Layer name pattern to the kernel to force, as `verdict.KernelSelector` takes it.
    logs : str, Path, False or None
        Folder of tuning logs whose winners are used before the shipped ones; None is this user's, False leaves all kernels
        at their defaults.
    copies : int or None
        The most kernels that may share a layer whose rows are known only at the call, each with its own copy of the weight;
        None is break_even.MOST_COPIES.

    Raises
    ------
    InputError
        Where one is of another type, or out of range.
    """

    target: Any = None
    threads: int | None = None
    tolerance: float | None = None
    kernels: Mapping[str, str] | None = None
    logs: str | Path | Literal[False] | None = None
    copies: int | None = None

    def __post_init__(self) -> None:
        if self.copies is not None:
            check_count("copies", self.copies)
        if self.threads is not None:
            check_count("threads", self.threads)
        check_tolerance(self.tolerance)
        check_kernels(self.kernels)


@quiet_tvm()
def compile_imported(imported: ImportedModel, options: Options) -> CompiledModule:
    """Compile an imported model and check it on its example inputs.

    Raises
    ------
    TargetError
        Where the target or a forced kernel is unknown or does not fit.
    WeightError
        Where a weight holds NaN or infinity.
    ModelError
        Where TVM cannot compile a part of the model.
    TuningError
        Where the tuning log of the target cannot be read or is for another.
    ToleranceError
        Where outputs differ from the original model's by more than the tolerance; no module is returned then.
    EnvironmentFaultError
        Where the installation is known not to work, or has a GPU and nothing to compile for it with.
    """
    environment.require_working_tvm()
    target = parse_target(options.target)
    if is_gpu(target):
        cuda_compiler.choose(target)
    threads = options.threads or cores()
    layers: list[RewrittenLayer] = []
    weights: list[LiftedWeight] = []
    lowered: list[LoweredLayer] = []
    judge = KernelSelector.of(target, threads, options.kernels, options.copies)
    tuned = TunedSchedules.of(target, threads, options.logs)
    pipeline = tvm_balanced_pipeline(judge, dict(imported.weight_names), layers, weights, lowered, tuned, imported.ranges)
    try:
        # where there is a GPU, TVM makes machine code at once, for the current target or else for that GPU
        with target, tvm.transform.PassContext(config=PASS_CONFIG if is_gpu(target) else {}):
            executable = build(imported.mod, target, relax_pipeline=pipeline)
    except TvmBalancedError:
        raise
    except Exception as error:  # TVM raises many kinds, with a page of text
        what = next((line for line in reversed(str(error).strip().splitlines()) if line.strip()), type(error).__name__)
        raise ModelError(
            f"TVM cannot compile {imported.source}: {what.strip()}; rewrite that part of the model, or report it"
        ) from error
    judge.check_all_used()
    weights = [_own(weight, imported) for weight in weights]
    runs = runs_here(target)
    facts = ModuleMetadata(
        entry_points={name: _spec(entry, places_of(weights, name)) for name, entry in imported.entry_points.items()},
        report=report_of(layers, lowered, tuned),
        target=str(target),
        features=tuple(sorted(required_features(target))),
        threads=threads,
        source=imported.source,
        versions=environment.versions(),
    )
    module = CompiledModule(executable, [(w.name, w.tensor) for w in weights], facts, runnable=runs)
    return module.with_error(check(module, imported, options.tolerance)) if runs else module


def _own(weight: LiftedWeight, imported: ImportedModel) -> LiftedWeight:
    """Copy a weight that is still the model's own memory: a compiled module does not change when the model is trained on."""
    if address_of(weight.tensor) not in imported.weight_names:
        return weight
    return replace(weight, tensor=tvm.runtime.tensor(view(weight.tensor)))


def _spec(entry: ImportedFunction, weights: tuple[int, ...]) -> EntryPointSpec:
    return EntryPointSpec(tuple(entry.inputs), tuple(entry.outputs), entry.ranges, entry.structure, entry.donate, weights)


@quiet_tvm()
def inspect_imported(imported: ImportedModel, options: Options) -> Report:
    """Return what `compile_imported` would do with each layer, without compiling; raises alike."""
    environment.require_working_tvm()
    target = parse_target(options.target)
    layers: list[RewrittenLayer] = []
    threads = options.threads or cores()
    judge = KernelSelector.of(target, threads, options.kernels, options.copies)
    tuned = TunedSchedules.of(target, threads, options.logs)
    lowered = layers_of(imported, judge, layers)
    judge.check_all_used()
    return report_of(layers, lowered, tuned)


def report_of(layers: Sequence[RewrittenLayer], lowered: Sequence[LoweredLayer], tuned: TunedSchedules) -> Report:
    """Return the report on what the rewriting pass decided, and where the schedule of each layer comes from."""
    sources: dict[tuple[str, str, int | None], dict[str, None]] = {}
    for call in lowered:
        key = (call.layer, call.workload.kernel, call.workload.m)
        sources.setdefault(key, {})[tuned.source(call.share)] = None

    def row(entry: RewrittenLayer, rows: Range, verdict: Verdict) -> LayerReport:
        layer = entry.layer
        found, stored = layer.found.pattern, verdict.pattern
        return LayerReport(
            layer=layer.name,
            n=layer.n,
            k=layer.k,
            m=layer.m,
            calls=entry.calls,
            sparsity=layer.found.sparsity,
            pattern=str(found or "-"),
            stored=str(stored or "-"),
            padding=layer.found.padding(stored) if stored else 0.0,
            kernel=verdict.kernel or "tvm",
            verdict="sparse" if verdict.sparse else "dense",
            reason=verdict.reason,
            source=verdict.source,
            speedup=verdict.speedup,
            schedule="; ".join(sources.get((layer.name, verdict.kernel or "", layer.m), ())) or "-",
            first=rows[0],
            last=rows[1],
        )

    return Report(tuple(row(entry, *part) for entry in layers for part in entry.verdict.by_rows()))
