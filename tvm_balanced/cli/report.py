"""`tvm-balanced report`: a page about a model or an artifact."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvm_balanced.cli.console import out, print_json, step
from tvm_balanced.cli.model import Batch, DynamicBatch, Json, Length, Masks, Precision, Threads, Weights, import_model
from tvm_balanced.core.files import require_writable
from tvm_balanced.errors import InputError

if TYPE_CHECKING:
    from tvm_balanced.core.encoding import Array
    from tvm_balanced.core.imported_model import Eager
    from tvm_balanced.pages.report import EntryPointTimes
    from tvm_balanced.runtime.compiled_module import CompiledModule

# A module, inputs to time each entry point with, and the original model's calls
Found = tuple["CompiledModule", Mapping[str, Sequence["Array"]], Mapping[str, "Eager"]]


def report(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="An artifact, or any MODEL that compile takes, which is then compiled."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, a .html file; one that is there is replaced.")],
    threads: Threads = None,
    weights: Weights = None,
    masks: Masks = None,
    dynamic_batch: DynamicBatch = False,
    batch: Batch = None,
    length: Length = None,
    precision: Precision = "float32",
    repeat: Annotated[int, typer.Option(min=1, help="Number of timed calls.")] = 20,
    json: Json = False,
) -> None:
    """Write a page about MODEL: its layers and verdicts, where its time goes beside PyTorch, and what its zeros look like."""
    check_page(output)
    with step("starting"):
        from tvm_balanced.pages.report import write_report_page
        from tvm_balanced.runtime.manifest import NAME

    if (Path(model) / NAME).is_file():
        if any((weights, masks, dynamic_batch, batch, length)) or precision != "float32":
            raise InputError(f"{model} is an artifact, which is timed as it is; leave out the options of compile")
        module, inputs, eager = _load(Path(model), threads)
    else:
        request = (model, weights, dynamic_batch, masks, batch, length)
        module, inputs, eager = _compile(request, threads, precision)
    with step("timing"):
        times = _times(module, inputs, eager, repeat)
    write_report_page(module, times, Path(model).name, output)
    if json:
        profiles = {one.name: one.profile.to_json() | {"eager": dict(one.eager)} for one in times}
        print_json({"page": str(output), "profiles": profiles, "report": module.report.to_json(corners=False)})
    else:
        out.print(f"wrote {output}", highlight=False, soft_wrap=True)


def check_page(output: Path) -> None:
    """Raise BadParameter unless `output` is the name of a page; raises ArtifactError if it cannot be written."""
    if output.suffix != ".html" or output.is_dir():
        raise typer.BadParameter(f"{output} is no .html file", param_hint="--output")
    require_writable(output, folder=True)


def _load(path: Path, threads: int | None) -> Found:
    with step("loading"):
        from tvm_balanced.runtime.load import load
        from tvm_balanced.runtime.self_test import stored_inputs

        module, inputs = load(path, threads), stored_inputs(path)
    missing = sorted(set(module.facts.entry_points) - set(inputs))
    if missing:
        raise InputError(f"{path} stores no inputs of {missing[0]} to time it with; compile the model again")
    return module, inputs, {}


def _compile(request: tuple[Any, ...], threads: int | None, precision: str) -> Found:
    with step("importing"):
        from tvm_balanced.compiler.compile import CompileOptions, compile_imported
        from tvm_balanced.timing.race import race

        imported = import_model(*request)
    with step("compiling and checking against the original") as update:
        options = CompileOptions(threads=threads, precision=precision, progress=lambda phase: update(f"compiling: {phase}"))
        module = compile_imported(imported, options)
    with step("timing beside PyTorch"):
        race(module, imported)
    eager = {name: entry.eager for name, entry in imported.entry_points.items() if entry.eager is not None}
    return module, {name: entry.examples for name, entry in imported.entry_points.items()}, eager


def _times(
    module: "CompiledModule", inputs: "Mapping[str, Sequence[Array]]", eager: "Mapping[str, Eager]", repeat: int
) -> "list[EntryPointTimes]":
    from tvm_balanced.pages.report import EntryPointTimes

    def of(name: str) -> EntryPointTimes:
        profile = module[name].profile(*inputs[name], rounds=repeat)
        if name not in eager:
            return EntryPointTimes(name, profile)
        from tvm_balanced.frontend.eager import operator_times

        return EntryPointTimes(name, profile, operator_times(eager[name], module.threads, repeat))

    return [of(name) for name in module.facts.entry_points]
