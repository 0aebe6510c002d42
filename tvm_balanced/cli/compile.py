"""`tvm-balanced compile`: from MODEL to an artifact."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvm_balanced.cli.console import out, print_json, print_lines, print_table, step
from tvm_balanced.cli.model import (
    TARGET_HELP,
    Batch,
    Calibration,
    Copies,
    DynamicBatch,
    Json,
    Kernel,
    Length,
    Logs,
    Masks,
    MaxLength,
    Model,
    NoLogs,
    Precision,
    Threads,
    Weights,
    forced,
    import_model,
    load_batches,
    signatures,
)
from tvm_balanced.core.files import require_free, require_writable
from tvm_balanced.errors import InputError

if TYPE_CHECKING:
    from tvm_balanced.core.imported_model import ImportedModel
    from tvm_balanced.runtime.compiled_module import CompiledModule


def compile(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="The artifact: a directory that does not exist yet.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help=f"{TARGET_HELP} May be given several times: a machine loads the first that it can run."),
    ] = None,
    threads: Threads = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest allowed difference to the original model, relative to the largest value of an output (or 1); by "
            "default it follows from dtypes and depth."
        ),
    ] = None,
    weights: Weights = None,
    masks: Masks = None,
    dynamic_batch: DynamicBatch = False,
    batch: Batch = None,
    length: Length = None,
    max_length: MaxLength = None,
    kernel: Kernel = None,
    copies: Copies = None,
    precision: Precision = "float32",
    calibration: Calibration = None,
    max_loss: Annotated[
        float, typer.Option("--max-loss", help="How much of its norm an output may lose by rounding, with --precision.")
    ] = 0.01,
    cc: Annotated[str | None, typer.Option(help="Linker for another target, for instance aarch64-linux-gnu-gcc.")] = None,
    logs: Logs = None,
    no_logs: NoLogs = False,
    no_race: Annotated[bool, typer.Option("--no-race", help="Do not time the module beside PyTorch.")] = False,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="Leave what PyTorch computes faster to it at run time, where the module is slower.")
    ] = False,
    json: Json = False,
) -> None:
    """Compile MODEL, check it against the original, and write the artifact."""
    overrides, variants = forced(kernel), target or ["cpu"]
    if fallback and no_race:
        raise InputError("--fallback needs the race with PyTorch; leave --no-race out")
    require_free(output)  # now, rather than after the work
    require_writable(output, folder=True)
    with step("importing"):
        from tvm_balanced.compiler.compile import CompileOptions, compile_imported
        from tvm_balanced.compiler.targets import parse_target
        from tvm_balanced.frontend.fallback import compile_with_fallback
        from tvm_balanced.runtime.artifact import save, variant_names
        from tvm_balanced.timing.race import race

        variant_names([parse_target(name) for name in variants])
        imported_anew = partial(import_model, model, weights, dynamic_batch, masks, batch, length, max_length)
        imported = imported_anew()
        batches = None if calibration is None else load_batches(calibration, model, _shape_of_ids(imported))
    modules = []
    for name in variants:
        with step(f"compiling for {name} and checking against the original") as update:
            options = CompileOptions(
                target=name,
                threads=threads,
                tolerance=tolerance,
                kernels=overrides,
                logs=False if no_logs else logs,
                copies=copies,
                precision=precision,
                calibration=batches,
                max_loss=max_loss,
                progress=partial(_show, update, name),
            )
            if fallback:
                modules.append(compile_with_fallback(imported_anew, partial(compile_imported, options=options)))
                continue
            modules.append(compile_imported(imported, options))
        if not no_race and any(entry.eager for entry in imported.entry_points.values()):
            with step(f"timing the module for {name} beside PyTorch"):
                race(modules[-1], imported)
    with step(f"writing {output}"):
        save(modules, output, cc)
    if json:
        found = [_json(module) for module in modules]
        print_json({"artifact": str(output), **(found[0] if len(found) == 1 else {"variants": found})})
        return
    for module in modules:
        _print(module, f"{module.facts.target_key}: " if len(modules) > 1 else "")
    out.print(f"wrote {output}", highlight=False, soft_wrap=True)


def _shape_of_ids(imported: "ImportedModel") -> tuple[int, int] | None:
    """Return the (rows, tokens) of a model that is called with token ids, None of another; 1 for a size that varies."""
    ids = [spec.shape for entry in imported.entry_points.values() for spec in entry.inputs if spec.name == "input_ids"]
    if not ids or len(ids[0]) != 2:
        return None
    rows, tokens = (size if isinstance(size, int) else 1 for size in ids[0])
    return rows, tokens


def _json(module: "CompiledModule") -> dict[str, Any]:
    facts = module.facts
    return {
        "target": facts.target_key,
        "max_error": facts.max_error,
        "checks": [asdict(check) for check in facts.checks],
        **facts.report.to_json(corners=False),
    }


def _print(module: "CompiledModule", which: str) -> None:
    report, error = module.report, module.facts.max_error
    print_table(which + report.title, report.header, report.cells())
    checked = (
        "not run: the target is another machine"
        if error is None
        else f"largest difference to the original model {error:.1e}, on {_checked_on(module)}"
    )
    print_lines([checked, *signatures(module.facts.entry_points)])


def _checked_on(module: "CompiledModule") -> str:
    return ", ".join(dict.fromkeys(f"{check.inputs}{' (not counted)' if check.note else ''}" for check in module.facts.checks))


def _show(update: Callable[[str], None], target: str, phase: str) -> None:
    update(f"compiling for {target}: {phase}")
