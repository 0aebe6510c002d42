"""`tvm-balanced inspect`: every operator with weights, its zeros, and the kernel that compile would choose."""

from tvm_balanced.cli.console import print_json, print_lines, print_table, step
from tvm_balanced.cli.model import (
    Batch,
    Copies,
    DynamicBatch,
    Json,
    Kernel,
    Length,
    Logs,
    Masks,
    Model,
    NoLogs,
    Precision,
    Target,
    Threads,
    Weights,
    forced,
    import_model,
    signatures,
)


def inspect(
    model: Model,
    target: Target = "cpu",
    threads: Threads = None,
    weights: Weights = None,
    masks: Masks = None,
    dynamic_batch: DynamicBatch = False,
    batch: Batch = None,
    length: Length = None,
    kernel: Kernel = None,
    copies: Copies = None,
    precision: Precision = "float32",
    logs: Logs = None,
    no_logs: NoLogs = False,
    json: Json = False,
) -> None:
    """Show each operator of MODEL that has weights: its zeros, their pattern, the kernel it would run on, and why."""
    overrides = forced(kernel)
    with step("importing"):
        from tvm_balanced.compiler.compile import CompileOptions, inspect_imported

        imported = import_model(model, weights, dynamic_batch, masks, batch, length)
    with step("counting zeros"):
        options = CompileOptions(
            target=target,
            threads=threads,
            kernels=overrides,
            logs=False if no_logs else logs,
            copies=copies,
            precision=precision,
        )
        report = inspect_imported(imported, options)
    if json:
        print_json(report.to_json(corners=False))
    else:
        print_table(report.title, report.header, report.cells())
        print_lines(signatures(imported.entry_points))
