"""`tvm-balanced prune`: one-shot pruning of a model's layers, written to a file for compile."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tvm_balanced.cli.console import out, print_json, step
from tvm_balanced.cli.model import (
    Calibration,
    DynamicBatch,
    Factory,
    Json,
    Output,
    Weights,
    check_output,
    load_batches,
    load_module,
    require_factory,
    write_model,
)
from tvm_balanced.core.files import parse_json
from tvm_balanced.errors import PatternError

NEEDS_MODULE = "its layers are no longer modules that can be pruned"


def prune(
    model: Factory,
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN",
            help="NNZ:BLOCK, for instance 2:16 to keep 2 of every 16, or '4:16 within 2:4'; or the .json file of a "
            "pattern for each layer that tvm-balanced allocate wrote. unstructured:0.75, block8x8:0.75 and vector8:0.75 are "
            "there to be compared with.",
        ),
    ],
    output: Output,
    include: Annotated[
        list[str] | None,
        typer.Option(help='Layers to prune, by name; * and ? as in a shell; may be given several times. Default "*".'),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Layers to leave dense; may be given several times.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="magnitude, wanda or sparsegpt; by default sparsegpt if there are calibration data, else magnitude."),
    ] = None,
    calibration: Calibration = None,
    weights: Weights = None,
    dynamic_batch: DynamicBatch = False,
    json: Json = False,
) -> None:
    """Prune the layers of FACTORY's module to PATTERN, and write the pruned model."""
    from dataclasses import asdict

    patterns = _patterns(pattern)
    check_output(output, model)
    require_factory(model, NEEDS_MODULE)
    with step("loading"):
        from tvm_balanced.frontend.pruning.prune import prune as prune_module

        module, args = load_module(model, weights, 2 if dynamic_batch else 1)  # torch takes a size of 1 as a constant
        batches = None if calibration is None else load_batches(calibration, model)
    with step("pruning") as show:
        report = prune_module(
            module,
            patterns,
            tuple(include or ("*",)),
            tuple(exclude or ()),
            method,
            batches,
            progress=lambda at: show(f"pruning {at}"),
        )
    with step(f"writing {output}"):
        write_model(model, module, args, output, dynamic_batch)
    if json:
        parts = {part: [asdict(row) for row in getattr(report, part)] for part in ("layers", "skipped")}
        print_json({"pattern": pattern, "method": report.method, "sparsity": report.sparsity, **parts})
    else:
        out.print(str(report), highlight=False, soft_wrap=True)
        out.print(f"wrote {output}", highlight=False, soft_wrap=True)


def _patterns(pattern: str) -> Any:
    """Return a pattern, or the mapping of layers to patterns that a file holds; raises BadParameter or PatternError."""
    from tvm_balanced.frontend.pruning.structures import parse_structure

    if not pattern.endswith(".json"):
        return parse_structure(pattern)
    try:
        found = parse_json(Path(pattern).read_bytes())
        return {str(name): parse_structure(str(text)) for name, text in found["patterns"].items()}
    except PatternError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise typer.BadParameter(
            f"{pattern} is no file of tvm-balanced allocate ({type(error).__name__}); write it again",
            param_hint="PATTERN",
        ) from None
