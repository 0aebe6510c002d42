"""`tvm-balanced compile`: from MODEL to an artifact."""

from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.console import out, print_json, print_table, step
from tvm_balanced.cli.model import (
    Copies,
    DynamicBatch,
    Json,
    Kernel,
    Logs,
    Model,
    NoLogs,
    Target,
    Threads,
    Weights,
    forced,
    import_model,
)


def compile(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="The artifact: a directory that does not exist yet.")],
    target: Target = "cpu",
    threads: Threads = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest allowed difference to PyTorch, relative to the largest output (or 1). Default 1e-4 for float32."
        ),
    ] = None,
    weights: Weights = None,
    dynamic_batch: DynamicBatch = False,
    kernel: Kernel = None,
    copies: Copies = None,
    cc: Annotated[str | None, typer.Option(help="Linker for another target, for instance aarch64-linux-gnu-gcc.")] = None,
    logs: Logs = None,
    no_logs: NoLogs = False,
    json: Json = False,
) -> None:
    """Compile MODEL, check it against PyTorch, and write the artifact."""
    overrides = forced(kernel)
    with step("importing"):
        from tvm_balanced.directory import require_free

        require_free(output)  # now, rather than after the work
        from tvm_balanced.compiler import Options, compile_imported

        imported = import_model(model, weights, dynamic_batch)
    with step("compiling and checking against PyTorch"):
        module = compile_imported(imported, Options(target, threads, tolerance, overrides, False if no_logs else logs, copies))
    with step(f"writing {output}"):
        module.save(output, cc)
    report, error = module.report, module.facts.max_error
    if json:
        print_json({"artifact": str(output), "max_error": error, "layers": report.to_json()})
        return
    print_table(report.title, report.header, report.cells())
    checked = (
        "not run: the target is another machine"
        if error is None
        else f"largest difference to PyTorch on the example inputs {error:.1e}"
    )
    out.print(f"{checked}\nwrote {output}", highlight=False, soft_wrap=True)
