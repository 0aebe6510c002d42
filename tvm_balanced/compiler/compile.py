"""The compiler: ImportedModel --> CompiledModule, checked against the original model."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tvm

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.compare import check
from tvm_balanced.compiler.layers import calls_in
from tvm_balanced.compiler.reporting import report_of
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel
from tvm_balanced.core.report import Report
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.core.validation import check_count, check_kernels, check_tolerance
from tvm_balanced.errors import ModelError, TvmBalancedError, last_line
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.causal_lm import module_class
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.cuda import toolchain
from tvm_balanced.runtime.host import cores, runs_here
from tvm_balanced.runtime.metadata import EntryPointSpec, ModuleMetadata
from tvm_balanced.runtime.target_features import is_gpu, required_features
from tvm_balanced.runtime.tensors import address_of, view
from tvm_balanced.schedules.base.cuda_config import PASS_CONFIG
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.lift_weights import LiftedWeight, places_of
from tvm_balanced.transform.pipeline import Lowered, lower


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """How to compile.

    Parameters
    ----------
    target : str, dict, tvm.target.Target or None
        As `targets.parse_target` takes it; None is this machine.
    threads : int or None
        Threads of a call, all cores by default.
    tolerance : float or None
        Largest allowed difference to the original model, relative to the largest output (or 1 if that is less); None
        derives it from what each output went through, see `core.tolerance`.
    kernels : mapping
        Layer name pattern to the kernel to force, as `verdict.KernelSelector` takes it.
    logs : str, Path, False or None
        Folder of tuning logs whose winners are used before the shipped ones; None is this user's, False leaves all kernels
        at their defaults.
    copies : int or None
        The most kernels that may share a layer whose rows are known only at the call, each with its own copy of the weight;
        None is break_even.MOST_COPIES.
    progress : callable or None
        Is told the name of each phase when it begins.

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
    progress: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if self.copies is not None:
            check_count("copies", self.copies)
        if self.threads is not None:
            check_count("threads", self.threads)
        check_tolerance(self.tolerance)
        check_kernels(self.kernels)


@quiet_tvm()
def compile_imported(imported: ImportedModel, options: CompileOptions) -> CompiledModule:
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
    started = time.monotonic()
    environment.require_working_tvm()
    target = parse_target(options.target)
    if is_gpu(target):
        toolchain.choose(target)
    threads = options.threads or cores()
    selector = KernelSelector.of(target, threads, options.kernels, options.copies)
    tuned = TunedSchedules.of(target, threads, options.logs)
    lowered, executable = _build(imported, target, selector, tuned, options.progress)
    selector.check_all_used()
    runs = runs_here(target)
    facts = ModuleMetadata(
        entry_points={name: _spec(entry, places_of(lowered.weights, name)) for name, entry in imported.entry_points.items()},
        report=report_of(lowered, lowered.calls, selector, tuned),
        target=str(target),
        features=tuple(sorted(required_features(target))),
        threads=threads,
        source=imported.source,
        versions=environment.versions(),
        generation=imported.generation,
    )
    weights = [_own(weight, imported) for weight in lowered.weights]
    module = module_class(facts)(executable, [(w.name, w.tensor) for w in weights], facts, runnable=runs)
    if not runs:
        return module
    comparisons = check(module, imported, options.tolerance, time.monotonic() - started)
    return module.with_checks(comparisons)


def _build(
    imported: ImportedModel,
    target: tvm.target.Target,
    selector: KernelSelector,
    tuned: TunedSchedules,
    progress: Callable[[str], None] | None,
) -> tuple[Lowered, Any]:
    """Return an imported model lowered, and the executable of it; raises ModelError if TVM cannot."""
    lowered = _lower(imported, target, selector, tuned, progress)
    if progress is not None:
        progress("machine code")
    with _failures(imported.source), _machine(target):
        return lowered, build(lowered.mod, target, relax_pipeline=None)


def _lower(
    imported: ImportedModel,
    target: tvm.target.Target,
    selector: KernelSelector,
    tuned: TunedSchedules,
    progress: Callable[[str], None] | None,
    pack: bool = True,
) -> Lowered:
    """Return an imported model lowered; raises ModelError if TVM cannot."""
    names, ranges, sizes = imported.weight_names, imported.ranges, imported.sizes
    donated = {name: entry.donated_places for name, entry in imported.entry_points.items()}
    with _failures(imported.source), _machine(target):
        return lower(
            imported.mod, target, selector, names, ranges, tuned, progress=progress, sizes=sizes, pack=pack, donated=donated
        )


@contextmanager
def _machine(target: tvm.target.Target) -> Iterator[None]:
    # on a machine with a GPU, TVM makes machine code at once, for the current target or else for that GPU
    with target, tvm.transform.PassContext(config=PASS_CONFIG if is_gpu(target) else {}):
        yield


@contextmanager
def _failures(source: str) -> Iterator[None]:
    """Raise what TVM raises within as ModelError."""
    try:
        yield
    except TvmBalancedError:
        raise
    except Exception as error:  # TVM raises many kinds, with a page of text
        raise ModelError(
            f"TVM cannot compile {source}: {last_line(error)}; rewrite that part of the model, or report it"
        ) from error


def _own(weight: LiftedWeight, imported: ImportedModel) -> LiftedWeight:
    """Copy a weight that is still the model's own memory: a compiled module does not change when the model is trained on."""
    if address_of(weight.tensor) not in imported.weight_names:
        return weight
    return replace(weight, tensor=tvm.runtime.tensor(view(weight.tensor)))


def _spec(entry: ImportedFunction, weights: tuple[int, ...]) -> EntryPointSpec:
    return EntryPointSpec(
        inputs=tuple(entry.inputs),
        outputs=tuple(entry.outputs),
        ranges=entry.ranges,
        result=entry.result,
        call=entry.call,
        donate=entry.donate,
        weights=weights,
    )


@quiet_tvm()
def inspect_imported(imported: ImportedModel, options: CompileOptions) -> Report:
    """Return what `compile_imported` would do with each layer, without compiling; raises alike."""
    environment.require_working_tvm()
    target = parse_target(options.target)
    threads = options.threads or cores()
    selector = KernelSelector.of(target, threads, options.kernels, options.copies)
    tuned = TunedSchedules.of(target, threads, options.logs)
    lowered = _lower(imported, target, selector, tuned, options.progress, pack=False)
    selector.check_all_used()
    return report_of(lowered, calls_in(lowered.mod), selector, tuned)
