"""`tvm-balanced prune`: one-shot pruning of a model's linear layers, written to a file for compile."""

from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.console import out, print_json, step
from tvm_balanced.cli.model import DynamicBatch, Factory, Json, Weights, batch_dimension, load_module, one_entry, require_factory
from tvm_balanced.core.pattern import BalancedPattern

SUFFIXES = (".pt2", ".safetensors")


def prune(
    model: Factory,
    pattern: Annotated[str, typer.Argument(help="NNZ:BLOCK, for instance 2:16 to keep 2 of every 16.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .pt2 file (model and weights), or .safetensors (weights alone).")
    ],
    include: Annotated[
        list[str] | None,
        typer.Option(help='Layers to prune, by name; * and ? as in a shell; may be given several times. Default "*".'),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Layers to leave dense; may be given several times.")] = None,
    weights: Weights = None,
    dynamic_batch: DynamicBatch = False,
    json: Json = False,
) -> None:
    """Prune the linear layers of FACTORY's module to PATTERN by magnitude, and write the pruned model."""
    from dataclasses import asdict

    parsed = BalancedPattern.parse(pattern)
    if output.suffix not in SUFFIXES:
        raise typer.BadParameter(f"{output} must end in .pt2 or .safetensors", param_hint="--output")
    require_factory(model, "its layers are no longer modules that can be pruned")
    with step("loading"):
        from tvm_balanced.frontend.pruning.magnitude import prune as prune_module

        module, args = load_module(model, weights)
    with step("pruning"):
        report = prune_module(module, parsed, tuple(include or ("*",)), tuple(exclude or ()))
    with step(f"writing {output}"):
        if output.suffix == ".safetensors":
            from tvm_balanced.frontend.state_dict import save_weights

            save_weights(module, output)
        else:
            from tvm_balanced.frontend.module import export, plain_copy
            from tvm_balanced.frontend.pt2 import save_pt2

            args = one_entry(model, args, "a .pt2 file")
            save_pt2(
                export(plain_copy(module), args, dynamic_shapes=batch_dimension(args) if dynamic_batch else None),
                output,
            )
    if json:
        parts = {part: [asdict(row) for row in getattr(report, part)] for part in ("layers", "skipped")}
        print_json({"pattern": str(parsed), "sparsity": report.sparsity, **parts})
    else:
        out.print(str(report), highlight=False, soft_wrap=True)
        out.print(f"wrote {output}", highlight=False, soft_wrap=True)
