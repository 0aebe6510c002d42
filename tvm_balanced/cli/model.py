"""The arguments MODEL (a .pt2 file or package.module:factory) and FACTORY (only the latter)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvm_balanced.cli.console import err
from tvm_balanced.errors import InputError

if TYPE_CHECKING:
    from tvm_balanced.core.imported_model import ImportedModel

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .pt2 file of torch.export.save, or package.module:factory, which returns (module, example inputs), or "
        "(module, entry points).",
    ),
]
Factory = Annotated[
    str,
    typer.Argument(metavar="FACTORY", help="package.module:factory, a callable that returns (module, example inputs)."),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights for a factory's module: .safetensors, or a state dict from torch.save."),
]
DynamicBatch = Annotated[
    bool,
    typer.Option(
        "--dynamic-batch", help="Let the first dimension of every input vary from call to call (only for a factory's module)."
    ),
]
Target = Annotated[
    str,
    typer.Option("--target", help="cpu is this machine; cpu/NAME another CPU by LLVM's name; or a TVM target as JSON."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of a call; all cores by default.")]
Kernel = Annotated[
    list[str] | None,
    typer.Option(
        "--kernel",
        metavar="LAYERS=KERNEL",
        help='Force a kernel on layers, for instance "encoder.*=cpu_portable"; may be given several times.',
    ),
]
Copies = Annotated[
    int | None,
    typer.Option(
        "--copies",
        min=1,
        help="Maximum number of kernels, each with a copy of the weight, for a layer whose number of rows varies between calls.",
    ),
]
Logs = Annotated[
    Path | None,
    typer.Option("--logs", help="Folder of tuning logs that precede the shipped ones; by default the folder that tune writes."),
]
NoLogs = Annotated[bool, typer.Option("--no-logs", help="Use the default schedules of all kernels.")]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        help="Data that sparsegpt and wanda need: package.module:callable that yields batches of what the model is called with, "
        "or a .npz file with an array of samples for each argument.",
    ),
]
WRITABLE = (".pt2", ".safetensors")
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def is_file(model: str) -> bool:
    """Whether MODEL names a file rather than a factory."""
    return model.endswith(".pt2") or ":" not in model


def require_factory(model: str, why: str) -> None:
    """Raise BadParameter, with the reason, if FACTORY is a file."""
    if model.endswith(".pt2"):
        raise typer.BadParameter(f"{model} is an exported program; {why}: give package.module:factory", param_hint="FACTORY")
    if is_file(model):
        raise typer.BadParameter(f'"{model}" is not of the form package.module:factory', param_hint="FACTORY")


def load_module(model: str, weights: Path | None) -> tuple[Any, Any]:
    """Return a factory's (torch module, example arguments or entry points), with `weights` loaded; raises ModelError."""
    from tvm_balanced.frontend.factory import load_factory
    from tvm_balanced.frontend.state_dict import load_weights

    module, args = load_factory(model)
    if weights is not None:
        for recognised in load_weights(module, weights):
            err.print(f"{weights}: {recognised}", markup=False, highlight=False, soft_wrap=True)
    return module, args


def load_batches(source: str | None) -> list[Any] | None:
    """Return batches of what the model is called with, None if none were asked for; raises InputError or ModelError."""
    if source is None:
        return None
    from tvm_balanced.frontend.pruning.calibration_files import load_batches as load

    return load(source)


def check_output(output: Path) -> None:
    """Raise BadParameter unless a model can be written to `output`."""
    if output.suffix not in WRITABLE:
        raise typer.BadParameter(f"{output} must end in .pt2 or .safetensors", param_hint="--output")


def write_model(model: str, module: Any, args: Any, output: Path, dynamic_batch: bool) -> None:
    """Write a factory's module, whose example arguments are `args`, as a .pt2 file, or its weights alone."""
    if output.suffix == ".safetensors":
        from tvm_balanced.frontend.state_dict import save_weights

        save_weights(module, output)
        return
    from tvm_balanced.frontend.module import export, plain_copy
    from tvm_balanced.frontend.pt2 import save_pt2

    args = one_entry(model, args, "a .pt2 file")
    save_pt2(export(plain_copy(module), args, dynamic_shapes=batch_dimension(args) if dynamic_batch else None), output)


def import_model(model: str, weights: Path | None = None, dynamic_batch: bool = False) -> "ImportedModel":
    """Import MODEL; raises ModelError, also if an option does not apply to a .pt2 file."""
    from tvm_balanced.errors import ModelError
    from tvm_balanced.frontend.entry_points import import_entry_points
    from tvm_balanced.frontend.module import import_module
    from tvm_balanced.frontend.pt2 import import_pt2

    if not is_file(model):
        module, args = load_module(model, weights)
        if isinstance(args, Mapping) and not dynamic_batch:
            return import_entry_points(module, args)
        args = one_entry(model, args, "--dynamic-batch")
        return import_module(module, args, dynamic_shapes=batch_dimension(args) if dynamic_batch else None)
    if weights is not None or dynamic_batch:
        raise ModelError(
            f"{model} already has its weights and shapes; --weights and --dynamic-batch go with package.module:factory",
            usage=True,
        )
    return import_pt2(model)


def one_entry(model: str, args: Any, what: str) -> tuple[Any, ...]:
    """Return a factory's example arguments; raises InputError if it returns entry points, which
    `what` does not support.
    """
    if isinstance(args, Mapping):
        raise InputError(f"{model} has entry points {', '.join(args)}; {what} goes with a factory that gives example inputs")
    examples: tuple[Any, ...] = args
    return examples


def batch_dimension(args: tuple[Any, ...]) -> tuple[dict[int, Any], ...]:
    """Return dynamic_shapes that make the first dimension of every argument one symbolic batch size."""
    import torch

    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in args)


def forced(kernel: list[str] | None) -> dict[str, str]:
    """Return --kernel options as a mapping; raises BadParameter if one has no "="."""
    pairs = [text.partition("=") for text in kernel or []]
    for layers, equals, name in pairs:
        if not (layers and equals and name):
            raise typer.BadParameter(f'"{layers}" is not of the form LAYERS=KERNEL', param_hint="--kernel")
    return {layers: name for layers, _, name in pairs}


def signatures(entry_points: Mapping[str, Any]) -> list[str]:
    """Return the inputs and outputs of each entry point, one line each, if there are several.

    Parameters
    ----------
    entry_points : mapping of ImportedFunction or EntryPointSpec
    """
    from tvm_balanced.core.imported_model import signature

    if len(entry_points) == 1:
        return []
    return [f"{name}: {signature(entry.inputs, entry.outputs)}" for name, entry in entry_points.items()]
