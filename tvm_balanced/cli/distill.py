"""`tvm-balanced distill`: trains a pruned model to do what the dense one does."""

from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.console import out, print_json, step
from tvm_balanced.cli.model import (
    DynamicBatch,
    Factory,
    Json,
    Output,
    check_output,
    load_batches,
    load_module,
    require_factory,
    write_model,
)


def distill(
    model: Factory,
    pruned: Annotated[
        Path,
        typer.Argument(
            metavar="PRUNED", help="Weights of the pruned model, as prune -o NAME.safetensors or a folder writes them."
        ),
    ],
    batches: Annotated[
        str,
        typer.Option(
            "--batches",
            help="Data to train with: package.module:callable that yields batches, a .npz file, or a .txt file for a folder of "
            "transformers.",
        ),
    ],
    output: Output,
    minutes: Annotated[float, typer.Option(min=0, help="Budget of minutes, those of a run that is resumed included.")] = 10.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget of steps instead of minutes.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Written every minute and after Ctrl-C; the same command goes on from it.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at most.")] = 3e-4,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16: faster on CPUs with AVX512-BF16 or AMX, and on GPUs.")
    ] = "float32",
    dynamic_batch: DynamicBatch = False,
    json: Json = False,
) -> None:
    """Train the weights of PRUNED to do what FACTORY's dense module does; what is pruned stays zero."""
    check_output(output, model)
    require_factory(model, "it can no longer be trained")
    with step("loading"):
        from tvm_balanced.frontend.pruning.distill import distill as run

        teacher, _ = load_module(model, None)
        student, args = load_module(model, pruned, 2 if dynamic_batch else 1)
        data = load_batches(batches, model)
    with step("distilling") as show:
        told = lambda at: show(f"distilling: {at}")  # noqa: E731
        done = run(student, teacher, data, minutes, steps, learning_rate, checkpoint, told, precision)
    with step(f"writing {output}"):
        write_model(model, student, args, output, dynamic_batch)
    if json:
        print_json({"steps": done.steps, "seconds": done.seconds, "first_loss": done.first_loss, "last_loss": done.last_loss})
    else:
        out.print(str(done), highlight=False, soft_wrap=True)
        out.print(f"wrote {output}", highlight=False, soft_wrap=True)
