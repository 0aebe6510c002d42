"""`tvm-balanced allocate`: a pattern for each layer, so that the least is lost in a given time."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from tvm_balanced.cli.console import out, print_json, step
from tvm_balanced.cli.model import Factory, Json, Target, Threads, Weights, load_batches, load_module, require_factory
from tvm_balanced.cli.prune import NEEDS_MODULE
from tvm_balanced.core.files import replace_file, require_writable
from tvm_balanced.errors import ArtifactError


def allocate(
    model: Factory,
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            help="package.module:callable that yields batches for the model, a .npz file, or a .txt file for a folder of "
            "transformers.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .json file, which tvm-balanced prune takes as PATTERN.")],
    speedup: Annotated[
        float | None, typer.Option("--speedup", help="How many times as fast as dense the layers should be together.")
    ] = None,
    sparsity: Annotated[float | None, typer.Option("--sparsity", help="The share of zeros instead, for instance 0.75.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Layers to prune, as for prune.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Layers to leave dense; may be given several times.")] = None,
    weights: Weights = None,
    target: Target = "cpu",
    threads: Threads = None,
    loss: Annotated[
        str,
        typer.Option("--loss", help="What a layer loses of the model's output, or of the layer's, which is faster."),
    ] = "output",
    json: Json = False,
) -> None:
    """Choose a pattern for each layer of FACTORY's module by the times of the kernels and what SparseGPT would lose."""
    if output.suffix != ".json":
        raise typer.BadParameter(f"{output} must end in .json", param_hint="--output")
    require_writable(output)
    require_factory(model, NEEDS_MODULE)
    with step("loading"):
        from tvm_balanced.frontend.pruning.allocate import allocate as run

        module, _ = load_module(model, weights)
        batches = load_batches(calibration, model)
    with step("measuring what layers lose") as show:
        names = (tuple(include or ("*",)), tuple(exclude or ()))
        found = run(
            module,
            batches,
            speedup,
            sparsity,
            *names,
            target,
            threads,
            lambda at: show(f"measuring what layers lose, {at}"),
            loss,
        )
    result = {
        "patterns": {name: str(pattern) for name, pattern in found.items()},
        "speedup": found.speedup,
        "sparsity": found.sparsity,
        "lost": found.lost,
    }
    _write(output, result)
    if json:
        print_json(result)
    else:
        out.print(str(found), highlight=False, soft_wrap=True)
        out.print(f"wrote {output}", highlight=False, soft_wrap=True)


def _write(output: Path, result: Any) -> None:
    try:
        replace_file(output, (json_module.dumps(result, indent=1) + "\n").encode())
    except OSError as error:
        raise ArtifactError(f"{output} cannot be written ({error.strerror or error}); choose another place") from None
