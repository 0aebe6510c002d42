"""The compiler: ImportedModel --> CompiledModule, checked against the original model."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tvm

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.calibration import Data, data_of
from tvm_balanced.compiler.compare import check, rounding_of
from tvm_balanced.compiler.layers import calls_in
from tvm_balanced.compiler.precision import PRECISIONS, Budget, Choice, choose, everywhere, precision_report, with_losses
from tvm_balanced.compiler.reporting import report_of
from tvm_balanced.compiler.self_tests import self_tests
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.loss import Metric
from tvm_balanced.core.mapped_files import release
from tvm_balanced.core.report import Report
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.core.validation import check_count, check_kernels, check_max_loss, check_precision, check_tolerance
from tvm_balanced.errors import InputError, ModelError, TvmBalancedError, last_line
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.causal_lm import module_class
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.cuda import toolchain
from tvm_balanced.runtime.host import cores, runs_here
from tvm_balanced.runtime.metadata import EntryPointSpec, ModuleMetadata
from tvm_balanced.runtime.target_features import is_gpu, required_features
from tvm_balanced.runtime.tensors import address_of, view
from tvm_balanced.schedules.base.cuda_config import PASS_CONFIG
from tvm_balanced.selection.kernel_choice import EXACT, KernelSelector, PrecisionOf
from tvm_balanced.transform.lift_weights import LiftedWeight, places_of
from tvm_balanced.transform.pipeline import Lowered, lower

ALONE = 4.0  # how much larger a single value's loss may be than the norm of all, each relative to its own scale


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
    precision : str
        One of `precision.PRECISIONS`.
    calibration : iterable, mapping or None
        The data that losses are measured on, as `calibration.data_of` takes it; None stands for the examples.
    max_loss : float
        The budget for what is lost by rounding.
    metric : callable or None
        What the budget limits, as `core.loss.Metric`; None for the largest relative L2 of an output.

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
    precision: str = EXACT
    calibration: Any = None
    max_loss: float = 0.01
    metric: Metric | None = None

    def __post_init__(self) -> None:
        if self.copies is not None:
            check_count("copies", self.copies)
        if self.threads is not None:
            check_count("threads", self.threads)
        check_tolerance(self.tolerance)
        check_precision(self.precision, PRECISIONS)
        check_max_loss(self.max_loss)
        if self.metric is not None and not callable(self.metric):
            raise InputError(f"metric is {type(self.metric).__name__}; give a callable (expected, actual) -> loss, or None")
        if self.precision == EXACT and (self.calibration is not None or self.metric is not None):
            raise InputError(
                "calibration and metric measure what rounding loses; give precision int8, int4, bfloat16 or auto with them"
            )
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
        Where outputs differ from the original model's by more than the tolerance, or rounding loses more than the budget; no
        module is returned then.
    EnvironmentFaultError
        Where the installation is known not to work, or has a GPU and nothing to compile for it with.
    """
    started = time.monotonic()
    environment.require_working_tvm()
    target = parse_target(options.target)
    if is_gpu(target):
        toolchain.choose(target)
    threads = options.threads or cores()
    tuned = TunedSchedules.of(target, threads, options.logs)

    def selector_of(precision: PrecisionOf | None) -> KernelSelector:
        return KernelSelector.of(target, threads, options.kernels, options.copies, precision)

    data, what, choice = _choose(imported, options, selector_of, threads)
    selector, given = selector_of(choice.of), imported
    imported = choice.apply(imported)
    lowered, executable = _build(imported, target, selector, tuned, options.progress, choice.attention_precision)
    selector.check_all_used()
    runs = runs_here(target)
    report = replace(report_of(lowered, lowered.calls, selector, tuned, imported.origins), left=tuple(imported.left))
    if options.precision != EXACT:
        report = replace(report, precision=precision_report(report, choice, options.max_loss, what))
    facts = ModuleMetadata(
        entry_points={
            name: EntryPointSpec.of(entry, places_of(lowered.weights, name)) for name, entry in imported.entry_points.items()
        },
        report=report,
        target=str(target),
        features=tuple(sorted(required_features(target))),
        threads=threads,
        source=imported.source,
        versions=environment.versions(),
        generation=imported.generation,
    )
    weights = [_own(weight, given) for weight in lowered.weights]
    module = module_class(facts)(executable, [(w.name, w.tensor) for w in weights], facts, runnable=runs)
    module.variables = lowered.variables
    if runs:
        rounds = options.precision != EXACT
        if rounds:
            module = with_losses(module, data, Budget(options.max_loss, options.metric), choice)
        taken = time.monotonic() - started
        module.with_checks(check(module, imported, options.tolerance, taken, options.max_loss if rounds else None))
    module.self_tests = self_tests(module, given, options.tolerance, max(rounding_of(module), _off_alone(module)))
    return module


def _off_alone(module: CompiledModule) -> float:
    """Return how far a value of a rounded model may be off, relative to the largest: several times the norm that was measured."""
    said = module.report.precision
    return 0.0 if said is None else ALONE * max((loss.relative_l2 for loss in said.losses), default=0.0)


def _choose(
    imported: ImportedModel, options: CompileOptions, selector: Callable[[PrecisionOf | None], KernelSelector], threads: int
) -> tuple[dict[str, Data], str, Choice]:
    """Return the data that losses are measured on, what it is in words, and how the layers round."""
    if options.precision == EXACT:
        return {}, "", Choice()
    if options.progress is not None:
        options.progress("what rounding loses is measured")
    data, what = data_of(imported, options.calibration)
    with _failures(imported.source):
        budget = Budget(options.max_loss, options.metric)
        return data, what, choose(imported, options.precision, data, budget, selector, threads)


def _build(
    imported: ImportedModel,
    target: tvm.target.Target,
    selector: KernelSelector,
    tuned: TunedSchedules,
    progress: Callable[[str], None] | None,
    attention: str,
) -> tuple[Lowered, Any]:
    """Return an imported model lowered, and the executable of it; raises ModelError if TVM cannot."""
    lowered = _lower(imported, target, selector, tuned, progress, attention=attention)
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
    attention: str = EXACT,
) -> Lowered:
    """Return an imported model lowered; raises ModelError if TVM cannot."""
    names, ranges, sizes = imported.weight_names, imported.ranges, imported.sizes
    donated = {name: entry.donated_places for name, entry in imported.entry_points.items()}
    with _failures(imported.source), _machine(target):
        return lower(
            imported.mod,
            target,
            selector,
            names,
            ranges,
            tuned,
            progress=progress,
            sizes=sizes,
            pack=pack,
            donated=donated,
            experts=imported.experts,
            attention=attention,
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
    own = tvm.runtime.tensor(view(weight.tensor))
    release(view(weight.tensor))
    return replace(weight, tensor=own)


@quiet_tvm()
def inspect_imported(imported: ImportedModel, options: CompileOptions) -> Report:
    """Return what `compile_imported` would do with each layer, without compiling; raises alike.

    With a precision that rounds: what it would do if every layer kept the budget, for nothing is run.
    """
    environment.require_working_tvm()
    target = parse_target(options.target)
    threads = options.threads or cores()
    selector = KernelSelector.of(target, threads, options.kernels, options.copies, everywhere(options.precision))
    tuned = TunedSchedules.of(target, threads, options.logs)
    attention = EXACT if options.precision == EXACT else "bfloat16"
    lowered = _lower(imported, target, selector, tuned, options.progress, pack=False, attention=attention)
    selector.check_all_used()
    return report_of(lowered, calls_in(lowered.mod), selector, tuned, imported.origins)
